// The page for an app's admins. It is a shell: what it shows comes from the API, with the token of an admin. Which view,
// time and request it shows stands in the address, so a reload and the browser's buttons lead where they should.
import { ApiError, currentToken, read, signIn, useToken } from "./api.js";
import { chart, forgetCharts } from "./charts.js";
import { $, button, make } from "./dom.js";
import * as figures from "./figures.js";
import { jobsView, peopleView, table } from "./people.js";
import { openRequest, requestsView, scrolled } from "./requests.js";

const { RANGES, compact, counted, dollars, number, percent, seconds, times } = figures;
const DEVELOPMENT = document.body.dataset.development === "true";
const TOKEN = "firelaunch-ops";
const VIEWS = ["overview", "requests", "jobs", "people"];
let app = null;
let drawing = 0;

// ---- Where the page is: #view=requests&range=yesterday&order=failed&request=r0123

function place() {
  const there = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const view = VIEWS.includes(there.view) ? there.view : "overview";
  return { ...there, view, range: there.range in RANGES ? there.range : "today" };
}

const address = (there) => `#${new URLSearchParams(Object.entries(there).filter(([, value]) => value))}`;

function go(changes) {
  location.hash = address({ ...place(), ...changes });
}

// ---- Signing in. The token is kept in this tab alone, and sent to this app and its membership function alone.

function kept(value) {
  try {
    if (value === undefined) return sessionStorage.getItem(TOKEN) ?? "";
    if (value) sessionStorage.setItem(TOKEN, value);
    else sessionStorage.removeItem(TOKEN);
  } catch {}
  return "";
}

$("sign-in").onsubmit = async (event) => {
  event.preventDefault();
  $("sign-in-problem").replaceChildren();
  try {
    if (DEVELOPMENT) await signIn($("uid").value.trim(), "admin");
    else useToken($("token").value.trim().replace(/^Bearer\s+/i, ""));
    await enter();
    $("token").value = "";
  } catch (error) {
    $("sign-in-problem").replaceChildren(problem(error));
  }
};

async function enter() {
  app = await read("/v1/ops/app");
  const { uid } = await read("/v1/me");
  if (app.job) await ended(app.job);
  kept(currentToken());
  $("name").textContent = app.name;
  document.title = `Operations · ${app.name}`;
  $("as").textContent = `Signed in as ${uid}`;
  $("signing-in").hidden = true;
  for (const id of ["who", "signed-in"]) $(id).hidden = false;
  await show();
  $("view").focus({ preventScroll: true });
}

// On a laptop the days are summed up now. The page shows them also if that takes long, or fails.
async function ended(job) {
  for (let tries = 0; tries < 50; tries++) {
    const { finished_at: finished } = await read(`/v1/ops/jobs/${encodeURIComponent(job)}`);
    if (finished) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function leave(error) {
  useToken("");
  kept("");
  app = null;
  forgetCharts();
  $("view").replaceChildren();
  $("request").close();
  for (const id of ["who", "signed-in"]) $(id).hidden = true;
  $("signing-in").hidden = false;
  [$("name").textContent, document.title] = ["Operations", "Operations"];
  if (error) $("sign-in-problem").replaceChildren(problem(error));
  (DEVELOPMENT ? $("uid") : $("token")).focus();
}

$("sign-out").onclick = () => leave();

// ---- Notices and questions.

function problem(error) {
  const text = error instanceof ApiError || error.constructor === Error ? error.message : `The page failed: ${error.message}`;
  const notice = make("div", { className: "problem" }, make("span", {}, text));
  notice.role = "alert";
  if (error.requestId) notice.append(make("span", { className: "faint" }, `Request ${error.requestId}`));
  return notice;
}

function ask(title, note) {
  $("question-title").textContent = title;
  $("question-note").textContent = note;
  const dialog = $("question");
  dialog.returnValue = "";
  dialog.showModal();
  $("question-yes").focus();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
  });
}

$("question-form").onsubmit = (event) => {
  event.preventDefault();
  $("question").close("yes");
};
$("question-no").onclick = () => $("question").close();
$("close-request").onclick = () => $("request").close();
$("request").onclose = () => place().request && go({ request: "" });

// ---- Views

