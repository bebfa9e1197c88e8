import { Dialog as Base } from "@base-ui/react/dialog";
import { X } from "lucide-react";
import type { ReactNode } from "react";
import { cx } from "../lib/cx";
import { texts } from "../texts";
import { buttonClass } from "./Button";

/** The class of what darkens the page behind a dialog. */
export const BACKDROP = "fixed inset-0 z-40 bg-black/40 transition-opacity data-starting-style:opacity-0 data-ending-style:opacity-0";

/** A dialog in the middle of the page. The focus stays in it, and Escape closes it. */
export function Dialog(props: { open: boolean; close: () => void; title: ReactNode; children: ReactNode; wide?: boolean }) {
  return (
    <Base.Root open={props.open} onOpenChange={(open) => !open && props.close()}>
      <Base.Portal>
        <Base.Backdrop className={BACKDROP} />
        <Base.Popup
          className={cx(
            "fixed top-1/2 left-1/2 z-50 flex max-h-[calc(100dvh-2rem)] w-[calc(100vw-2rem)] -translate-1/2 flex-col rounded-2xl border bg-raised shadow-xl outline-none",
            props.wide ? "max-w-2xl" : "max-w-md",
          )}
        >
          <div className="flex items-start justify-between gap-4 p-5 pb-3">
            <Base.Title className="text-lg font-semibold [overflow-wrap:anywhere]">{props.title}</Base.Title>
            <Base.Close aria-label={texts.close} className={cx(buttonClass("ghost", "icon-sm"), "-mt-1 -mr-1")}>
              <X aria-hidden className="size-4" />
            </Base.Close>
          </div>
          <div className="flex flex-col gap-4 overflow-y-auto p-5 pt-0" tabIndex={-1}>
            {props.children}
          </div>
        </Base.Popup>
      </Base.Portal>
    </Base.Root>
  );
}
