import createClient, { type Client } from "openapi-fetch";
import type { Config } from "../config";
import type { User } from "../session/user";
import { readError } from "./errors";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];

/** The service, called as one user. */
export interface Api {
  /** Calls that are typed by the service's own description; they throw `ApiError` when refused. */
  client: Client<paths>;
  /** `fetch` of a path of the service, with the user's token. It throws `ApiError` when refused. */
  fetch: (path: string, init?: RequestInit) => Promise<Response>;
  /** The service's address. */
  base: string;
}

/** Why Firebase gives no new token: the account is disabled or gone, or its sessions were revoked. It signs the user out then. */
const NO_TOKEN = ["auth/user-disabled", "auth/user-not-found", "auth/user-token-expired", "auth/invalid-user-token"];

/**
 * Make the client of a signed-in user.
 *
 * A token that was refused is renewed once, which helps a laptop that slept. If the new one is refused too, the session has
 * ended: `ended` is called.
 */
export function makeApi(config: Config, user: User, ended: () => void): Api {
  async function send(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    const attempt = async (fresh: boolean) => {
      const request = new Request(input instanceof Request ? input.clone() : input, init);
      request.headers.set("Authorization", `Bearer ${await user.token(fresh)}`);
      return fetch(request);
    };
    let answer = await attempt(false);
    if (answer.status === 401) {
      answer = await attempt(true).catch((error: { code?: string }) => {
        if (!NO_TOKEN.includes(error.code ?? "")) throw error;
        return answer;
      });
    }
    if (answer.status === 401) ended();
    if (!answer.ok) throw await readError(answer);
    return answer;
  }

  const base = config.api || location.origin;
  return {
    base,
    client: createClient<paths>({ baseUrl: base, fetch: send }),
    fetch: (path, init) => send(new URL(path, base), init),
  };
}

/** The body of an answer that is there: refusals were thrown before. */
export async function body<T>(call: Promise<{ data?: T }>): Promise<T> {
  return (await call).data as T;
}
