/** Somebody who is signed in. */
export interface User {
  uid: string;
  /** What the user is called in the page. */
  name: string;
  guest: boolean;
  /**
   * A token for the service, renewed when it is about to expire.
   *
   * @param fresh Ask for a new one, whatever is kept.
   */
  token(fresh?: boolean): Promise<string>;
  signOut(): Promise<void>;
  /** Whether this is a laptop's user, who is a member of each app and has no account. */
  isDev?: boolean;
  /** Delete the account of Firebase Authentication, which belongs to all apps of the project. */
  remove?(): Promise<void>;
}
