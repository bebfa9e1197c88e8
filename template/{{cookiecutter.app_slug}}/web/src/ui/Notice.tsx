import { CircleAlert, Info, TriangleAlert } from "lucide-react";
import type { ReactNode } from "react";
import { cx } from "../lib/cx";

const KINDS = {
  info: [Info, "bg-accent-soft text-text"],
  warn: [TriangleAlert, "bg-warn-soft text-warn"],
  danger: [CircleAlert, "bg-danger-soft text-danger"],
} as const;

/** A message about the state of things, with what to do about it. */
export function Notice(props: { kind?: keyof typeof KINDS; children: ReactNode; actions?: ReactNode; className?: string }) {
  const [Icon, colors] = KINDS[props.kind ?? "info"];
  return (
    <div
      role={props.kind === "danger" ? "alert" : "status"}
      className={cx("flex flex-wrap items-center gap-x-3 gap-y-2 rounded-xl px-4 py-2.5 text-sm", colors, props.className)}
    >
      <Icon aria-hidden className="size-4 shrink-0" />
      <div className="min-w-0 flex-1 basis-48 [overflow-wrap:anywhere]">{props.children}</div>
      {props.actions}
    </div>
  );
}
