import { useEffect, useRef } from "react";

/** What one tab tells the app's others. */
export type News = { kind: "user" } | { kind: "chats" } | { kind: "chat"; id: string };

const channel = new BroadcastChannel("tabs");

export const announce = (news: News) => channel.postMessage(news);

/** Call `hear` with what other tabs tell. */
export function useAnnouncement(hear: (news: News) => void): void {
  const latest = useRef(hear);
  useEffect(() => {
    latest.current = hear;
  });
  useEffect(() => {
    const listener = (event: MessageEvent<News>) => latest.current(event.data);
    channel.addEventListener("message", listener);
    return () => channel.removeEventListener("message", listener);
  }, []);
}
