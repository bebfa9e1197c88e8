import { type FormEvent, useCallback, useEffect, useState } from "react";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import { Field } from "../ui/Field";
import { Spinner } from "../ui/Spinner";
import { forgetInvite, keptInvite } from "./invite";
import { useSession } from "./session";

/** The page of somebody who is no member yet. */
export default function Join({ joined }: { joined: () => Promise<void> }) {
  const { config, signOut } = useSession();
  const kept = keptInvite();
  const [code, setCode] = useState(kept ?? "");
  const [failed, setFailed] = useState<string | null>(null);
  const [trying, setTrying] = useState(true);
  const attempt = useCallback(
    async (invite: string | null) => {
      setTrying(true);
      try {
        const { join } = await import("./firebase");
        await join(config, invite);
        forgetInvite();
        await joined();
      } catch (error) {
        forgetInvite();
        if (invite) setFailed(error instanceof Error ? error.message : texts.join.failed);
      }
      setTrying(false);
    },
    [config, joined],
  );
  useEffect(() => {
    void attempt(kept);
    // An open app lets everybody in; the others say what they want.
  }, []);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void attempt(code.trim());
  };
  return (
    <main className="flex min-h-full flex-col items-center justify-center bg-panel p-6">
      <form onSubmit={submit} className="flex w-full max-w-sm flex-col gap-5 rounded-2xl border bg-raised p-7 shadow-sm">
        <h1 className="text-xl font-semibold">{texts.join.title(config.app.name)}</h1>
        {trying ? (
          <Spinner label={texts.join.joining} />
        ) : (
          <>
            <p className="text-muted">{texts.join.hint}</p>
            <Field label={texts.join.code} value={code} error={failed} required autoComplete="off" onChange={(event) => setCode(event.target.value)} />
            <Button type="submit" variant="primary">
              {texts.join.join}
            </Button>
            <Button variant="ghost" onClick={() => void signOut()}>
              {texts.signIn.out}
            </Button>
          </>
        )}
      </form>
    </main>
  );
}
