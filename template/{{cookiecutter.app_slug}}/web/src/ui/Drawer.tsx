import { Dialog as Base } from "@base-ui/react/dialog";
import type { ReactNode } from "react";
import { BACKDROP } from "./Dialog";

/** A panel that slides in from the left: the sidebar of a phone. */
export default function Drawer(props: { open: boolean; close: () => void; label: string; children: ReactNode }) {
  return (
    <Base.Root open={props.open} onOpenChange={(open) => !open && props.close()}>
      <Base.Portal>
        <Base.Backdrop className={BACKDROP} />
        <Base.Popup
          aria-label={props.label}
          className="fixed inset-y-0 left-0 z-50 flex w-[min(20rem,85vw)] flex-col bg-panel shadow-xl outline-none transition-transform data-ending-style:-translate-x-full data-starting-style:-translate-x-full"
        >
          {props.children}
        </Base.Popup>
      </Base.Portal>
    </Base.Root>
  );
}
