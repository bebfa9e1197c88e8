import { createContext, type ReactNode, use } from "react";
import { Router, useLocation } from "wouter";

const Context = createContext<string | undefined>(undefined);

/** The group whose chats and documents the address is about, as in `#/in/GROUP/documents`; undefined for the user's own. */
export const useGroup = () => use(Context);

/** Have the addresses below mean the group's that the address names, or the user's own. `~/` leads out of a group. */
export function Place({ children }: { children: ReactNode }) {
  const [path] = useLocation();
  const group = /^\/in\/([\w-]+)/.exec(path)?.[1];
  return (
    <Router key={group} base={group ? `/in/${group}` : ""}>
      <Context value={group}>{children}</Context>
    </Router>
  );
}