async function show() {
  const there = place();
  showBars(there);
  if (there.request) openRequest(there.request, app, problem);
  else if ($("request").open) $("request").close();
  const key = address({ ...there, request: "" });
  if ($("view").dataset.shows === key) return;
  await draw(there, key);
}

async function draw(there, key) {
  const turn = ++drawing;
  $("view").ariaBusy = "true";
  try {
    const parts = await viewOf(there);
    if (turn !== drawing) return;

    $("view").replaceChildren(...parts);
    $("view").dataset.shows = key;
  } catch (error) {
    if (turn !== drawing) return;
    delete $("view").dataset.shows;
    if (error.status === 401) return leave(new ApiError(401, { message: "Your token has expired. Sign in again." }));
    $("view").replaceChildren(problem(error), button("Try again", refresh));
  } finally {
    if (turn === drawing) $("view").ariaBusy = "false";
  }
}

function refresh() {
  delete $("view").dataset.shows;
  show();
}

async function viewOf(there) {
  if (there.view === "requests") return requestsView(there, app, go);
  if (there.view === "jobs") return jobsView(ask, refresh, problem);
  if (there.view === "people") return peopleView(app, ask, problem);
  return overview(there.range, await figures.loadOverview(there.range));
}

function showBars(there) {
  for (const link of $("views").querySelectorAll("a")) {
    const { view } = Object.fromEntries(new URLSearchParams(link.hash.slice(1)));
    link.hash = address({ view, range: there.range });
    if (view === there.view) link.ariaCurrent = "page";
    else link.removeAttribute("aria-current");
  }
  const timed = there.view === "overview" || there.view === "requests";
  $("ranges").hidden = !timed;
  for (const each of $("ranges").querySelectorAll("[data-range]")) each.ariaPressed = String(each.dataset.range === there.range);
}

for (const [key, { name }] of Object.entries(RANGES)) {
  const choice = button(name, () => go({ range: key, request: "" }), "choice");
  choice.dataset.range = key;
  $("ranges").append(choice);
}
const again = button("↻", refresh, "choice");
again.ariaLabel = "Load again";
$("ranges").append(again);

// ---- The overview

function overview(range, loaded) {
  const { now } = loaded;
  return [
    ...missing(now),
    tiles(loaded),
    why(range, loaded),
    ...budgets(loaded),
    make("div", { className: "grid" }, ...charts(now)),
    make("h2", {}, "What it costs"),
    make("div", { className: "grid" }, ...Object.keys(figures.PARTS).map((part) => costs(part, loaded)), costs("user", loaded)),
    make("h2", {}, "How it goes"),
    make("div", { className: "grid" }, failures(now), refusals(now), split(now)),
  ];
}

const missing = ({ missing: days }) =>
  days.length ? [make("p", { className: "card warning" }, `Not summed up yet, and left out: ${days.join(", ")}. The nightly job does it.`)] : [];

function tiles({ now: { totals }, then, ratings }) {
  const rated = ratings.up + ratings.down;
  const before = then?.totals;
  const tile = (name, value, note) => make("div", { className: "card tile" }, make("dt", {}, name), make("dd", {}, value, ...(note ? [make("small", {}, note)] : [])));
  const against = (earlier, form) => (before ? `${form(earlier)} before` : "");
  return make(
    "dl",
    { className: "tiles" },
    tile("Cost", dollars(totals.cost_micro_usd), against(before?.cost_micro_usd, dollars)),
    tile("Requests", number(totals.requests), against(before?.requests, number)),
    tile("Failed", percent(totals.failed, totals.requests), counted(totals.failed, "request")),
    tile("First token, p95", seconds(totals.first_token_ms.p95), before?.first_token_ms.count ? `${seconds(before.first_token_ms.p95)} before` : ""),
    tile("Answer, p95", seconds(totals.total_ms.p95), before?.total_ms.count ? `${seconds(before.total_ms.p95)} before` : ""),
    tile("Found nothing", percent(totals.empty, totals.searched), `of ${counted(totals.searched, "search", "searches")}`),
    tile("Fallbacks", number(totals.fallbacks), counted(totals.retries, "retry", "retries")),
    tile("From the cache", percent(totals.cached, totals.requests), counted(totals.cached, "request")),
    tile("Rated down", percent(ratings.down, rated), `of ${counted(rated, "rating")}`),
  );
}

