// The figures of the page: which time it shows, what the API has on it, and what changed since the time before.
import { read } from "./api.js";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

/** The ranges to choose from. Each gives its start and end, in milliseconds; days are those of UTC. */
export const RANGES = {
  hours: { name: "6 hours", of: (now) => [now - 6 * HOUR, now], step: "hour", before: "the 6 hours before" },
  today: { name: "Today", of: (now) => [midnight(now), now], step: "hour", before: "all of yesterday" },
  yesterday: { name: "Yesterday", of: (now) => [midnight(now) - DAY, midnight(now)], step: "hour", before: "the day before" },
  week: { name: "7 days", of: (now) => [midnight(now) - 6 * DAY, now], step: "day", before: "the 7 days before" },
  month: { name: "30 days", of: (now) => [midnight(now) - 29 * DAY, now], step: "day", before: "the 30 days before" },
  quarter: { name: "90 days", of: (now) => [midnight(now) - 89 * DAY, now], step: "day", before: null },
};

const midnight = (time) => Math.floor(time / DAY) * DAY;
const iso = (time) => new Date(time).toISOString();
export const dayOf = (time) => iso(time).slice(0, 10);

/** The time at which the hour or the day of a point begins. */
export const timeOf = ({ at }) => Date.parse(at);

/** The start and end of a range, and the start of the time that it is compared with. */
export function spanOf(key, now = Date.now()) {
  const [start, end] = RANGES[key].of(now);
  const length = key === "hours" ? end - start : Math.ceil((end - start) / DAY) * DAY;
  return { start, end, before: start - length };
}

/** The sums of a range, those before it, the dearest users of both, and the budget. */
export async function loadOverview(key) {
  const { step, before } = RANGES[key];
  const span = spanOf(key);
  const query = { from: iso(span.start), to: iso(span.end), step, ...(before && { before: iso(span.before) }) };
  const given = { from: query.from, to: query.to, limit: 1 };
  const [now, users, budget, ratings] = await Promise.all([
    read(`/v1/ops/sums?${new URLSearchParams(query)}`),
    loadUsers(key, span),
    read("/v1/ops/budget"),
    read(`/v1/ops/ratings?${new URLSearchParams(given)}`),
  ]);
  return { now, then: now.before, users, budget, ratings };
}

/** What users used is summed by the day and the month, so a range of days shows the month that it ends in. */
async function loadUsers(key, { start }) {
  const oneDay = key === "today" || key === "yesterday";
  const month = dayOf(Date.now()).slice(0, 7);
  const periods = oneDay ? [dayOf(start), dayOf(start - DAY)] : [month, null];
  const of = (period) => (period ? read(`/v1/ops/users?${new URLSearchParams({ period, limit: key === "quarter" ? 5 : 10 })}`) : null);
  const [now, then] = await Promise.all(periods.map(of));
  return { period: periods[0], now: now.items, then: then?.items ?? null };
}

/** The parts by which calls are told apart, as people call them. */
export const PARTS = { model: "Model", prompt: "Prompt", purpose: "Feature", plan: "Plan" };

/** Rows of one part with what each cost before; null where that is not known. */
export function rowsOf(part, { now, then, users }) {
  const [rows, earlier] = part === "user" ? usersOf(users) : [now.by[part], then?.by[part] ?? null];
  const before = new Map((earlier ?? []).map((row) => [row.name, row.cost_micro_usd]));
  const known = part === "user" ? earlier !== null && earlier.length < 10 : earlier !== null;
  return rows.map((row) => ({ ...row, before: before.get(row.name) ?? (known ? 0 : null) }));
}

const usersOf = ({ now, then }) => [now.map(named), then ? then.map(named) : null];
const named = (row) => ({ ...row, name: row.uid });

