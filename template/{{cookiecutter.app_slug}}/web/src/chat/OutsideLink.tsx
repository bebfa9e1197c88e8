import { type ReactNode, useState } from "react";
import { texts } from "../texts";
import { Button, buttonClass } from "../ui/Button";
import { Dialog } from "../ui/Dialog";

/** A link that a model or a document wrote. Its text may lie, so the whole address is shown before it is opened. */
export function OutsideLink({ href, children }: { href: string; children: ReactNode }) {
  const [asking, setAsking] = useState(false);
  return (
    <>
      <a
        href={href}
        rel="noopener noreferrer nofollow"
        target="_blank"
        title={href}
        onClick={(event) => {
          event.preventDefault();
          setAsking(true);
        }}
      >
        {children}
      </a>
      {asking && (
        <Dialog open close={() => setAsking(false)} title={texts.chat.leaving}>
          <p className="text-muted">{texts.chat.leavingHint}</p>
          <p className="rounded-lg bg-panel p-3 font-mono text-sm break-all">{href}</p>
          <div className="flex justify-end gap-2">
            <Button onClick={() => setAsking(false)}>{texts.cancel}</Button>
            <a href={href} rel="noopener noreferrer nofollow" target="_blank" onClick={() => setAsking(false)} className={buttonClass("primary")}>
              {texts.chat.leave}
            </a>
          </div>
        </Dialog>
      )}
    </>
  );
}
