import { Check, Copy, Play, RefreshCw, ThumbsDown, ThumbsUp } from "lucide-react";
import { type FormEvent, type ReactNode, useState } from "react";
import type { Schemas } from "../api/client";
import { cx } from "../lib/cx";
import { count, money } from "../lib/format";
import { useGroup } from "../lib/place";
import { useCopy } from "../lib/useCopy";
import { useSession } from "../session/session";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Notice } from "../ui/Notice";
import type { ChatMessage } from "./types";
import type { ConversationState } from "./useConversation";

type Rating = Schemas["RatingBody"];

interface Props {
  message: ChatMessage;
  chat: ConversationState;
  chatId: string;
  isLast: boolean;
}

/** How an answer ended, what it cost, and what can be done with it. */
export function AnswerActions({ message, chat, chatId, isLast }: Props) {
  const { status, finish, usage } = message.metadata ?? {};
  const text = message.parts.map((part) => (part.type === "text" ? part.text : "")).join("");
  const [copied, copy] = useCopy(text);
  const waits = message.parts.some((part) => "state" in part && part.state === "approval-requested");
  const cut = isLast && status === "incomplete" && !waits;
  return (
    <>
      {cut && !chat.problem && (
        <Notice
          kind="warn"
          actions={
            finish !== "content_filter" && (
              <Button size="sm" onClick={() => void chat.goOn()}>
                <Play aria-hidden className="size-3.5" />
                {texts.chat.continue}
              </Button>
            )
          }
        >
          {ended(finish)}
        </Notice>
      )}
      {!waits && (
        <div className="-ml-2 flex flex-wrap items-center gap-0.5 text-muted">
          {text && <Action label={copied ? texts.copied : texts.copy} icon={copied ? <Check aria-hidden /> : <Copy aria-hidden />} run={copy} />}
          {text && <Rate message={message} chatId={chatId} />}
          <Action label={texts.chat.regenerate} icon={<RefreshCw aria-hidden />} disabled={chat.running} run={() => void chat.regenerate({ messageId: message.id })} />
          {usage && <Cost usage={usage} />}
        </div>
      )}
    </>
  );
}

function ended(finish: string | null | undefined): string {
  const known: Record<string, string> = texts.chat.finish;
  return finish ? known[finish] || texts.chat.finish.other : texts.chat.finish.stopped;
}

function Action(props: { label: string; icon: ReactNode; run: () => void; pressed?: boolean; disabled?: boolean }) {
  return (
    <Button
      variant="ghost"
      size="icon-sm"
      aria-label={props.label}
      aria-pressed={props.pressed}
      title={props.label}
      disabled={props.disabled}
      onClick={props.run}
      className={cx("[&>svg]:size-4", props.pressed && "text-accent [&>svg]:fill-current")}
    >
      {props.icon}
    </Button>
  );
}

function Cost({ usage }: { usage: Schemas["TurnUsage"] }) {
  const tokens = texts.chat.tokens(count(usage.input_tokens), count(usage.output_tokens));
  const notes = [tokens, usage.cheaper_model && texts.chat.cheaper, usage.cached && texts.chat.cached].filter(Boolean).join(". ");
  return (
    <span title={notes} className="ml-2 text-xs">
      <span className="sr-only">{texts.chat.details}: </span>
      {usage.model} · {money(usage.cost_micro_usd)}
      {usage.cheaper_model && ` · ${texts.chat.smaller}`}
    </span>
  );
}

function Rate({ message, chatId }: { message: ChatMessage; chatId: string }) {
  const { api } = useSession();
  const group = useGroup();
  const [value, setValue] = useState(message.metadata?.rating?.value ?? null);
  const [asking, setAsking] = useState(false);
  const ids = { id: chatId, message: message.id };
  const path = "/v1/chats/{id}/messages/{message}/rating";
  const rate = async (rating: Rating | null) => {
    const before = value;
    setValue(rating?.value ?? null);
    try {
      if (rating) await api.client.PUT(path, { params: { path: ids }, body: { ...rating, group } });
      else await api.client.DELETE(path, { params: { path: ids, query: { group } } });
    } catch {
      setValue(before);
    }
  };
  const press = (pressed: "up" | "down") => {
    if (pressed === value) return void rate(null);
    void rate({ value: pressed } as Rating);
    setAsking(pressed === "down");
  };
  return (
    <>
      <Action label={texts.chat.good} icon={<ThumbsUp aria-hidden />} pressed={value === "up"} run={() => press("up")} />
      <Action label={texts.chat.bad} icon={<ThumbsDown aria-hidden />} pressed={value === "down"} run={() => press("down")} />
      {asking && <Reason close={() => setAsking(false)} send={(reason, text) => rate({ value: "down", reason, text } as Rating)} />}
    </>
  );
}

function Reason(props: { close: () => void; send: (reason: string | null, text: string) => Promise<void> }) {
  const [reason, setReason] = useState<string | null>(null);
  const [text, setText] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void props.send(reason, text).then(props.close);
  };
  return (
    <Dialog open close={props.close} title={texts.chat.ratingTitle}>
      <form onSubmit={submit} className="flex flex-col gap-4">
        <div role="radiogroup" aria-label={texts.chat.ratingTitle} className="flex flex-wrap gap-2">
          {Object.entries(texts.chat.reasons).map(([name, label]) => (
            <label key={name} className="cursor-pointer rounded-full border px-3 py-1.5 text-sm select-none hover:bg-hover has-checked:border-accent has-checked:bg-accent-soft has-focus-visible:outline-2">
              <input type="radio" name="reason" value={name} checked={reason === name} onChange={() => setReason(name)} className="sr-only" />
              {label}
            </label>
          ))}
        </div>
        <textarea
          aria-label={texts.chat.ratingText}
          placeholder={texts.chat.ratingText}
          value={text}
          maxLength={1000}
          onChange={(event) => setText(event.target.value)}
          className="min-h-20 rounded-lg border bg-raised p-3 outline-none focus-visible:border-accent"
        />
        <div className="flex justify-end gap-2">
          <Button onClick={props.close}>{texts.cancel}</Button>
          <Button type="submit" variant="primary">
            {texts.chat.ratingSend}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
