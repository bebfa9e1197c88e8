const KEY = "invite";

/** Keep the invitation that the address names, as in `#/join/CODE`: signing in may lead away from it and back. */
export function keepInvite(): void {
  const code = /^#\/join\/(.+)$/.exec(location.hash)?.[1];
  if (code) localStorage.setItem(KEY, decodeURIComponent(code));
}

export const keptInvite = () => localStorage.getItem(KEY);
export const forgetInvite = () => localStorage.removeItem(KEY);