function why(range, loaded) {
  const change = figures.changeOf(loaded);
  const title = make("h2", {}, "Why it costs what it costs");
  if (!change) return make("section", { className: "card why" }, title, make("p", { className: "faint" }, "There is nothing to compare this time with."));
  const { rise, earlier, requests, each, causes } = change;
  const parts = [make("p", {}, make("b", {}, sentence(rise)), earlier ? ` than ${RANGES[range].before} (${dollars(earlier)})${rise ? `, ${times((earlier + rise) / earlier)} as much` : ""}. ` : `. In ${RANGES[range].before} nothing was used.`, reasons(requests, each))];
  if (causes.length && rise) {
    const rows = causes.map(({ part, name, by, before }) => [figures.PARTS[part] ?? "User", name, `${by > 0 ? "+" : ""}${dollars(by)}`, percent(Math.abs(by), Math.abs(rise)), before ? dollars(before) : "new"]);
    parts.push(scrolled("What changed most", table(["By", "Most of it", "Change", "Of the change", "Before"], rows)));
  }
  const link = make("a", { href: address({ ...place(), view: "requests", order: "dearest" }) }, "The dearest requests");
  return make("section", { className: "card why" }, title, ...parts, make("p", {}, link));
}

function sentence(rise) {
  if (!rise) return "No more and no less";
  return `${dollars(Math.abs(rise))} ${rise > 0 ? "more" : "less"}`;
}

function reasons(requests, each) {
  if (requests === null || each === null || !each) return "";
  return `There were ${times(requests)} as many requests, and each cost ${times(each)} as much.`;
}

function charts({ points, step }) {
  const at = points.map(figures.timeOf);
  const of = (name) => points.map((point) => point[name]);
  const quantile = (measure, name) => points.map((point) => point[measure][name]);
  const latency = (title, measure) =>
    chart({
      title,
      times: at,
      step,
      form: seconds,
      series: [
        { label: "p50", colour: "c2", values: quantile(measure, "p50") },
        { label: "p95", colour: "c1", values: quantile(measure, "p95"), dash: [8, 4] },
        { label: "p99", colour: "c4", values: quantile(measure, "p99"), dash: [2, 3] },
      ],
    });
  return [
    chart({ title: "Cost", times: at, step, form: dollars, axis: figures.dollarsUpTo(Math.max(...of("cost_micro_usd"), 0)), series: [{ label: "Cost", colour: "c1", values: of("cost_micro_usd"), bars: true }] }),
    chart({
      title: "Requests",
      times: at,
      step,
      form: compact,
      series: [
        { label: "Requests", colour: "c2", values: of("requests"), bars: true },
        { label: "Failed", colour: "bad", values: of("failed"), bars: true },
      ],
    }),
    latency("First token", "first_token_ms"),
    latency("Whole answer", "total_ms"),
  ];
}

function costs(part, loaded) {
  const rows = figures.rowsOf(part, loaded);
  const { period } = loaded.users;
  const title = part === "user" ? `By user, ${period.length > 7 ? period : `all of ${period}`}` : `By ${figures.PARTS[part].toLowerCase()}`;
  const heading = make("h3", {}, title);
  if (!rows.length) return make("section", { className: "card" }, heading, make("p", { className: "faint" }, "Nothing was used."));
  const top = Math.max(...rows.map((row) => row.cost_micro_usd), 1);
  const heads = [part === "user" ? "User" : figures.PARTS[part], "Cost", "Before", "Calls", "In", "Out"];
  const body = rows.slice(0, 10).map((row) => {
    const bar = make("span", { className: "share", ariaHidden: "true" });
    bar.style.width = `${(100 * row.cost_micro_usd) / top}%`;
    const name = make("th", { scope: "row" }, make("span", {}, row.name === "-" ? "none" : row.name), bar);
    const cells = [dollars(row.cost_micro_usd), row.before === null ? "–" : dollars(row.before), compact(row.calls), compact(row.input_tokens), compact(row.output_tokens)];
    return make("tr", {}, name, ...cells.map((text) => make("td", { className: "figure" }, text)));
  });
  const head = make("tr", {}, ...heads.map((text, place) => make("th", { scope: "col", className: place ? "figure" : "" }, text)));
  const whole = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  const section = scrolled(title, heading, whole);
  if (rows.length > 10) section.append(make("p", { className: "faint" }, `${rows.length - 10} more cost less.`));
  return section;
}

