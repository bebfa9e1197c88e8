import { ArrowUp, Square } from "lucide-react";
import { type FormEvent, type KeyboardEvent, useEffect, useRef } from "react";
import { useDraft } from "../lib/useDraft";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import type { ConversationState } from "./useConversation";

/** Whether Enter begins a new line, as on a keyboard that is on the screen. */
const ENTER_IS_A_LINE = matchMedia("(pointer: coarse)").matches;

/** Where the user writes. What is typed is kept until it is sent, also over a reload. */
export function Composer({ chat, chatId, sent }: { chat: ConversationState; chatId: string; sent: () => void }) {
  const [text, setText] = useDraft(chatId);
  const area = useRef<HTMLTextAreaElement>(null);
  const ready = !chat.running && !!text.trim();
  useEffect(() => {
    if (!ENTER_IS_A_LINE) area.current?.focus();
  }, []);
  const submit = (event?: FormEvent) => {
    event?.preventDefault();
    if (!ready) return;
    setText("");
    sent();
    void chat.send({ text });
  };
  const press = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || ENTER_IS_A_LINE || event.nativeEvent.isComposing) return;
    event.preventDefault();
    submit();
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-2 rounded-2xl border bg-raised p-2 shadow-sm focus-within:border-accent">
      <textarea
        ref={area}
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={press}
        aria-label={texts.chat.message}
        placeholder={texts.chat.placeholder}
        rows={1}
        className="field-sizing-content max-h-[40vh] min-h-10 w-full resize-none bg-transparent px-2.5 py-2 outline-none"
      />
      <div className="flex items-center justify-end gap-1">
        {chat.running ? (
          <Button key="stop" variant="primary" size="icon-sm" aria-label={texts.chat.stop} title={texts.chat.stop} onClick={() => void chat.stop()} className="rounded-full">
            <Square aria-hidden className="size-3 fill-current" />
          </Button>
        ) : (
          <Button key="send" type="submit" variant="primary" size="icon-sm" aria-label={texts.chat.send} title={texts.chat.send} disabled={!ready} className="rounded-full">
            <ArrowUp aria-hidden className="size-4.5" />
          </Button>
        )}
      </div>
    </form>
  );
}
