import { Menu as Base } from "@base-ui/react/menu";
import { cx } from "../lib/cx";
import { buttonClass } from "./Button";
import type { MenuProps } from "./Menu";

/** A menu that is open when it is first shown. */
export default function OpenMenu(props: MenuProps) {
  return (
    <Base.Root defaultOpen>
      <Base.Trigger aria-label={props.label} className={props.className ?? buttonClass("ghost", "icon-sm")}>
        {props.trigger}
      </Base.Trigger>
      <Base.Portal>
        <Base.Positioner sideOffset={6} align="end" className="z-50">
          <Base.Popup className="min-w-44 rounded-xl border bg-raised p-1 shadow-lg outline-none">
            {props.items.map((item) => (
              <Base.Item
                key={item.label}
                onClick={item.run}
                className={cx(
                  "flex cursor-pointer items-center gap-2.5 rounded-lg px-3 py-2 text-sm outline-none select-none data-highlighted:bg-hover",
                  item.danger && "text-danger",
                )}
              >
                {item.icon}
                {item.label}
              </Base.Item>
            ))}
          </Base.Popup>
        </Base.Positioner>
      </Base.Portal>
    </Base.Root>
  );
}
