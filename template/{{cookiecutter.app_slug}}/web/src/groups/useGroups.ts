import useSWR from "swr";
import { body, type Schemas } from "../api/client";
import { useGroup } from "../lib/place";
import { useSession } from "../session/session";

export type Group = Schemas["GroupAnswer"];

/** The user's groups; undefined until they are known. Apps without groups have none. */
export function useGroups() {
  const { api, config } = useSession();
  const { data, mutate } = useSWR(config.groups && "groups", () => body(api.client.GET("/v1/groups", { params: { query: { limit: 100 } } })));
  return { groups: config.groups ? data?.items : [], changed: () => mutate() };
}

/** Whether the user may write where the address leads: among their own, or in a group as more than a viewer. */
export function useMayWrite(): boolean {
  const group = useGroup();
  const { groups } = useGroups();
  const role = groups?.find((each) => each.id === group)?.role;
  return !group || (role !== undefined && role !== "viewer");
}
