import { Meter } from "@base-ui/react/meter";
import { Progress } from "@base-ui/react/progress";
import { cx } from "../lib/cx";

const TRACK = "h-1.5 w-full overflow-hidden rounded-full bg-hover";

/** How much of something is used up, from 0 to 1. */
export function UsedBar({ label, value, near }: { label: string; value: number; near: boolean }) {
  return (
    <Meter.Root value={Math.min(value, 1) * 100} aria-label={label} className="flex flex-col gap-1.5 text-sm">
      <Meter.Track className={TRACK}>
        <Meter.Indicator className={cx("h-full rounded-full", near ? "bg-danger" : "bg-accent")} />
      </Meter.Track>
    </Meter.Root>
  );
}

/** How far something is, from 0 to 1; null if that is not known. */
export function ProgressBar({ label, value }: { label: string; value: number | null }) {
  return (
    <Progress.Root value={value === null ? null : Math.round(value * 100)} aria-label={label}>
      <Progress.Track className={TRACK}>
        <Progress.Indicator className={cx("h-full rounded-full bg-accent transition-[width]", value === null && "w-1/3 animate-pulse")} />
      </Progress.Track>
    </Progress.Root>
  );
}
