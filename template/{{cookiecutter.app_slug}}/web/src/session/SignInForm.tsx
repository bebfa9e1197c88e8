import { type FormEvent, useEffect, useState } from "react";
import type { Config } from "../config";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import { Field } from "../ui/Field";
import { Notice } from "../ui/Notice";
import { Spinner } from "../ui/Spinner";
import * as firebase from "./firebase";

/** What went wrong, in the words of Firebase's code. */
function reason(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string };
  const known: Record<string, string> = texts.signIn.errors;
  return known[code ?? ""] ?? texts.signIn.failed(code ?? message ?? "");
}

/** Sign in by an e-mail link or with Google, or begin as a guest: what the app's settings name. */
export function SignInForm({ config, guests }: { config: Config; guests?: boolean }) {
  const [failed, setFailed] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const run = async (sign: () => Promise<void>) => {
    setFailed(null);
    setBusy(true);
    try {
      await sign();
    } catch (error) {
      setFailed(reason(error));
    }
    setBusy(false);
  };
  const offers = (name: string) => config.sign_in.includes(name);
  const mail = offers("email_link");
  return (
    <div className="flex flex-col gap-4">
      {failed && <Notice kind="danger">{failed}</Notice>}
      {mail && <EmailLink config={config} run={run} busy={busy} />}
      {mail && (offers("google") || (guests && offers("anonymous"))) && (
        <div className="flex items-center gap-3 text-xs text-muted before:h-px before:flex-1 before:bg-line after:h-px after:flex-1 after:bg-line">{texts.signIn.or}</div>
      )}
      {offers("google") && (
        <Button disabled={busy} onClick={() => void run(() => firebase.withGoogle(config))}>
          {texts.signIn.google}
        </Button>
      )}
      {guests && offers("anonymous") && (
        <Button variant="ghost" disabled={busy} onClick={() => void run(() => firebase.asGuest(config))}>
          {texts.signIn.guest}
        </Button>
      )}
    </div>
  );
}

type Run = (sign: () => Promise<void>) => Promise<void>;

function EmailLink({ config, run, busy }: { config: Config; run: Run; busy: boolean }) {
  const [opened] = useState(() => firebase.openedByLink(config));
  const [email, setEmail] = useState(firebase.keptEmail() ?? "");
  const [sent, setSent] = useState(false);
  const known = !!firebase.keptEmail();
  useEffect(() => {
    if (opened && known) void run(() => firebase.finishLink(config, email));
    // The link is good for one sign-in: it is used when the page opens, and never again.
  }, []);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void run(async () => {
      if (opened) return firebase.finishLink(config, email);
      await firebase.sendLink(config, email);
      setSent(true);
    });
  };
  if (opened && known && busy) return <Spinner />;
  if (sent) {
    return (
      <Notice
        actions={
          <Button size="sm" onClick={() => setSent(false)}>
            {texts.signIn.another}
          </Button>
        }
      >
        {texts.signIn.sent(email)}
      </Notice>
    );
  }
  return (
    <form onSubmit={submit} className="flex flex-col gap-3">
      <Field
        label={opened ? texts.signIn.confirmEmail : texts.signIn.email}
        type="email"
        autoComplete="email"
        required
        value={email}
        onChange={(event) => setEmail(event.target.value)}
      />
      <Button type="submit" variant="primary" disabled={busy}>
        {opened ? texts.signIn.finish : texts.signIn.sendLink}
      </Button>
    </form>
  );
}
