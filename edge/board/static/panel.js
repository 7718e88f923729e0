/* One panel: heading, question, SQL, and a body that is a number, a table or a chart; says in words when there is nothing to show. */

import { anomaly, shown } from "./anomaly.js";
import { Chart } from "./chart.js";
import { el } from "./dom.js";
import { counted, heading, level, parts, show, unitOf } from "./format.js";

let mine = null;
document.addEventListener("mine", ({ detail }) => {
  mine = detail;
  document.querySelectorAll("tr:has([data-opens])").forEach(mark);
});

/** The viewer's own session stands out. */
const mark = (row) => row.classList.toggle("mine", Boolean(mine) && row.querySelector("[data-opens]").dataset.opens === mine);

/** Columns of names, also where a name is a number or there is none yet; others are text where a value is. */
const TEXT = new Set(["sid", "title", "device", "oca", "isp", "region", "player", "tier", "status", "health", "reason", "component", "topic", "experiment", "state", "job", "source", "destination", "site", "software", "first_play_utc", "premiere", "instead_of", "causes", "step", "verdict", "why"]);
const FILTERS = new Set(["title", "device", "oca", "isp", "region", "player"]);
const BARS = ["plays", "requests", "letters", "events", "checkpoints"];

export class PanelView {
  /** `opens(value)` is called with a row's key where rows can be opened; `narrows(filter, value)` when a filter's value in a table is pressed;
   * `explain(panel)` shows the SQL. */
  constructor(panel, { opens, narrows, explain }) {
    this.panel = panel;
    this.opens = opens;
    this.narrows = narrows;
    this.body = el("div.body");
    this.note = el("p.note", { hidden: true });
    this.root = el(
      `article.panel.${panel.show}.w${panel.width}`,
      { id: `${panel.board}-${panel.name}` },
      el(
        "header", {},
        el("h3", { title: panel.question }, panel.title),
        el("button.quiet", { type: "button", title: `Question and SQL of “${panel.title}”`, "aria-label": `Question and SQL of ${panel.title}`, onclick: () => explain(panel) }, "SQL"),
      ),
      this.body,
      this.note,
    );
    this.note.textContent = "asking the warehouse";
    this.note.hidden = false;
    this.body.hidden = true;
  }

  /** Show an answer of the API: rows, or an error in words. */
  update(answer, window) {
    const words = answer.error ?? (answer.rows === 0 ? this.panel.empty : null);
    this.root.classList.toggle("failed", Boolean(answer.error) && !answer.error.startsWith("no tables yet"));
    this.note.hidden = words === null;
    this.body.hidden = words !== null;
    if (words !== null) {
      if (this.note.textContent !== words) this.note.textContent = words;
      return;
    }
    this.answer = answer;
    if (this.panel.show === "number") this.number(answer);
    else if (this.panel.show === "table") this.table(answer);
    else (this.chart ??= new Chart(this.body, this.panel)).update(answer, window);
  }

  number({ columns, values }) {
    if (!this.figure) {
      this.figure = el("b");
      this.unit = el("span.unit");
      this.rest = el("p.rest");
      this.verdict = el("span.verdict");
      this.body.append(el("p.figure", {}, this.figure, this.unit, this.verdict), this.rest);
    }
    const [figure, unit] = parts(values[0][0], this.panel.unit);
    const reached = level(values[0][0], this.panel.thresholds);
    put(this.figure, figure);
    put(this.unit, unit);
    put(this.verdict, { bad: "▲ bad", warn: "▲ high", "": "" }[reached]);
    this.root.dataset.level = reached;
    put(this.rest, columns.slice(1).map((c, i) => counted(values[i + 1][0], c)).join(" · "));
  }

  table(answer) {
    const places = shown(answer.columns);
    const columns = places.map((i) => answer.columns[i]);
    const values = places.map((i) => answer.values[i]);
    const texts = columns.map((c, i) => TEXT.has(c) || (unitOf(c) !== "time" && values[i].some((value) => typeof value === "string")));
    const shape = columns.map((c, i) => `${c} ${texts[i]}`).join("\n");
    if (this.shape !== shape) {
      this.shape = shape;
      this.rows = el("tbody");
      const heads = columns.map((c, i) => el(texts[i] || unitOf(c) === "time" ? "th" : "th.figure", { scope: "col" }, heading(c)));
      this.body.replaceChildren(el("div.scroll", { tabindex: 0 }, el("table", {}, el("thead", {}, el("tr", {}, ...heads)), this.rows)));
    }
    const count = values[0].length;
    const bar = columns.findIndex((c) => BARS.includes(c));
    const most = bar < 0 ? 1 : Math.max(1, ...values[bar]);
    while (this.rows.children.length > count) this.rows.lastChild.remove();
    while (this.rows.children.length < count) this.rows.append(this.row(columns, texts));
    for (let r = 0; r < count; r += 1) {
      const cells = this.rows.children[r].children;
      columns.forEach((column, c) => {
        const value = values[c][r];
        const target = cells[c].firstElementChild ?? cells[c];
        put(target, texts[c] ? (value ?? "–") : show(value, unitOf(column)));
        if (c === 0) cells[c].title = target.textContent;
        if (column === this.panel.opens) target.dataset.opens = value;
        if (FILTERS.has(column)) Object.assign(target, { value: value ?? "", disabled: value === null, title: value === null ? "" : `Only ${value}, or all again` });
        if (column === "status" || column === "health") cells[c].dataset[column] = value ?? "";
        const unusual = anomaly(answer, places[c], r, unitOf(column));
        cells[c].dataset.anomaly = unusual?.side ?? "";
        if (c > 0) cells[c].title = unusual?.words ?? "";
        if (c === bar) cells[c].style.setProperty("--share", value / most);
      });
      if (this.panel.opens) mark(this.rows.children[r]);
    }
  }

  row(columns, texts) {
    return el(
      "tr", {},
      ...columns.map((column, c) => {
        const label = { "data-label": heading(column) };
        if (column === this.panel.opens) {
          return el("td", label, el("button.link", { type: "button", title: "Open the timeline", onclick: (e) => this.opens(e.currentTarget.dataset.opens) }));
        }
        if (FILTERS.has(column)) return el("td", label, el("button.narrow", { type: "button", onclick: (e) => this.narrows(column, e.currentTarget.value) }));
        if (texts[c] || unitOf(column) === "time") return el("td", label);
        return el(BARS.includes(column) ? "td.figure.bar" : "td.figure", label);
      }),
    );
  }
}

/** Write text only where it changed, so that nothing flickers and a selection stays. */
function put(node, text) {
  if (node.textContent !== String(text)) node.textContent = text;
}
