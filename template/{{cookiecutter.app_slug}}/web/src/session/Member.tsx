import { type FormEvent, lazy, type ReactNode, Suspense, useCallback, useEffect, useState } from "react";
import useSWR from "swr";
import { useLocation } from "wouter";
import { body } from "../api/client";
import { ApiError } from "../api/errors";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import { Field } from "../ui/Field";
import { Spinner } from "../ui/Spinner";
import { keptGuest } from "./guest";
import { forgetInvite, keepInvite, keptInvite } from "./invite";
import { useSession } from "./session";

/** Show the app to its members. Whoever is not one joins: by the invitation of the address, or by one they type. */
export function Member({ children }: { children: ReactNode }) {
  const { api, config, user } = useSession();
  const [path, navigate] = useLocation();
  const invite = path.startsWith("/join/");
  useEffect(keepInvite, [path]);
  const { error, mutate } = useSWR("me", () => body(api.client.GET("/v1/me")));
  const joins = !!config.firebase && !!config.membership && !user.guest && !user.isDev;
  const stranger = error instanceof ApiError && error.code === "forbidden";
  const joined = useCallback(async () => {
    await mutate();
    navigate("/");
  }, [mutate, navigate]);
  useEffect(() => {
    if (invite && !joins) navigate("/");
  }, [invite, joins, navigate]);
  // A guest who opens the link of an e-mail signs up.
  if (user.guest && config.firebase && new URLSearchParams(location.search).has("oobCode")) return <FinishSignUp />;
  if (joins && (stranger || invite)) return <Join joined={joined} />;
  return (
    <>
      {children}
      {joins && keptGuest() && (
        <Suspense>
          <MergeGuest />
        </Suspense>
      )}
    </>
  );
}

const MergeGuest = lazy(() => import("./MergeGuest"));
const SignUp = lazy(async () => ({ default: (await import("./SignUp")).SignUp }));

function FinishSignUp() {
  return (
    <main className="flex min-h-full flex-col items-center justify-center p-6">
      <SignUp hint={texts.signIn.signUpHint} />
    </main>
  );
}

function Join({ joined }: { joined: () => Promise<void> }) {
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
