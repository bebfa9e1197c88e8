import { useEffect, useState } from "react";

const left = (time: number) => Math.max(0, Math.ceil((time - Date.now()) / 1000));

/** The whole seconds until a time, counted down; 0 once it has come. */
export function useSecondsUntil(time: number): number {
  const [seconds, setSeconds] = useState(() => left(time));
  useEffect(() => {
    setSeconds(left(time));
    const timer = setInterval(() => {
      const now = left(time);
      setSeconds(now);
      if (!now) clearInterval(timer);
    }, 250);
    return () => clearInterval(timer);
  }, [time]);
  return seconds;
}
