import { createContext, type ReactNode, use, useEffect, useMemo, useState } from "react";
import { SWRConfig } from "swr";
import { type Api, makeApi } from "../api/client";
import type { Config } from "../config";
import { announce, useAnnouncement } from "../lib/tabs";
import { devUser, keepDevUser, keptDevUser } from "./dev";
import type { User } from "./user";

export interface Session {
  config: Config;
  user: User;
  api: Api;
  /** The session was refused: the user has to sign in again. */
  ended: boolean;
  signOut(): Promise<void>;
}

const Context = createContext<Session | null>(null);

/** The session of whoever is signed in. Only below `SignedIn`. */
export function useSession(): Session {
  const session = use(Context);
  if (!session) throw new Error("nobody is signed in");
  return session;
}

/** `undefined` until it is known; null if nobody is. */
export type CurrentUser = User | null | undefined;

/** Who is signed in, and how to sign a laptop's user in. */
export function useCurrentUser(config: Config) {
  const [user, setUser] = useState<CurrentUser>(undefined);
  const [ended, setEnded] = useState(false);
  useEffect(() => {
    const name = config.mode === "cloud" ? null : keptDevUser();
    if (name) return setUser(devUser(config, name));
    if (!config.firebase) return setUser(null);
    let stop: (() => void) | undefined;
    let left = false;
    void import("./firebase").then(async ({ watchUser }) => {
      const changed = (next: User | null, ended: boolean) => (setEnded(ended), setUser(next));
      if (!left) stop = await watchUser(config, changed);
    });
    return () => {
      left = true;
      stop?.();
    };
  }, [config]);
  const signInAs = (name: string) => {
    keepDevUser(name);
    setUser(devUser(config, name));
    announce({ kind: "user" });
  };
  useAnnouncement((news) => news.kind === "user" && location.reload());
  return { user, setUser, signInAs, ended };
}

/** Give the pages below the session of `user`. Nothing that was read for another user is kept. */
export function SignedIn(props: { config: Config; user: User; leave: () => void; children: ReactNode }) {
  const { config, user, leave, children } = props;
  const [ended, setEnded] = useState(false);
  const session = useMemo<Session>(() => {
    const signOut = async () => {
      await user.signOut();
      announce({ kind: "user" });
      leave();
    };
    return { config, user, api: makeApi(config, user, () => setEnded(true)), ended, signOut };
  }, [config, user, ended, leave]);
  return (
    <Context value={session}>
      <SWRConfig key={`${user.uid} ${user.guest}`} value={{ provider: () => new Map(), dedupingInterval: 500, shouldRetryOnError: false }}>
        {children}
      </SWRConfig>
    </Context>
  );
}