/** Why the cost changed: by how much, whether by more requests or by dearer ones, and who and what most of it is. */
export function changeOf(overview) {
  const { now, then } = overview;
  if (!then) return null;
  const [cost, earlier] = [now.totals.cost_micro_usd, then.totals.cost_micro_usd];
  const rise = cost - earlier;
  const causes = [...Object.keys(PARTS), "user"]
    .map((part) => ({ part, rows: rowsOf(part, overview) }))
    .filter(({ part, rows }) => rows.length > 1 || (earlier && rows[0]?.before === 0) || part === "user") // else it says nothing
    .map(({ part, rows }) => ({ part, row: biggest(rows, rise) }))
    .filter(({ row }) => row)
    .map(({ part, row }) => ({ part, name: row.name, by: row.cost_micro_usd - row.before, before: row.before }));
  return {
    rise,
    cost,
    earlier,
    requests: ratio(now.totals.requests, then.totals.requests),
    each: ratio(per(now.totals), per(then.totals)),
    causes: causes.sort((a, b) => Math.abs(b.by) - Math.abs(a.by)),
  };
}

const per = ({ cost_micro_usd: cost, requests }) => (requests ? cost / requests : 0);
const ratio = (now, then) => (then ? now / then : null);

function biggest(rows, rise) {
  const moved = rows.filter((row) => row.before !== null && (row.cost_micro_usd - row.before) * rise > 0);
  return moved.sort((a, b) => Math.abs(b.cost_micro_usd - b.before) - Math.abs(a.cost_micro_usd - a.before))[0];
}

/** What the month will cost, as `firelaunch costs` reckons it: each day that is left costs what the last 7 full days did. */
export function forecastOf({ points, step }, now = Date.now()) {
  const [today, month] = [dayOf(now), dayOf(now).slice(0, 7)];
  if (step !== "day" || !points.some((point) => dayOf(timeOf(point)) === `${month}-01`)) return null;
  const cost = new Map(points.map((point) => [dayOf(timeOf(point)), point.cost_micro_usd]));
  const spent = points.filter((point) => dayOf(timeOf(point)).startsWith(month)).reduce((sum, point) => sum + point.cost_micro_usd, 0);
  const full = [7, 6, 5, 4, 3, 2, 1].map((back) => cost.get(dayOf(now - back * DAY)) ?? 0);
  while (full.length && !full[0]) full.shift();
  const soFar = cost.get(today) ?? 0;
  const mean = full.length ? full.reduce((sum, each) => sum + each, 0) / full.length : soFar;
  const days = new Date(Date.UTC(Number(month.slice(0, 4)), Number(month.slice(5)), 0)).getUTCDate();
  const left = days - Number(today.slice(8));
  return { month, spent, total: spent + Math.max(0, mean - soFar) + left * mean };
}

/** Requests that ended with an error, by its code, most first. */
export function failuresOf({ requests }) {
  const codes = new Map();
  for (const { end, requests: number } of requests) {
    if (end.startsWith("error:")) codes.set(end.slice(6), (codes.get(end.slice(6)) ?? 0) + number);
  }
  return [...codes].map(([code, number]) => ({ code, number })).sort((a, b) => b.number - a.number);
}

/** The times of turns by measure; a measure of several kinds of requests is shown of turns alone. */
export const timesOf = ({ times }) => times.filter(({ kind }) => kind === "turn");

// ---- Figures as people read them.

export const number = (value) => value.toLocaleString(undefined, { maximumFractionDigits: value < 10 ? 1 : 0 });
export const percent = (part, whole) => (whole ? `${number((100 * part) / whole)}%` : "–");
export const dollars = (micro) => {
  const value = micro / 1e6;
  const digits = Math.abs(value) >= 0.1 || value === 0 ? 2 : Math.abs(value) >= 0.001 ? 4 : 6;
  return `${value < 0 ? "−" : ""}$${Math.abs(value).toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
};
/** Dollars with as many digits as the largest of some amounts has. */
export const dollarsUpTo = (top) => {
  const digits = dollars(top).split(/\D/).at(-1).length;
  return (micro) => `$${(micro / 1e6).toFixed(digits)}`;
};
export const seconds = (ms) => {
  if (ms === null || ms === undefined) return "–";
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toLocaleString(undefined, { maximumFractionDigits: ms < 10_000 ? 2 : 1 })} s`;
};
export const compact = (value) => value.toLocaleString(undefined, { notation: "compact", maximumFractionDigits: 1 });
export const counted = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;
export const times = (value) => `${value.toLocaleString(undefined, { maximumFractionDigits: value < 10 ? 1 : 0 })}×`;
export const when = (time) => new Date(time).toLocaleString(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