function failures(now) {
  const rows = figures.failuresOf(now).map(({ code, number: many }) => [code, number(many), percent(many, now.totals.requests)]);
  const heading = make("h3", {}, "Errors by cause");
  if (!rows.length) return make("section", { className: "card" }, heading, make("p", { className: "faint" }, "No request failed."));
  const link = make("a", { href: address({ ...place(), view: "requests", order: "failed" }) }, "The failed requests");
  return scrolled("Errors by cause", heading, table(["Code", "Requests", "Share"], rows), make("p", {}, link));
}

function refusals(now) {
  const rows = now.refusals.map(({ code, requests }) => [code, number(requests)]);
  const heading = make("h3", {}, "Refused by cause");
  if (!rows.length) return make("section", { className: "card" }, heading, make("p", { className: "faint" }, "No request was refused."));
  return scrolled("Refused by cause", heading, table(["Code", "Requests"], rows));
}

const MEASURES = { total: "Whole answer", first_token: "First token", admission: "Admission", retrieval: "Retrieval", model: "Model", tools: "Tools", store: "Database" };

function split(now) {
  const found = new Map(figures.timesOf(now).map((each) => [each.measure, each]));
  const rows = Object.entries(MEASURES)
    .filter(([name]) => found.has(name))
    .map(([name, label]) => [label, ...["p50", "p95", "p99"].map((each) => seconds(found.get(name)[each])), number(found.get(name).count)]);
  const heading = make("h3", {}, "Where the time of a turn goes");
  if (!rows.length) return make("section", { className: "card" }, heading, make("p", { className: "faint" }, "Nothing was measured."));
  const link = make("a", { href: address({ ...place(), view: "requests", order: "slowest" }) }, "The slowest requests");
  return scrolled("Where the time of a turn goes", heading, table(["Part", "p50", "p95", "p99", "Measured"], rows), make("p", {}, link));
}

const POTS = { day: "Today", month: "This month", guests: "Guests, today" };

function budgets({ budget, now }) {
  const pots = Object.entries(POTS)
    .filter(([name]) => budget[name])
    .map(([name, label]) => pot(label, budget[name]));
  const forecast = figures.forecastOf(now);
  if (!pots.length && !forecast) return [];
  const told = forecast ? [make("p", {}, `${forecast.month} has cost ${dollars(forecast.spent)} so far, and will cost about ${dollars(forecast.total)} if each day that is left costs what the last 7 full days did.`)] : [];
  return [make("section", { className: "card budget" }, make("h2", {}, "Budget"), ...pots, ...told)];
}

function pot(label, { ceiling_micro_usd: ceiling, spent_micro_usd: spent, leased_micro_usd: leased, given_up_micro_usd: lost, fraction, resets_at: resets }) {
  const meter = make("meter", { min: 0, max: 1, low: 0.8, high: 0.999, optimum: 0, value: Math.min(1, fraction), ariaLabel: `${label}: ${percent(fraction, 1)} of the budget` });
  const rest = [`${dollars(leased)} held by running processes`, ...(lost ? [`${dollars(lost)} perhaps spent by processes that died`] : []), `begins anew ${figures.when(resets)}`];
  return make("p", { className: "pot" }, make("b", {}, label), meter, make("span", { className: "used" }, `${dollars(spent)} of ${dollars(ceiling)}`), make("span", { className: "faint" }, rest.join(" · ")));
}

// ---- Begin

$("zone").textContent = `Times are those of ${Intl.DateTimeFormat().resolvedOptions().timeZone}. Days are those of UTC, as budgets are: each begins at ${new Date(Date.UTC(2026, 0, 1)).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" })} for you.`;
$(DEVELOPMENT ? "development" : "deployed").hidden = false;
addEventListener("hashchange", () => app && show());
useToken(kept());
if (currentToken()) enter().catch((error) => leave(error.status === 401 ? null : error));
else leave();
