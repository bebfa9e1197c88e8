import { initializeApp } from "@firebase/app";
import {
  type ActionCodeSettings,
  type Auth,
  browserLocalPersistence,
  browserPopupRedirectResolver,
  connectAuthEmulator,
  deleteUser,
  EmailAuthProvider,
  GoogleAuthProvider,
  indexedDBLocalPersistence,
  initializeAuth,
  isSignInWithEmailLink,
  linkWithCredential,
  linkWithPopup,
  onIdTokenChanged,
  sendSignInLinkToEmail,
  signInAnonymously,
  signInWithCredential,
  signInWithEmailLink,
  signInWithPopup,
  signOut,
  type User as FirebaseUser,
} from "@firebase/auth";
import type { Config } from "../config";
import { readError } from "../api/errors";
import { forgetGuest, keepGuest, keptGuest } from "./guest";
import type { User } from "./user";

/** The address that a link was sent to; whoever opens the link has to name it. */
const EMAIL = "sign-in-email";

let auth: Auth | null = null;
/** Whether the user signs out; else Firebase has ended the session, as for an account that was disabled. */
let leaving = false;

function authOf(config: Config): Auth {
  if (!auth) {
    const app = initializeApp(config.firebase!);
    auth = initializeAuth(app, {
      persistence: [indexedDBLocalPersistence, browserLocalPersistence],
      popupRedirectResolver: browserPopupRedirectResolver,
    });
    auth.tenantId = config.firebase!.tenantId ?? null;
    if (config.auth_emulator) connectAuthEmulator(auth, config.auth_emulator, { disableWarnings: true });
  }
  return auth;
}

function asUser(user: FirebaseUser): User {
  return {
    uid: user.uid,
    name: user.email ?? user.displayName ?? "",
    guest: user.isAnonymous,
    token: (fresh) =>
      user.getIdToken(fresh).catch((error: { code?: string; message: string }) => {
        // As `fetch` has it, so that a lost network is waited for.
        throw error.code === "auth/network-request-failed" ? new TypeError(error.message) : error;
      }),
    signOut: () => {
      leaving = true;
      forgetGuest(); // the next account is another person's, perhaps
      return signOut(auth!);
    },
    remove: () => deleteUser(user),
  };
}

/** Call `changed` with whoever is signed in, now and whenever that changes, also in another tab. */
export async function watchUser(config: Config, changed: (user: User | null, ended: boolean) => void): Promise<() => void> {
  let shown: string | null | undefined;
  return onIdTokenChanged(authOf(config), (user) => {
    // A token that was renewed is no other user; a guest who signs up keeps the id.
    const next = user && `${user.uid} ${user.isAnonymous}`;
    if (next === shown) return;
    const ended = !user && !!shown && !leaving;
    leaving = false;
    shown = next;
    changed(user && asUser(user), ended);
  });
}

export async function sendLink(config: Config, email: string): Promise<void> {
  const settings: ActionCodeSettings = { url: location.origin + location.pathname, handleCodeInApp: true };
  await sendSignInLinkToEmail(authOf(config), email, settings);
  localStorage.setItem(EMAIL, email);
}

/** Whether the page was opened by a link of an e-mail. */
export const openedByLink = (config: Config) => isSignInWithEmailLink(authOf(config), location.href);
export const keptEmail = () => localStorage.getItem(EMAIL);

/** Sign in by the link that the page was opened with. A guest signs up by it and keeps what they have. */
export async function finishLink(config: Config, email: string): Promise<void> {
  const current = authOf(config);
  const link = location.href;
  await current.authStateReady();
  // Without the code in its address, a reload does not try the link again.
  const clean = () => history.replaceState(null, "", location.pathname + location.hash);
  const signIn = () => signInWithEmailLink(current, email, link);
  const guest = current.currentUser?.isAnonymous ? current.currentUser : null;
  if (!guest) {
    await signIn();
  } else if (keptGuest()) {
    await signInFrom(guest, signIn); // the address has an account, as the link before this one showed
  } else {
    try {
      await linkOrMerge(() => linkWithCredential(guest, EmailAuthProvider.credentialWithLink(email, link)), signIn);
    } catch (error) {
      if ((error as { code?: string }).code !== "auth/invalid-action-code" || !keptGuest()) throw error;
      // To find out that there is an account has used the link up.
      clean();
      await sendLink(config, email);
      throw Object.assign(new Error(), { code: "account-exists" });
    }
  }
  localStorage.removeItem(EMAIL);
  clean();
}

/** Call from a click, or the browser blocks the window. A guest signs up and keeps what they have. */
export async function withGoogle(config: Config): Promise<void> {
  const current = authOf(config);
  const provider = new GoogleAuthProvider();
  if (!current.currentUser?.isAnonymous) {
    await signInWithPopup(current, provider);
    return;
  }
  let credential: ReturnType<typeof GoogleAuthProvider.credentialFromError> = null;
  await linkOrMerge(
    async () => {
      try {
        await linkWithPopup(current.currentUser!, provider);
      } catch (error) {
        credential = GoogleAuthProvider.credentialFromError(error as Parameters<typeof GoogleAuthProvider.credentialFromError>[0]);
        throw error;
      }
    },
    // The window has said who the user is: a second one is not needed, nor allowed without a click.
    () => (credential ? signInWithCredential(current, credential) : signInWithPopup(current, provider)),
  );
}

export async function asGuest(config: Config): Promise<void> {
  await signInAnonymously(authOf(config));
}

/** Turn a guest into an account; if the account exists, sign in to it and have the service merge the guest into it later. */
async function linkOrMerge(link: () => Promise<unknown>, signIn: () => Promise<unknown>): Promise<void> {
  const guest = initialized().currentUser!;
  try {
    await link();
    await guest.getIdToken(true);
  } catch (error) {
    const { code } = error as { code?: string };
    if (code !== "auth/email-already-in-use" && code !== "auth/credential-already-in-use") throw error;
    await signInFrom(guest, signIn);
  }
}

/** Sign a guest in to an account that exists already. Their token is kept until the account has taken over what they have. */
async function signInFrom(guest: FirebaseUser, signIn: () => Promise<unknown>): Promise<void> {
  keepGuest(await guest.getIdToken(true));
  await signIn();
}

function initialized(): Auth {
  if (!auth) throw new Error("Firebase is not set up");
  return auth;
}

/**
 * Make the user a member of the app, and renew the token, which does not hold the role yet.
 *
 * @throws ApiError `invite_invalid`, `forbidden`, `removed`, ...
 */
export async function join(config: Config, invite: string | null): Promise<void> {
  const user = authOf(config).currentUser!;
  const answer = await fetch(`${config.membership}/apps/${config.app.id}/join`, {
    method: "POST",
    headers: { Authorization: `Bearer ${await user.getIdToken()}`, "Content-Type": "application/json" },
    body: JSON.stringify(invite ? { invite } : {}),
  });
  if (!answer.ok) throw await readError(answer);
  await user.getIdToken(true);
}
