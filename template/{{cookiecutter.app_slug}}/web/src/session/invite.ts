const KEY = "invite";

/** Keep the invitation that the address names, as in `#/join/CODE`: signing in may lead away from it and back. */
export function keepInvite(): void {
  const code = /^#\/join\/(.+)$/.exec(location.hash)?.[1];
  if (code) localStorage.setItem(KEY, decodeURIComponent(code));
}

const GROUP_KEY = "group-invite";

/** Keep the page of a group's invitation that the address names, as in `#/groups/GROUP/join/CODE`. */
export function keepGroupInvite(): void {
  const page = /^#(\/groups\/[^/]+\/join\/.+)$/.exec(location.hash)?.[1];
  if (page) localStorage.setItem(GROUP_KEY, page);
}

export const keptGroupInvite = () => localStorage.getItem(GROUP_KEY);
export const forgetGroupInvite = () => localStorage.removeItem(GROUP_KEY);

export const keptInvite = () => localStorage.getItem(KEY);
export const forgetInvite = () => localStorage.removeItem(KEY);
