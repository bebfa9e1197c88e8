import { lazy, Suspense, useCallback } from "react";
import { Router } from "wouter";
import { useHashLocation } from "wouter/use-hash-location";
import { Banners } from "./Banners";
import type { Config } from "./config";
import { Layout } from "./Layout";
import { Place } from "./lib/place";
import { Member } from "./session/Member";
import { SignedIn, useCurrentUser } from "./session/session";
import { Boundary } from "./ui/Boundary";
import { Spinner } from "./ui/Spinner";

const SignIn = lazy(() => import("./session/SignIn"));

/** The page: whoever is not signed in signs in, all others get the app. */
export function App({ config }: { config: Config }) {
  const { user, setUser, signInAs, ended } = useCurrentUser(config);
  const leave = useCallback(() => {
    sessionStorage.clear();
    location.hash = "/";
    setUser(null);
  }, [setUser]);
  return (
    <Router hook={useHashLocation}>
      <Banners />
      <Boundary>
        <Suspense fallback={<Waiting />}>
        {user === undefined ? (
          <Waiting />
        ) : user === null ? (
          <SignIn config={config} signInAs={signInAs} ended={ended} />
        ) : (
          <SignedIn config={config} user={user} leave={leave}>
            {/* Not further up: SWR loses its cache where what is around it waits. */}
            <Suspense fallback={<Waiting />}>
              <Member>
                <Place>
                  <Layout />
                </Place>
              </Member>
            </Suspense>
          </SignedIn>
        )}
        </Suspense>
      </Boundary>
    </Router>
  );
}

function Waiting() {
  return (
    <main className="flex h-full items-center justify-center">
      <Spinner />
    </main>
  );
}
