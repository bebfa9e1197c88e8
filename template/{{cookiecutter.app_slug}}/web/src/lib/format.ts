import { texts } from "../texts";

/** An amount of micro-dollars, with as many digits as small costs need. */
export function money(microUsd: number): string {
  const usd = microUsd / 1_000_000;
  const digits = usd === 0 || Math.abs(usd) >= 0.1 ? 2 : Math.abs(usd) >= 0.001 ? 4 : 6;
  return new Intl.NumberFormat(undefined, {
    style: "currency",
    currency: "USD",
    minimumFractionDigits: Math.min(digits, 2),
    maximumFractionDigits: digits,
  }).format(usd);
}

export const count = (value: number) => new Intl.NumberFormat().format(value);

/** A file's size in the unit that suits it. */
export function bytes(size: number): string {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const step = size < 1000 ? 0 : Math.min(Math.floor(Math.log10(size) / 3), 3);
  const format = { style: "unit", unit: units[step], unitDisplay: step ? "short" : "long", maximumFractionDigits: step && 1 } as const;
  return new Intl.NumberFormat(undefined, format).format(size / 1000 ** step);
}

export const date = (time: string) => new Intl.DateTimeFormat(undefined, { dateStyle: "medium" }).format(new Date(time));

const DAY = 24 * 60 * 60 * 1000;

/** A time to come, in the reader's language and time zone: "today at 7:00 PM", "on Tuesday, December 1 at 1:00 AM". */
export function when(time: Date, now = new Date()): string {
  const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" }).format(time);
  const midnight = (of: Date) => new Date(of).setHours(0, 0, 0, 0);
  const days = Math.round((midnight(time) - midnight(now)) / DAY); // rounded, as a day may have 23 hours
  if (days === 0 || days === 1) {
    return texts.times.near(new Intl.RelativeTimeFormat(undefined, { numeric: "auto" }).format(days, "day"), clock);
  }
  const date = new Intl.DateTimeFormat(undefined, { weekday: "long", month: "long", day: "numeric" }).format(time);
  return texts.times.far(date, clock);
}
