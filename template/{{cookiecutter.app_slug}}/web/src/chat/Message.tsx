import { getToolName, isToolUIPart } from "ai";
import { PenLine } from "lucide-react";
import { lazy, memo, Suspense, useState } from "react";
import { useMayWrite } from "../groups/useGroups";
import { cx } from "../lib/cx";
import { useGroup } from "../lib/place";
import { useSession } from "../session/session";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import { AnswerActions } from "./AnswerActions";
import { Attachment } from "./Attachment";
import { Reasoning } from "./Reasoning";
import { Sources } from "./Sources";
import { ToolCall } from "./ToolCall";
import type { ChatMessage, Citation } from "./types";
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

function UserMessage({ message, chat }: Props) {
  const { user } = useSession();
  const group = useGroup();
  const [editing, setEditing] = useState(false);
  const { written_by: writer, author } = message.metadata ?? {};
  const own = !group || writer === user.uid || !message.metadata; // what was just sent has none yet
  const text = message.parts.map((part) => (part.type === "text" ? part.text : "")).join("");
  const files = message.parts.filter((part) => part.type === "file");
  if (editing) return <Edit text={text} close={() => setEditing(false)} send={(next) => chat.edit(message.id, next)} />;
  return (
    <article aria-label={own ? texts.chat.you : author || texts.chat.member} className="group flex flex-col items-end gap-2">
      {!own && <p className="-mb-1 px-1 text-xs text-muted">{author || texts.chat.member}</p>}
      {files.length > 0 && (
        <div className="flex flex-wrap justify-end gap-2">
          {files.map((file, index) => (
            <Attachment key={index} url={file.url} name={file.filename ?? ""} mediaType={file.mediaType} />
          ))}
        </div>
      )}
      {text && (
        <div className="flex max-w-[90%] items-center gap-1">
          {own && !chat.running && (
            <Button
              variant="ghost"
              size="icon-sm"
              aria-label={texts.chat.edit}
              title={texts.chat.edit}
              onClick={() => setEditing(true)}
              className="text-muted md:opacity-0 md:group-hover:opacity-100 md:focus-visible:opacity-100"
            >
              <PenLine aria-hidden className="size-3.5" />
            </Button>
          )}
          <p className="min-w-0 rounded-2xl bg-hover px-4 py-2.5 whitespace-pre-wrap [overflow-wrap:anywhere]">{text}</p>
        </div>
      )}
    </article>
  );
}

function Edit(props: { text: string; close: () => void; send: (text: string) => void }) {
  const [text, setText] = useState(props.text);
  const submit = () => {
    if (!text.trim()) return;
    props.close();
    if (text !== props.text) props.send(text);
  };
  return (
    <form
      className="flex flex-col gap-2 rounded-2xl border bg-raised p-3"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <textarea
        autoFocus
        aria-label={texts.chat.edit}
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => event.key === "Escape" && props.close()}
        className="field-sizing-content min-h-16 resize-none bg-transparent px-1 outline-none"
      />
      <div className="flex justify-end gap-2">
        <Button size="sm" onClick={props.close}>
          {texts.cancel}
        </Button>
        <Button size="sm" variant="primary" type="submit">
          {texts.chat.editSend}
        </Button>
      </div>
    </form>
  );
}

const NO_CITATIONS: Citation[] = [];

function Answer({ message, chat, chatId, isLast }: Props) {
  const streaming = isLast && chat.running;
  const citations = message.metadata?.citations ?? NO_CITATIONS;
  const mayWrite = useMayWrite();
  return (
    <article aria-label={texts.chat.assistant} className="flex flex-col gap-3">
      {message.parts.map((part, index) => {
        if (part.type === "text") return <AnswerText key={index} text={part.text} citations={citations} streaming={streaming} />;
        if (part.type === "reasoning") {
          return <Reasoning key={index} text={part.text} open={streaming && index === message.parts.length - 1} />;
        }
        if (isToolUIPart(part)) return <ToolCall key={part.toolCallId} part={part} name={getToolName(part)} chat={chat} running={streaming} />;
        return null;
      })}
      {!streaming && <Sources parts={message.parts} citations={citations} />}
      {!streaming && mayWrite && <AnswerActions message={message} chat={chat} chatId={chatId} isLast={isLast} />}
    </article>
  );
}

const AnswerText = memo(function AnswerText(props: { text: string; citations: Citation[]; streaming: boolean }) {
  return (
    <div className={cx("prose", props.streaming && "streaming")}>
      <Suspense fallback={<p className="whitespace-pre-wrap">{props.text}</p>}>
        <Markdown text={props.text} citations={props.citations} />
      </Suspense>
    </div>
  );
});
