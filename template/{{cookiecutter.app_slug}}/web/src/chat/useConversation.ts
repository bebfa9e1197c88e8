import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses } from "ai";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { body } from "../api/client";
import { ApiError } from "../api/errors";
import { announce, useAnnouncement } from "../lib/tabs";
import { useGroup } from "../lib/place";
import { useSession } from "../session/session";
import type { ChatMessage } from "./types";

/** How long to wait before each try to reach the service again, in seconds. */
const PATIENCE = [0.5, 1, 2, 4, 8, 15];

/** Whether the network failed, and not the service. */
const isLost = (error: unknown): boolean => error instanceof TypeError;

/** The error that the latest answer ended with. */
function problemOf(error: Error | undefined, last: ChatMessage | undefined): ApiError | null {
  if (!error || isLost(error)) return null;
  if (error instanceof ApiError) return error;
  const told = last?.role === "assistant" ? last.metadata?.error : undefined;
  if (!told) return new ApiError("unknown", error.message, 500);
  const retryAt = told.retry_after === undefined ? null : Date.now() + told.retry_after * 1000;
  return new ApiError(told.code, told.message, 500, retryAt);
}

/**
 * A chat with the AI SDK, which finds its way back to an answer after a lost connection, a reload, or a change in another tab.
 *
 * @param begun Called with the first message of a new chat.
 * @param changed Called when the list of chats is no longer what it was.
 */
export function useConversation(id: string, initial: ChatMessage[], begun?: () => void, changed?: () => void) {
  const { api } = useSession();
  const group = useGroup();
  const ofGroup = group ? `?group=${group}` : "";
  const transport = useMemo(
    () =>
      new DefaultChatTransport<ChatMessage>({
        api: `${api.base}/v1/chat`,
        fetch: ((input: string, init: RequestInit) => api.fetch(input, init)) as typeof fetch,
        prepareSendMessagesRequest: ({ id, messages, trigger, messageId }) => ({
          body: { id, trigger, messageId, message: messages.at(-1), group },
        }),
        prepareReconnectToStreamRequest: ({ id }) => ({ api: `${api.base}/v1/chat/${id}/stream${ofGroup}` }),
      }),
    [api, group, ofGroup],
  );
  const chat = useChat<ChatMessage>({
    id,
    messages: initial,
    transport,
    throttle: 40,
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
  });
  const { status, error, messages, setMessages, resumeStream, clearError } = chat;
  const latest = useRef(messages);
  latest.current = messages;
  const running = status === "submitted" || status === "streaming";
  const [tries, setTries] = useState(0);

  const reload = useCallback(async () => {
    const page = await body(api.client.GET("/v1/chat/{id}", { params: { path: { id }, query: { limit: 50, group } } }));
    const stored = page.messages as ChatMessage[];
    const known = new Set(stored.map((message) => message.id));
    const first = latest.current.findIndex((message) => known.has(message.id));
    setMessages([...latest.current.slice(0, Math.max(first, 0)), ...stored]);
    return stored;
  }, [api, id, group, setMessages]);

  /** Follow an answer that is on its way; if it has ended meanwhile, show it as it was stored. */
  const follow = useCallback(async () => {
    await resumeStream();
    await reload();
  }, [reload, resumeStream]);

  // A chat that was loaded may have an answer on its way.
  useEffect(() => {
    const last = initial.at(-1);
    if (!last) return;
    const unfinished = last.role === "user" || last.metadata?.status !== "complete";
    if (unfinished) follow().catch(() => undefined);
  }, [initial, follow]);

  // A lost connection: try again, sooner if the network is back.
  const lost = isLost(error);
  useEffect(() => {
    if (!lost) return;
    const again = () => {
      clearTimeout(timer);
      setTries((count) => count + 1);
      reload()
        .then(async (stored) => {
          clearError();
          if (stored.at(-1)?.role === "user") await follow();
        })
        .catch((failure: unknown) => {
          if (isLost(failure)) return;
          clearError();
        });
    };
    const timer = setTimeout(again, 1000 * PATIENCE[Math.min(tries, PATIENCE.length - 1)]!);
    addEventListener("online", again, { once: true });
    return () => {
      clearTimeout(timer);
      removeEventListener("online", again);
    };
  }, [lost, tries, reload, follow, clearError]);
  useEffect(() => {
    if (status === "ready") setTries(0);
  }, [status]);

  // Other tabs: they hear of what is sent here, and this one of theirs.
  const was = useRef(status);
  useEffect(() => {
    if (was.current === status) return;
    const began = status === "streaming";
    const ended = !running && was.current !== "error";
    was.current = status;
    if (began) announce({ kind: "chat", id });
    if (began || ended) changed?.();
    // A title that a model makes comes a moment after the first answer.
    const later = ended && latest.current.length < 3 ? setTimeout(() => changed?.(), 4000) : undefined;
    return () => clearTimeout(later);
  }, [status, running, id, changed]);
  useAnnouncement((news) => {
    if (news.kind === "chat" && news.id === id && !running) void reload().then(follow).catch(() => undefined);
  });

  const send: typeof chat.sendMessage = async (...message) => {
    if (!latest.current.length) begun?.();
    await chat.sendMessage(...message);
  };
  const stop = async () => {
    await api.fetch(`/v1/chat/${id}/stop${ofGroup}`, { method: "POST" }).catch(() => chat.stop());
  };
  const problem = useMemo(() => problemOf(error, latest.current.at(-1)), [error]);
  /** Try again what failed: an answer that broke off goes on, a message without one is sent again. */
  const again = async () => {
    const last = latest.current.at(-1);
    const begun = last?.role === "assistant" && last.metadata?.status === "incomplete" && last.parts.some((part) => part.type === "text");
    await (begun ? chat.sendMessage() : chat.regenerate());
  };
  return {
    ...chat,
    send,
    stop,
    running,
    lost,
    problem,
    again,
    /** Go on with the latest answer, which was cut. */
    goOn: () => chat.sendMessage(),
    /** Ask again with another text; what followed the message is replaced. */
    edit: (messageId: string, text: string) => void chat.sendMessage({ text, messageId }),
  };
}

export type ConversationState = ReturnType<typeof useConversation>;
