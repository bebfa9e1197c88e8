import { texts } from "../texts";
import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";
import type { ConversationState } from "./useConversation";

/** Why the latest message was not answered, and what the user can do. */
export function Problem({ chat }: { chat: ConversationState }) {
  if (!chat.problem) return null;
  return (
    <Notice
      kind="danger"
      actions={
        <Button size="sm" onClick={() => void chat.regenerate()}>
          {texts.retry}
        </Button>
      }
    >
      {chat.problem.message}
    </Notice>
  );
}
