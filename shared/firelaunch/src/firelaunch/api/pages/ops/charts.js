// Charts over time, drawn by uPlot. Each has its figures as a table, too, for whoever does not see it.
import { make } from "./dom.js";

const { uPlot } = window;
const HEIGHT = 180;
const drawn = new Set();

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Forget the charts of a view that is gone. */
export function forgetCharts() {
  for (const chart of drawn) chart.plot?.destroy();
  drawn.clear();
}

/**
 * A chart. `times` are in milliseconds; each series has a `label`, a `colour` (the name of a variable of the style),
 * `values`, and `bars` or a `dash`. `form` writes a value, and `axis` one beside the axis.
 */
export function chart({ title, times, series, form, step, axis = form }) {
  const readout = make("span", { className: "readout" });
  const legend = make("span", { className: "legend", ariaHidden: "true" }, ...series.map(key));
  const host = make("div", { className: "plot" });
  host.role = "img";
  host.ariaLabel = `${title}: a chart. Its figures are in the table below it.`;
  const figure = make(
    "figure",
    { className: "card chart" },
    make("figcaption", {}, make("h3", {}, title), legend, readout),
    host,
    table(title, times, series, form, step),
  );
  const own = { host, options: { times, series, form, step, axis, readout }, plot: null };
  drawn.add(own);
  requestAnimationFrame(() => draw(own));
  return figure;
}

function key({ label, colour: name }) {
  const mark = make("i", { className: `key ${name}` });
  return make("span", {}, mark, label);
}

function table(title, times, series, form, step) {
  const head = make("tr", {}, make("th", { scope: "col" }, "Time"), ...series.map(({ label }) => make("th", { scope: "col" }, label)));
  const rows = times.map((time, at) =>
    make("tr", {}, make("th", { scope: "row" }, moment(time, step)), ...series.map(({ values }) => make("td", {}, values[at] === null ? "–" : form(values[at])))),
  );
  const whole = make("table", {}, make("caption", { className: "unseen" }, title), make("thead", {}, head), make("tbody", {}, ...rows));
  const scrolled = make("div", { className: "scrolled", tabIndex: 0, ariaLabel: `${title}, as a table` }, whole);
  scrolled.role = "region";
  return make("details", {}, make("summary", {}, "As a table"), scrolled);
}

function draw(own) {
  if (!own.host.isConnected) return;
  const { times, series, form, step, readout } = own.options;
  own.plot?.destroy();
  const length = step === "day" ? 86_400 : 3_600;
  const data = [times.map((time) => time / 1000), ...series.map(({ values }) => values)];
  const look = { stroke: colour("faint"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 }, font: "12px system-ui, sans-serif" };
  const last = times.length ? times.at(-1) / 1000 + length : undefined;
  const utc = { tzDate: (time) => uPlot.tzDate(new Date(time * 1000), "UTC") };
  const options = {
    ...(step === "day" ? utc : {}),
    width: own.host.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
    scales: { x: { time: true, range: times.length ? [times[0] / 1000, last] : undefined }, y: { range: (_, __, top) => [0, top > 0 ? top * 1.08 : 1] } },
    axes: [{ ...look, space: 70 }, { ...look, size: 64, values: (_, marks) => marks.map(own.options.axis) }],
    series: [{}, ...series.map((each) => drawing(each))],
    hooks: { setCursor: [(plot) => { readout.textContent = told(plot.cursor.idx, own.options); }] },
  };
  own.plot = new uPlot(options, data, own.host);
}

function drawing({ label, colour: name, bars, dash }) {
  const stroke = colour(name);
  const points = { show: !bars, size: 5, fill: stroke };
  if (bars) return { label, stroke, fill: stroke, width: 0, points, paths: uPlot.paths.bars({ size: [0.8, 60], align: 1 }) };
  return { label, stroke, width: 2, dash, points, spanGaps: true };
}

function told(at, { times, series, form, step }) {
  if (at === null || at === undefined) return "";
  const parts = series.map(({ label, values }) => `${label} ${values[at] === null ? "–" : form(values[at])}`);
  return `${moment(times[at], step)} · ${parts.join(" · ")}`;
}

function moment(time, step) {
  const day = { month: "short", day: "numeric" };
  if (step === "day") return new Date(time).toLocaleDateString(undefined, { ...day, timeZone: "UTC" });
  return new Date(time).toLocaleString(undefined, { ...day, hour: "2-digit", minute: "2-digit" });
}

const redraw = () => {
  for (const each of drawn) draw(each);
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let resizing = 0;
addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(redraw, 100);
});
