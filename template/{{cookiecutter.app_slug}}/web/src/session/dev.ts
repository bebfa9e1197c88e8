import type { Config } from "../config";
import { readError } from "../api/errors";
import type { User } from "./user";

const KEY = "dev-user";

/** A user of a laptop, by whatever name. Nothing like this is there in cloud mode. */
export function devUser(config: Config, name: string): User {
  let kept: Promise<string> | null = null;
  const ask = async () => {
    const guest = name.startsWith("guest");
    const role = name === "root" ? "admin" : "member";
    const answer = await fetch(`${config.api}/dev/token`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(guest ? { uid: name, guest } : { uid: name, role }),
    });
    if (!answer.ok) throw await readError(answer);
    return ((await answer.json()) as { token: string }).token;
  };
  return {
    uid: name,
    name,
    guest: name.startsWith("guest"),
    isDev: true,
    token: (fresh) => {
      if (fresh || !kept) {
        kept = ask();
        kept.catch(() => (kept = null));
      }
      return kept;
    },
    signOut: async () => localStorage.removeItem(KEY),
  };
}

export const keepDevUser = (name: string) => localStorage.setItem(KEY, name);
export const keptDevUser = () => localStorage.getItem(KEY);
