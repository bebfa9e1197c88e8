import { useState } from "react";
import { useSession } from "../session/session";

/** A text that is being written. The tab keeps it over a reload and a new sign-in, for its user alone. */
export function useDraft(name: string): [string, (text: string) => void] {
  const { user } = useSession();
  const key = `draft:${user.uid}:${name}`;
  const [text, setText] = useState(() => sessionStorage.getItem(key) ?? "");
  return [
    text,
    (next) => {
      setText(next);
      if (next) sessionStorage.setItem(key, next);
      else sessionStorage.removeItem(key);
    },
  ];
}
