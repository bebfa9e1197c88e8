/** The token of a guest who is signing in to an account that exists already: the account takes over what the guest has. */
const KEY = "guest-token";

export const keepGuest = (token: string) => localStorage.setItem(KEY, token);
export const keptGuest = () => localStorage.getItem(KEY);
export const forgetGuest = () => localStorage.removeItem(KEY);
