import { Collapsible } from "@base-ui/react/collapsible";
import { ChevronRight } from "lucide-react";
import { type ReactNode, useState } from "react";

/** Something that is folded away until it is asked for. */
export function Fold(props: { title: ReactNode; children: ReactNode; open?: boolean }) {
  const [open, setOpen] = useState<boolean | null>(null);
  return (
    <Collapsible.Root open={open ?? props.open ?? false} onOpenChange={setOpen}>
      <Collapsible.Trigger className="group inline-flex items-center gap-1.5 rounded-lg py-1 pr-2 text-sm text-muted hover:text-text">
        <ChevronRight aria-hidden className="size-4 transition-transform group-data-panel-open:rotate-90" />
        {props.title}
      </Collapsible.Trigger>
      <Collapsible.Panel className="ml-2 border-l-2 pt-1 pl-4 text-sm text-muted">{props.children}</Collapsible.Panel>
    </Collapsible.Root>
  );
}
