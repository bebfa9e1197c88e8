import type { ComponentProps } from "react";
import { cx } from "../lib/cx";

const VARIANTS = {
  primary: "bg-accent text-on-accent hover:opacity-90",
  outline: "border bg-raised hover:bg-hover",
  ghost: "hover:bg-hover",
  danger: "bg-danger text-page hover:opacity-90",
};

const SIZES = { md: "h-10 px-4 gap-2", sm: "h-8 px-3 gap-1.5 text-sm", icon: "size-10", "icon-sm": "size-8" };

export interface ButtonProps extends ComponentProps<"button"> {
  variant?: keyof typeof VARIANTS;
  size?: keyof typeof SIZES;
}

export function buttonClass(variant: keyof typeof VARIANTS = "outline", size: keyof typeof SIZES = "md") {
  return cx(
    "inline-flex shrink-0 items-center justify-center rounded-lg font-medium transition-colors select-none",
    "disabled:opacity-50 data-disabled:opacity-50",
    VARIANTS[variant],
    SIZES[size],
  );
}

export function Button({ variant, size, className, ...props }: ButtonProps) {
  return <button type="button" {...props} className={cx(buttonClass(variant, size), className)} />;
}
