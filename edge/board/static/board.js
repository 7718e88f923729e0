/* The page: reads the boards, follows them live, keeps range and filters in the address. */

import { json } from "./api.js";
import { zoomTo } from "./chart.js";
import { el } from "./dom.js";
import { clock, moment, show } from "./format.js";
import { PanelView } from "./panel.js";
import { playing } from "./playing.js";
import { openSession } from "./session.js";
import { strip } from "./strip.js";
import { openTour } from "./tour.js";

const SPANS = [[300, "5 min"], [900, "15 min"], [3600, "1 h"], [21_600, "6 h"], [86_400, "24 h"], [604_800, "7 d"]];
const FILTERS = [...document.querySelectorAll("[data-filter]")].map((select) => select.dataset.filter);

const $ = (id) => document.getElementById(id);
const state = new URLSearchParams(location.search);
const span = () => Number(state.get("span_s") ?? 900);
const views = new Map();
let streams = [];
let shown = [];

function say(level, words) {
  $("live").dataset.level = level;
  $("live").lastElementChild.textContent = words;
}

const facts = ({ unit, thresholds, reads, params }) => [
  ["Unit", unit || "each column's own"],
  ["Warns", thresholds.map((t) => `${t.level} ${t.below ? "below" : "from"} ${show(t.value, unit)}`).join(", ") || "never"],
  ["Reads", ...Object.entries(reads).map(([table, topic]) => (topic ? el("a", { href: `/catalogue?topic=${encodeURIComponent(topic)}` }, table) : table))],
  ["Bound by ClickHouse", Object.keys(params).join(", ")],
];

function explain(panel) {
  const sheet = $("sql");
  const copy = el("button", { type: "button", onclick: () => navigator.clipboard.writeText(panel.sql).then(() => (copy.textContent = "Copied")) }, "Copy");
  sheet.replaceChildren(
    el("header", {}, el("div", {}, el("h2", {}, panel.title), el("p", {}, panel.question)), el("button.quiet", { type: "button", "aria-label": "Close", onclick: () => sheet.close() }, "✕")),
    el("dl.facts", {}, ...facts(panel).map(([name, ...told]) => el("div", {}, el("dt", {}, name), ...told.map((one) => el("dd", {}, one))))),
    el("pre", { tabindex: 0 }, el("code", {}, panel.sql)),
    el("footer", {}, el("code", {}, panel.file), copy),
  );
  sheet.showModal();
}

function build({ boards, namespace }) {
  if (namespace) {
    $("namespace").textContent = namespace;
    $("namespace").hidden = false;
  }
  const tiles = strip();
  $("boards").append(tiles);
  $("boards").append(playing({ opens: openSession, chosen: () => Object.fromEntries(FILTERS.map((f) => [f, state.get(f) ?? ""])) }));
  for (const board of boards) {
    const grid = el("div.grid");
    for (const panel of board.panels) {
      const view = new PanelView(panel, { opens: openSession, narrows, explain });
      views.set(`${board.name}/${panel.name}`, view);
      (board.name === "pipeline" && panel.show === "number" ? tiles : grid).append(view.root);
    }
    $("boards").append(el(`section.board.${board.name}`, { "aria-label": board.title }, el("h2", {}, board.title), grid));
  }
}

function follow(boards) {
  streams.forEach((stream) => stream.close());
  streams = boards.map(({ name }) => {
    const query = new URLSearchParams([["span_s", span()], ...FILTERS.map((f) => [f, state.get(f) ?? ""])]);
    const stream = new EventSource(`/api/live/${name}?${query}`);
    let window = { from: Date.now() - span() * 1000, to: Date.now() };
    stream.addEventListener("panel", (event) => {
      const answer = JSON.parse(event.data);
      views.get(`${name}/${answer.name}`)?.update(answer, window);
    });
    stream.addEventListener("tick", (event) => {
      window = JSON.parse(event.data);
      for (const [key, view] of views) if (key.startsWith(`${name}/`) && view.chart) Object.assign(view.chart, { window }).rescale();
      $("range").textContent = `${moment(window.from)} – ${clock(window.to)}`;
      say("good", "live");
    });
    stream.onerror = () => say("bad", "the board does not answer; trying again");
    return stream;
  });
}

/** Ask again: range or filters are other ones. */
function change() {
  history.replaceState(null, "", `?${state}`);
  zoomTo(null);
  follow(shown);
  choices();
}

/** One filter set to a value, or let go: what "" or the value that it already has stands for. */
function narrows(filter, value) {
  if (value && state.get(filter) !== value) state.set(filter, value);
  else state.delete(filter);
  change();
}

function controls() {
  $("spans").append(
    ...SPANS.map(([seconds, label]) =>
      el("label", {}, el("input", { type: "radio", name: "span", value: seconds, checked: seconds === span(), onchange: () => (state.set("span_s", seconds), change()) }), el("span", {}, label)),
    ),
  );
  document.querySelectorAll("[data-filter]").forEach((select) =>
    select.addEventListener("change", () => narrows(select.dataset.filter, select.value)),
  );
  $("unzoom").addEventListener("click", () => zoomTo(null));
  document.addEventListener("zoom", ({ detail }) => ($("unzoom").hidden = !detail));
  $("open-tour").addEventListener("click", () => openTour());
}

/** Fill the filters with what was seen in the range; what is chosen stays chosen. */
async function choices() {
  const now = Date.now();
  const { columns, values } = await json(`/api/panel/filters/values?from=${now - span() * 1000}&to=${now}`).catch(() => ({ columns: [] }));
  const rows = columns.length ? values[0].map((filter, i) => [filter, values[1][i]]) : [];
  document.querySelectorAll("[data-filter]").forEach((select) => {
    const name = select.dataset.filter;
    const chosen = state.get(name) ?? "";
    const found = new Set(rows.filter(([filter]) => filter === name).map(([, value]) => value));
    if (chosen) found.add(chosen);
    select.replaceChildren(el("option", { value: "" }, "all"), ...[...found].map((value) => el("option", { value, selected: value === chosen }, value)));
  });
}

try {
  const found = await json("/api/boards");
  shown = found.boards;
  build(found);
  controls();
  follow(shown);
  choices();
  setInterval(choices, 15_000);
  if (state.has("sid")) openSession(state.get("sid"));
  if (state.has("tour")) openTour();
} catch (error) {
  say("bad", error.message);
}
