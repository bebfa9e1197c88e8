import useSWRInfinite from "swr/infinite";
import { body, type Schemas } from "../api/client";
import { useSession } from "../session/session";
import { announce, useAnnouncement } from "./tabs";

export type Chat = Schemas["Chat"];

/** The user's chats, the latest first, and what can be done to them. */
export function useChats(archived = false) {
  const { api } = useSession();
  const pages = useSWRInfinite(
    (index, previous: Schemas["ChatPage"] | null) => (index && !previous?.next_cursor ? null : ["chats", previous?.next_cursor ?? undefined] as const),
    ([, cursor]) => body(api.client.GET("/v1/chats", { params: { query: { limit: 50, cursor } } })),
    { revalidateFirstPage: true },
  );
  useAnnouncement((news) => news.kind === "chats" && void pages.mutate());
  const all = pages.data?.flatMap((page) => page.items) ?? [];
  const changed = async () => {
    announce({ kind: "chats" });
    await pages.mutate();
  };
  const params = (id: string) => ({ params: { path: { id } } });
  return {
    chats: all.filter((chat) => chat.archived === archived),
    all,
    failed: !!pages.error && !pages.data,
    loading: pages.isLoading,
    more: pages.data?.at(-1)?.next_cursor ? () => void pages.setSize(pages.size + 1) : null,
    changed,
    change: async (id: string, change: Schemas["ChatChange"]) => {
      await api.client.PATCH("/v1/chats/{id}", { ...params(id), body: change });
      await changed();
    },
    remove: async (id: string) => {
      await api.client.DELETE("/v1/chats/{id}", params(id));
      await changed();
    },
  };
}
