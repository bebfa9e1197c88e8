import { ArrowDown } from "lucide-react";
import { lazy, Suspense, useCallback, useState } from "react";
import { body } from "../api/client";
import { useMayWrite } from "../groups/useGroups";
import { useChats } from "../lib/chats";
import { useGroup } from "../lib/place";
import { useStickToEnd } from "../lib/useStickToEnd";
import { useSession } from "../session/session";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";
import { Spinner } from "../ui/Spinner";
import { Composer } from "./Composer";
import type { ChatMessage } from "./types";
import { useConversation } from "./useConversation";

const Problem = lazy(async () => ({ default: (await import("./Problem")).Problem }));
const Message = lazy(async () => ({ default: (await import("./Message")).Message }));

interface Props {
  id: string;
  messages: ChatMessage[];
  /** Leads to earlier messages. */
  cursor: string | null;
  /** Called with the first message. */
  begun?: () => void;
}

/** One chat: its messages, and where to write the next one. */
export function Conversation(props: Props) {
  const { all, changed } = useChats();
  const mayWrite = useMayWrite();
  const [initial] = useState(props.messages);
  const listChanged = useCallback(() => void changed(), [changed]);
  const chat = useConversation(props.id, initial, props.begun, listChanged);
  const { list, end, atEnd, toEnd } = useStickToEnd(chat.messages);
  const title = all.find((each) => each.id === props.id)?.title || texts.chats.untitled;
  const empty = !chat.messages.length;
  const last = chat.messages.at(-1);
  const waiting = chat.running && (last?.role !== "assistant" || !last.parts.some((part) => part.type !== "step-start"));

  return (
    <div className="relative flex h-full flex-col">
      <header className="flex h-14 shrink-0 items-center justify-center px-14 md:justify-start md:px-6">
        <h1 className="truncate text-sm font-medium">{title}</h1>
      </header>
      <div ref={list} className="min-h-0 flex-1 overflow-y-auto" tabIndex={-1}>
        <div className="mx-auto flex w-full max-w-3xl flex-col gap-6 px-4 pb-8 md:px-6">
          {empty && mayWrite && <Greeting ask={(text) => void chat.send({ text })} />}
          <Earlier id={props.id} cursor={props.cursor} chat={chat} />
          <div role="log" aria-label={texts.chats.title} aria-busy={chat.running} className="flex flex-col gap-6">
            <Suspense>
              {chat.messages.map((message, index) => (
                <Message
                  key={message.id}
                  message={message}
                  chat={chat}
                  chatId={props.id}
                  isLast={index === chat.messages.length - 1}
                />
              ))}
            </Suspense>
          </div>
          {waiting && <Spinner label={texts.chat.waiting} />}
          {chat.lost && <Notice kind="warn">{texts.chat.reconnecting}</Notice>}
          <Suspense>{chat.problem && !chat.running && <Problem chat={chat} problem={chat.problem} />}</Suspense>
          <div ref={end} />
        </div>
      </div>
      <div className="relative mx-auto w-full max-w-3xl px-3 pb-[max(0.75rem,env(safe-area-inset-bottom))] md:px-6">
        {!atEnd && (
          <Button size="icon-sm" aria-label={texts.chat.toEnd} onClick={toEnd} className="absolute -top-11 left-1/2 -translate-x-1/2 rounded-full! shadow-md">
            <ArrowDown aria-hidden className="size-4" />
          </Button>
        )}
        {mayWrite && <Composer chat={chat} chatId={props.id} sent={toEnd} />}
        <p className="pt-2 text-center text-xs text-muted">{texts.chat.hint}</p>
      </div>
    </div>
  );
}

function Greeting({ ask }: { ask: (text: string) => void }) {
  const { config } = useSession();
  return (
    <div className="flex flex-col items-center gap-2 pt-[18vh] text-center">
      <h2 className="text-2xl font-semibold">{texts.chat.greeting}</h2>
      {config.app.description && <p className="max-w-md text-muted">{config.app.description}</p>}
      <div className="mt-6 flex max-w-xl flex-wrap justify-center gap-2">
        {config.suggestions.map((text) => (
          <Button key={text} size="sm" onClick={() => ask(text)} className="h-auto shrink rounded-full! py-1.5 text-left font-normal">
            {text}
          </Button>
        ))}
      </div>
    </div>
  );
}

function Earlier(props: { id: string; cursor: string | null; chat: ReturnType<typeof useConversation> }) {
  const { api } = useSession();
  const group = useGroup();
  const [cursor, setCursor] = useState(props.cursor);
  if (!cursor) return null;
  const load = async () => {
    const query = { limit: 50, cursor, group };
    const page = await body(api.client.GET("/v1/chat/{id}", { params: { path: { id: props.id }, query } }));
    props.chat.setMessages((messages) => [...(page.messages as ChatMessage[]), ...messages]);
    setCursor(page.next_cursor ?? null);
  };
  return (
    <Button size="sm" variant="ghost" onClick={() => void load()} className="self-center">
      {texts.chats.earlier}
    </Button>
  );
}
