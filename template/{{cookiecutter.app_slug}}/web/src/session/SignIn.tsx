import { type FormEvent, lazy, Suspense, useState } from "react";
import type { Config } from "../config";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import { Field } from "../ui/Field";
import { Notice } from "../ui/Notice";
import { Spinner } from "../ui/Spinner";
import { keepGroupInvite, keepInvite, keptGroupInvite, keptInvite } from "./invite";

const SignInForm = lazy(async () => ({ default: (await import("./SignInForm")).SignInForm }));

/** The page of whoever is not signed in. */
export default function SignIn({ config, signInAs, ended }: { config: Config; signInAs: (name: string) => void; ended: boolean }) {
  useState(() => (keepInvite(), keepGroupInvite())); // before anything leads away from the address
  return (
    <main className="flex min-h-full flex-col items-center justify-center bg-panel p-6">
      <div className="flex w-full max-w-sm flex-col gap-6 rounded-2xl border bg-raised p-7 shadow-sm">
        <div className="flex flex-col gap-1.5">
          <h1 className="text-xl font-semibold">{texts.signIn.title(config.app.name)}</h1>
          {config.app.description && <p className="text-muted">{config.app.description}</p>}
        </div>
        {ended && <Notice kind="warn">{texts.sessionEnded}</Notice>}
        {(keptInvite() || keptGroupInvite()) && <Notice>{texts.join.invited}</Notice>}
        {config.firebase && (
          <Suspense fallback={<Spinner />}>
            <SignInForm config={config} guests />
          </Suspense>
        )}
        {config.mode !== "cloud" && <DevSignIn signInAs={signInAs} />}
      </div>
    </main>
  );
}

function DevSignIn({ signInAs }: { signInAs: (name: string) => void }) {
  const [name, setName] = useState("ada");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (name.trim()) signInAs(name.trim());
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-3">
      <Field label={texts.signIn.devName} value={name} onChange={(event) => setName(event.target.value)} autoComplete="off" maxLength={100} required />
      <p className="text-sm text-muted">{texts.signIn.devHint}</p>
      <Button type="submit" variant="primary">
        {texts.signIn.devSignIn}
      </Button>
    </form>
  );
}
