import { lazy, memo, Suspense } from "react";
import { cx } from "../lib/cx";
import { texts } from "../texts";
import type { ChatMessage } from "./types";
import type { ConversationState } from "./useConversation";

const Markdown = lazy(() => import("./Markdown"));

interface Props {
  message: ChatMessage;
  chat: ConversationState;
  chatId: string;
  isLast: boolean;
}

export function Message(props: Props) {
  return props.message.role === "user" ? <UserMessage {...props} /> : <Answer {...props} />;
}

function UserMessage({ message }: Props) {
  return (
    <article aria-label={texts.chat.you} className="flex flex-col items-end gap-2">
      {message.parts.map((part, index) =>
        part.type === "text" ? (
          <p key={index} className="max-w-[85%] rounded-2xl bg-hover px-4 py-2.5 whitespace-pre-wrap [overflow-wrap:anywhere]">
            {part.text}
          </p>
        ) : null,
      )}
    </article>
  );
}

function Answer({ message, chat, isLast }: Props) {
  const streaming = isLast && chat.running;
  return (
    <article aria-label={texts.chat.assistant} className="flex flex-col gap-3">
      {message.parts.map((part, index) => (part.type === "text" ? <AnswerText key={index} text={part.text} streaming={streaming} /> : null))}
    </article>
  );
}

const AnswerText = memo(function AnswerText({ text, streaming }: { text: string; streaming: boolean }) {
  return (
    <div className={cx("prose", streaming && "streaming")}>
      <Suspense fallback={<p className="whitespace-pre-wrap">{text}</p>}>
        <Markdown text={text} />
      </Suspense>
    </div>
  );
});
