import { lazy, type ReactNode, Suspense, useState } from "react";
import { buttonClass } from "./Button";

export interface MenuItem {
  label: string;
  icon?: ReactNode;
  danger?: boolean;
  run: () => void;
}

export interface MenuProps {
  label: string;
  trigger: ReactNode;
  items: MenuItem[];
  className?: string;
}

const load = () => import("./OpenMenu");
const OpenMenu = lazy(load);

/** A button with a menu of actions. What shows the menu is loaded when somebody reaches for the button. */
export function Menu(props: MenuProps) {
  const [wanted, setWanted] = useState(false);
  const button = (
    <button
      type="button"
      aria-label={props.label}
      aria-haspopup="menu"
      aria-expanded={wanted}
      className={props.className ?? buttonClass("ghost", "icon-sm")}
      onPointerEnter={() => void load()}
      onFocus={() => void load()}
      onClick={() => setWanted(true)}
    >
      {props.trigger}
    </button>
  );
  return wanted ? (
    <Suspense fallback={button}>
      <OpenMenu {...props} />
    </Suspense>
  ) : (
    button
  );
}
