// Requests: the slowest, dearest, failed and worst-rated ones, and each as a waterfall.
import { read } from "./api.js";
import { $, button, make } from "./dom.js";
import { RANGES, dollars, number, seconds, spanOf, when } from "./figures.js";

const ORDERS = { dearest: "Dearest", slowest: "Slowest", failed: "Failed", down: "Rated down", up: "Rated up", latest: "Latest" };
const LIMIT = 20;

/** The view of requests: a list in one order, and what a row opens. */
export async function requestsView(place, app, go) {
  const order = place.order in ORDERS ? place.order : "dearest";
  const orders = Object.entries(ORDERS).map(([name, label]) => {
    const choice = button(label, () => go({ order: name }), "choice");
    choice.ariaPressed = String(name === order);
    return choice;
  });
  const choices = make("div", { className: "row", ariaLabel: "Which requests" }, ...orders);
  choices.role = "group";
  const rated = order === "down" || order === "up";
  const rows = rated ? await ratings(order, place.range) : await requests(order, place.range);
  const note = rated ? `${RANGES[place.range].name}, by when they were rated, the latest first. Records are kept for 30 days.` : `${RANGES[place.range].name}, whole days in UTC. Records are kept for 30 days.`;
  return [choices, make("p", { className: "faint" }, note), rows.length ? list(rows, rated, go) : nothing(order)];
}

const nothing = (order) => make("p", { className: "card empty" }, order === "failed" ? "No request failed." : "There are none.");

async function requests(order, key) {
  const { start, end } = spanOf(key);
  const from = Math.max(start, Date.now() - 28 * 86_400_000); // the longest list that there is
  const [first, last] = [from, Math.max(from, end - 1)].map((time) => new Date(time).toISOString());
  const { items } = await read(`/v1/ops/requests?${new URLSearchParams({ from: first, to: last, order, limit: LIMIT })}`);
  return items;
}

async function ratings(value, key) {
  const [from, to] = [spanOf(key).start, spanOf(key).end].map((time) => new Date(time).toISOString());
  const { items } = await read(`/v1/ops/ratings?${new URLSearchParams({ rating: value, from, to, limit: LIMIT })}`);
  return items.map((each) => ({ id: each.request_id, uid: each.uid, created_at: each.rated_at, outcome: each.reason ?? "", prompt: each.prompt, usage: { model: each.model, cost_micro_usd: each.cost_micro_usd } }));
}

function list(rows, rated, go) {
  const heads = ["When", "User", "Model", ...(rated ? ["Prompt", "Reason"] : ["Ended", "First token", "Total"]), "Cost"];
  const body = rows.map((each) => {
    const open = button(when(each.created_at), () => go({ request: each.id }), "open");
    open.ariaLabel = `Open the request of ${when(each.created_at)} by ${each.uid ?? "the app"}`;
    const ended = make("td", { className: each.error ? "bad" : "" }, each.error ?? each.outcome ?? each.state ?? "–");
    const middle = rated
      ? [make("td", {}, each.prompt ?? "–"), make("td", {}, each.outcome || "–")]
      : [ended, figure(seconds(each.first_token_ms)), figure(seconds(each.total_ms))];
    const cost = figure(each.usage ? dollars(each.usage.cost_micro_usd ?? 0) : "–");
    return make("tr", {}, make("th", { scope: "row" }, open), make("td", {}, each.uid ?? "the app"), make("td", {}, each.usage?.model ?? "–"), ...middle, cost);
  });
  const head = make("tr", {}, ...heads.map((text) => heading(text)));
  return scrolled("Requests", make("table", { className: "wide-table" }, make("thead", {}, head), make("tbody", {}, ...body)));
}

const figure = (text) => make("td", { className: "figure" }, text);
const FIGURES = new Set(["First token", "Total", "Cost", "In", "Cached", "Out"]);
const heading = (text) => make("th", { scope: "col", className: FIGURES.has(text) ? "figure" : "" }, text);

/** A table that scrolls sideways where it is too wide, and that the keyboard reaches. */
export function scrolled(label, ...children) {
  const region = make("div", { className: "card scrolled", tabIndex: 0, ariaLabel: label }, ...children);
  region.role = "region";
  return region;
}

// ---- One request

/** Show one request in its dialog. */
export async function openRequest(id, app, problem) {
  const body = $("request-body");
  body.replaceChildren(make("p", { className: "faint" }, "Loading …"));
  $("request-title").textContent = `Request ${id}`;
  if (!$("request").open) $("request").showModal();
  try {
    const path = `/v1/ops/requests/${encodeURIComponent(id)}`;
    const [record, { items }] = await Promise.all([read(path), read(`${path}/calls`)]);
    body.replaceChildren(...facts(record, items), waterfall(record, items), ...calls(items), links(record, app, problem));
  } catch (error) {
    body.replaceChildren(problem(error.status === 404 ? new Error("The record of this request is gone: records are kept for 30 days.") : error));
  }
}

function facts(record, items) {
  const { usage, retrieval } = record;
  const prompts = [...new Set(items.map(({ prompt }) => prompt).filter(Boolean))];
  const pairs = [
    ["Began", when(record.created_at)],
    ["User", record.uid ?? "the app"],
    ["Plan", record.plan],
    ["Kind", record.kind],
    ["Ended", record.error ? `${record.outcome}: ${record.error}` : (record.outcome ?? record.state)],
    ["Prompt", prompts.join(", ") || "none"],
    ["Cost", usage ? dollars(usage.cost_micro_usd) : "–"],
    ["Tokens", usage ? `${number(usage.input_tokens)} in, ${number(usage.output_tokens)} out` : "–"],
    ["Marks", [usage?.cached && "from the cache", usage?.cheaper_model && "the cheaper model", usage?.estimated && "estimated"].filter(Boolean).join(", ") || "none"],
    ["Search", retrieval ? `${retrieval.passages} passages (${retrieval.mode}), ${retrieval.cited} cited` : "none"],
  ];
  return [make("dl", { className: "facts" }, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]))];
}

