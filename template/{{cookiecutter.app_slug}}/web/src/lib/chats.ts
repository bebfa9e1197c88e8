import useSWRInfinite from "swr/infinite";
import { body, type Schemas } from "../api/client";
import { useSession } from "../session/session";
import { useGroup } from "./place";
import { announce, useAnnouncement } from "./tabs";

export type Chat = Schemas["Chat"];

/** The chats of the user, or of the group that the address is in, the latest first, and what can be done to them. */
export function useChats(archived = false) {
  const { api, config } = useSession();
  const group = useGroup();
  const pages = useSWRInfinite(
    (index, previous: Schemas["ChatPage"] | null) => (group && !config.group_chats) || (index && !previous?.next_cursor) ? null : (["chats", group, previous?.next_cursor ?? undefined] as const),
    ([, , cursor]) => body(api.client.GET("/v1/chats", { params: { query: { limit: 50, cursor, group } } })),
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
      await api.client.PATCH("/v1/chats/{id}", { ...params(id), body: { ...change, group } });
      await changed();
    },
    remove: async (id: string) => {
      await api.client.DELETE("/v1/chats/{id}", { params: { path: { id }, query: { group } } });
      await changed();
    },
  };
}

/** Whether there are chats where the address leads: the user has some, and a group does if the app's settings say so. */
export function useHasChats(): boolean {
  const { config } = useSession();
  return !useGroup() || config.group_chats;
}
