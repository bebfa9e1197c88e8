/** What the app is and where it runs: `/config.json`, read when the page loads and never part of the build. */
export interface Config {
  app: { id: string; name: string; description: string };
  /** `embedded` and `emulators` are a laptop's; there `POST /dev/token` signs anybody in. */
  mode: "embedded" | "emulators" | "cloud";
  /** The service's address without a slash at its end; empty if it serves this page too. */
  api: string;
  /** Firebase's web config; null where users sign in with dev tokens alone. */
  firebase: { apiKey: string; authDomain: string; projectId: string; appId?: string; tenantId?: string } | null;
  /** The Auth emulator's address, such as `http://127.0.0.1:9099`. */
  auth_emulator: string | null;
  /** The address of the membership function. */
  membership: string | null;
  sign_in: string[];
  /** Questions that are offered in an empty chat. */
  suggestions: string[];
  /** The plans that are for sale or in use, cheapest first. */
  plans: Plan[];
  /** The names of what buys credit. */
  top_ups: string[];
  /** Whether users may form groups, and whether these have chats. */
  groups: boolean;
  group_chats: boolean;
}

export interface Plan {
  name: string;
  requests_per_minute: number;
  daily_micro_usd: number;
  features: string[];
  for_sale: boolean;
}

/**
 * Read the configuration.
 *
 * @throws TypeError the network is out of reach; Error: the answer is no configuration.
 */
export async function loadConfig(): Promise<Config> {
  const answer = await fetch("/config.json", { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`/config.json: ${answer.status}`);
  const { app, ...rest } = (await answer.json()) as Config;
  return {
    ...{ mode: "cloud", api: "", firebase: null, auth_emulator: null, membership: null },
    ...{ sign_in: [], suggestions: [], plans: [], top_ups: [], groups: false, group_chats: false },
    ...rest,
    app,
  };
}