/** Bars on one scale of time: what ran when, as far as the records know. */
function waterfall(record, items) {
  const began = Date.parse(record.created_at);
  const bars = [];
  const add = (name, from, length, kind, note = "") => length !== null && length !== undefined && bars.push({ name, from: Math.max(0, from), length, kind, note });
  add("Whole request", 0, record.total_ms, "c4", record.tools_ms ? `of it tools ${seconds(record.tools_ms)}` : "");
  add("Admission", 0, record.admission_ms, "c2", record.store_ms ? `of it the database ${seconds(record.store_ms)}` : "");
  add("Retrieval", 0, record.retrieval?.ms, "c3");
  for (const call of items) {
    const [start, first, end] = [call.started_at, call.first_token_at, call.finished_at].map((time) => (time ? Date.parse(time) : null));
    const note = [call.error, first && `first token after ${seconds(first - start)}`, dollars(call.cost_micro_usd)].filter(Boolean).join(", ");
    add(`${call.step ? "Model" : "Embedding"}: ${call.model}`, start - began, end - start, call.error ? "bad" : "c1", note);
  }
  const whole = Math.max(...bars.map(({ from, length }) => from + length), 1);
  const rows = bars.map(({ name, from, length, kind, note }) => {
    const bar = make("span", { className: `span ${kind}` });
    bar.style.left = `${(100 * from) / whole}%`;
    bar.style.width = `${Math.max(0.4, (100 * length) / whole)}%`;
    const lane = make("span", { className: "lane", ariaHidden: "true" }, bar);
    const text = make("span", { className: "faint" }, `${seconds(length)}${from ? ` from ${seconds(from)}` : ""}${note ? ` · ${note}` : ""}`);
    return make("li", {}, make("span", { className: "name" }, name), lane, text);
  });
  return make("section", {}, make("h3", {}, "Where the time went"), make("ol", { className: "waterfall" }, ...rows));
}

function calls(items) {
  if (!items.length) return [];
  const heads = ["Step", "For", "Model", "Prompt", "In", "Cached", "Out", "Cost", "Ended"];
  const rows = items.map((call) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, String(call.step)),
      ...[call.purpose, call.model, call.prompt ?? "–"].map((text) => make("td", {}, text)),
      ...[call.input_tokens, call.cached_input_tokens, call.output_tokens].map((value) => figure(number(value))),
      figure(dollars(call.cost_micro_usd)),
      make("td", { className: call.error ? "bad" : "" }, call.error ?? call.finish ?? "–"),
    ),
  );
  const head = make("tr", {}, ...heads.map((text) => heading(text)));
  return [make("h3", {}, "Model calls"), scrolled("Model calls", make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)))];
}

function links(record, app, problem) {
  const said = make("div", {});
  const show = button("Show what was said", async () => {
    show.disabled = true;
    try {
      said.replaceChildren(...contents(await read(`/v1/ops/requests/${encodeURIComponent(record.id)}/contents`)));
    } catch (error) {
      show.disabled = false;
      said.replaceChildren(problem(error));
    }
  });
  const row = make("p", { className: "row" }, ...(record.chat_id ? [show] : []), ...cloudLogging(record, app));
  const note = record.chat_id ? [make("p", { className: "faint" }, "These are the user's words. The audit log will say that you read them.")] : [];
  return make("section", { className: "said" }, row, ...note, said);
}

function cloudLogging(record, app) {
  if (!app.project) return [];
  const from = new Date(Date.parse(record.created_at) - 60_000).toISOString();
  const to = new Date(Date.parse(record.settled_at ?? record.created_at) + 60_000).toISOString();
  const names = [record.log_id && `jsonPayload.request_id="${record.log_id}"`, record.trace && `trace="projects/${app.project}/traces/${record.trace}"`, `"${record.id}"`];
  const query = `resource.type="cloud_run_revision"\nresource.labels.service_name="${app.app_id}"\n(${names.filter(Boolean).join(" OR ")})`;
  const href = `https://console.cloud.google.com/logs/query;query=${encodeURIComponent(query)};timeRange=${encodeURIComponent(`${from}/${to}`)}?project=${encodeURIComponent(app.project)}`;
  return [make("a", { className: "button", href, target: "_blank", rel: "noopener noreferrer" }, "Cloud Logging")];
}

function contents({ question, answer, passages, rating }) {
  const part = (title, text) => [make("h4", {}, title), make("p", { className: "text" }, text ?? "Gone, or replaced since.")];
  const cited = passages.map((each) => make("li", {}, make("b", {}, [`[${each.number}]`, each.title, each.page && `page ${each.page}`].filter(Boolean).join(" ")), ...(each.text ? [make("p", { className: "text" }, each.text)] : [])));
  return [
    ...part("Question", question),
    ...part("Answer", answer),
    ...(cited.length ? [make("h4", {}, "Passages that it cites"), make("ol", { className: "passages" }, ...cited)] : []),
    ...(rating ? part(`Rated ${rating.value}${rating.reason ? `: ${rating.reason}` : ""}`, rating.text || "Without words.") : []),
  ];
}
