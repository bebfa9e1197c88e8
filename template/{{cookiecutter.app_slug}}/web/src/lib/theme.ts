import { useSyncExternalStore } from "react";

export type Theme = "light" | "dark" | "system";

const KEY = "theme";
const preference = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();

export function theme(): Theme {
  const kept = localStorage.getItem(KEY);
  return kept === "light" || kept === "dark" ? kept : "system";
}

/** Show the theme that was chosen, or the system's. */
export function applyTheme(): void {
  const chosen = theme();
  document.documentElement.dataset.theme = chosen === "system" ? (preference.matches ? "dark" : "light") : chosen;
  listeners.forEach((listener) => listener());
}

export function setTheme(chosen: Theme): void {
  if (chosen === "system") localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, chosen);
  applyTheme();
}

preference.addEventListener("change", applyTheme);
addEventListener("storage", (event) => event.key === KEY && applyTheme());

export function useTheme(): Theme {
  return useSyncExternalStore((listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, theme);
}
