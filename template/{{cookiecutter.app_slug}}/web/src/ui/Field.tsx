import { type ComponentProps, type ReactNode, useId } from "react";
import { cx } from "../lib/cx";

export const inputClass = "w-full rounded-lg border bg-raised px-3 h-10 outline-none focus-visible:border-accent focus-visible:ring-2 focus-visible:ring-accent/30";

/** An input with its label, and what is wrong with it. */
export function Field({ label, error, className, ...props }: ComponentProps<"input"> & { label: ReactNode; error?: string | null }) {
  const id = useId();
  return (
    <div className={cx("flex flex-col gap-1.5", className)}>
      <label htmlFor={id} className="text-sm font-medium">
        {label}
      </label>
      <input {...props} id={id} aria-invalid={!!error} aria-describedby={error ? `${id}-error` : undefined} className={inputClass} />
      {error && (
        <p id={`${id}-error`} role="alert" className="text-sm text-danger">
          {error}
        </p>
      )}
    </div>
  );
}
