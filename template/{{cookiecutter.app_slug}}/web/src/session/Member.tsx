import { lazy, type ReactNode, Suspense, useCallback, useEffect } from "react";
import useSWR from "swr";
import { useLocation } from "wouter";
import { body } from "../api/client";
import { ApiError } from "../api/errors";
import { texts } from "../texts";
import { keptGuest } from "./guest";
import { keepGroupInvite, keepInvite, keptGroupInvite } from "./invite";
import { useSession } from "./session";

/** Show the app to its members. Whoever is not one joins: by the invitation of the address, or by one they type. */
export function Member({ children }: { children: ReactNode }) {
  const { api, config, user } = useSession();
  const [path, navigate] = useLocation();
  const invite = path.startsWith("/join/");
  useEffect(() => (keepInvite(), keepGroupInvite()), [path]);
  const { error, mutate } = useSWR("me", () => body(api.client.GET("/v1/me")));
  const joins = !!config.firebase && !!config.membership && !user.guest && !user.isDev;
  const stranger = error instanceof ApiError && error.code === "forbidden";
  const joined = useCallback(async () => {
    await mutate();
    navigate(keptGroupInvite() ?? "/");
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

const Join = lazy(() => import("./Join"));
const MergeGuest = lazy(() => import("./MergeGuest"));
const SignUp = lazy(async () => ({ default: (await import("./SignUp")).SignUp }));

function FinishSignUp() {
  return (
    <main className="flex min-h-full flex-col items-center justify-center p-6">
      <SignUp hint={texts.signIn.signUpHint} />
    </main>
  );
}
