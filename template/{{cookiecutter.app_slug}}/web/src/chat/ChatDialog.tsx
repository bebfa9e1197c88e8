import { type FormEvent, useState } from "react";
import { type Chat, useChats } from "../lib/chats";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import { Confirm } from "../ui/Confirm";
import { Dialog } from "../ui/Dialog";
import { Field } from "../ui/Field";

/** The dialog that renames a chat, or the one that deletes it. */
export default function ChatDialog(props: { kind: "rename" | "remove"; chat: Chat; close: () => void; removed: () => void }) {
  return props.kind === "rename" ? <RenameChat {...props} /> : <RemoveChat {...props} />;
}

function RenameChat({ chat, close }: { chat: Chat; close: () => void }) {
  const [title, setTitle] = useState(chat.title);
  const { change } = useChats();
  const [failed, setFailed] = useState<string | null>(null);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    change(chat.id, { title }).then(close, (error: Error) => setFailed(error.message));
  };
  return (
    <Dialog open close={close} title={texts.chats.renameTitle}>
      <form onSubmit={submit} className="flex flex-col gap-4">
        <Field label={texts.chats.name} value={title} error={failed} maxLength={200} onChange={(event) => setTitle(event.target.value)} />
        <div className="flex justify-end gap-2">
          <Button onClick={close}>{texts.cancel}</Button>
          <Button type="submit" variant="primary">
            {texts.save}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function RemoveChat({ chat, close, removed }: { chat: Chat; close: () => void; removed: () => void }) {
  const { remove } = useChats();
  const run = async () => {
    await remove(chat.id);
    removed();
  };
  return <Confirm title={texts.chats.remove} hint={texts.chats.removeHint} action={texts.remove} run={run} close={close} />;
}
