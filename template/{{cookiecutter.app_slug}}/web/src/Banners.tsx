import { useEffect, useState, useSyncExternalStore } from "react";
import { texts } from "./texts";
import { Button } from "./ui/Button";
import { Notice } from "./ui/Notice";

const CHECK_EVERY = 10 * 60 * 1000;

function watchConnection(changed: () => void) {
  addEventListener("online", changed);
  addEventListener("offline", changed);
  return () => {
    removeEventListener("online", changed);
    removeEventListener("offline", changed);
  };
}

export const useOnline = () => useSyncExternalStore(watchConnection, () => navigator.onLine);

/** Whether the page that is served now loads other files than this one did: a new version was deployed. */
async function isOutdated(): Promise<boolean> {
  const own = document.querySelector<HTMLScriptElement>('script[type="module"][src]')?.getAttribute("src");
  const answer = await fetch(location.pathname, { cache: "no-cache", headers: { Accept: "text/html" } });
  return !!own && answer.ok && !(await answer.text()).includes(own);
}

function useOutdated(): boolean {
  const [outdated, setOutdated] = useState(false);
  useEffect(() => {
    let checked = Date.now();
    // A part of the page that is loaded later is gone once a new version is there.
    const missing = () => setOutdated(true);
    const check = () => {
      if (document.hidden || Date.now() - checked < CHECK_EVERY) return;
      checked = Date.now();
      isOutdated().then((is) => is && setOutdated(true), () => undefined);
    };
    addEventListener("vite:preloadError", missing);
    document.addEventListener("visibilitychange", check);
    const timer = setInterval(check, CHECK_EVERY);
    return () => {
      removeEventListener("vite:preloadError", missing);
      document.removeEventListener("visibilitychange", check);
      clearInterval(timer);
    };
  }, []);
  return outdated;
}

/** What concerns the whole page: no network, a new version. */
export function Banners() {
  const online = useOnline();
  const outdated = useOutdated();
  if (online && !outdated) return null;
  return (
    <div className="fixed inset-x-0 top-0 z-60 flex flex-col items-center gap-2 p-2">
      {!online && (
        <Notice kind="warn" className="border shadow-lg">
          {texts.offline}
        </Notice>
      )}
      {outdated && (
        <Notice
          className="border shadow-lg"
          actions={
            <Button size="sm" onClick={() => location.reload()}>
              {texts.reload}
            </Button>
          }
        >
          {texts.newVersion}
        </Notice>
      )}
    </div>
  );
}
