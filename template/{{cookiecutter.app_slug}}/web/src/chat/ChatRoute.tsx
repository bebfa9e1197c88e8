import { useCallback, useEffect, useState } from "react";
import useSWR from "swr";
import { useLocation, useRoute } from "wouter";
import { body } from "../api/client";
import { ApiError } from "../api/errors";
import { useGroup } from "../lib/place";
import { useSession } from "../session/session";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import { Spinner } from "../ui/Spinner";
import { Conversation } from "./Conversation";
import type { ChatMessage } from "./types";

/** The chat that the address names, or a new one. A new chat gets its address with its first message. */
export function ChatRoute() {
  const [path, navigate] = useLocation();
  const [, params] = useRoute("/chats/:id");
  const [draft, setDraft] = useState(() => crypto.randomUUID());
  const id = params?.id ?? draft;
  useEffect(() => setDraft(crypto.randomUUID()), [path === "/"]);
  const begun = useCallback(() => navigate(`/chats/${id}`, { replace: true }), [id, navigate]);
  if (path !== "/" && !params) return <p className="p-16">{texts.notFound}</p>;
  return <Chat key={id} id={id} isNew={!params} begun={begun} />;
}

function Chat(props: { id: string; isNew: boolean; begun: () => void }) {
  const [wasNew] = useState(props.isNew);
  return wasNew ? <Conversation id={props.id} messages={[]} cursor={null} begun={props.begun} /> : <StoredChat id={props.id} />;
}

function StoredChat({ id }: { id: string }) {
  const { api } = useSession();
  const group = useGroup();
  const read = () => body(api.client.GET("/v1/chat/{id}", { params: { path: { id }, query: { limit: 50, group } } }));
  const { data, error, mutate } = useSWR(["chat", id, group], read, {
    revalidateOnFocus: false,
    revalidateOnReconnect: false,
    revalidateIfStale: true,
  });
  // Kept by the cache from an earlier visit, the messages may be old: wait for those of now.
  const [first] = useState(data);
  if (data && data !== first) {
    return <Conversation id={id} messages={data.messages as ChatMessage[]} cursor={data.next_cursor ?? null} />;
  }
  const gone = error instanceof ApiError && error.status < 500;
  return (
    <div className="flex h-full flex-col items-center justify-center gap-4 p-6">
      {!error ? <Spinner /> : <p role="alert">{gone ? texts.notFound : texts.loadFailed}</p>}
      {error && !gone && <Button onClick={() => void mutate()}>{texts.retry}</Button>}
    </div>
  );
}
