/* Lines and stacked bars over time, on uPlot. All charts of the page share a cursor and a zoom. */

import uPlot from "/vendor/uplot.js";
import { anomaly, shown } from "./anomaly.js";
import { el, token } from "./dom.js";
import { parts, show } from "./format.js";

const TIP_PX = 215;
const COUNTS = new Set(["plays", "offsets", "letters", "answers", "requests"]);
const charts = new Set();
const sync = uPlot.sync("board");
let zoom = null;

/** The zoomed range in ms, or null; set through `zoomTo`. */
export function zoomTo(range) {
  zoom = range;
  for (const chart of charts) chart.rescale();
  document.dispatchEvent(new CustomEvent("zoom", { detail: zoom }));
}

document.addEventListener("theme", () => charts.forEach((chart) => chart.rebuild()));

export class Chart {
  /** Draws into `body`; `panel` says unit, thresholds and whether it is a line or a bar. */
  constructor(body, panel) {
    this.panel = panel;
    this.legend = el("ul.legend");
    this.canvas = el("div.canvas");
    body.append(this.legend, this.canvas);
    this.names = [];
    this.data = [[]];
    this.window = null;
    new ResizeObserver(() => this.fit()).observe(this.canvas);
    charts.add(this);
  }

  /** Show new rows; zoom, cursor and legend stay as they are. `window` is {from, to} in ms. */
  update(answer, window) {
    const { columns, values } = answer;
    this.window = window;
    this.marks = marks(answer, this.panel.unit);
    const drawn = shown(columns);
    const rows = drawn.map((i) => values[i]);
    const { names, data } = columns[1] === "series" ? pivot(rows, this.panel) : { names: drawn.slice(1).map((i) => columns[i]), data: rows };
    this.raw = data;
    this.data = this.panel.show === "bar" ? stack(data) : data;
    this.named = columns[1] === "series" ? (name) => name : (name) => name.replaceAll("_", " ");
    if (!this.plot || names.join("\n") !== this.names.join("\n")) {
      this.names = names;
      this.rebuild();
    } else {
      this.plot.batch(() => {
        this.plot.setData(this.data, false);
        this.rescale();
      });
    }
    this.readout(this.plot?.cursor.idx);
  }

  rebuild() {
    if (!this.names.length) return;
    this.plot?.destroy();
    this.legend.replaceChildren(...this.names.map((name, i) => el("li", {}, el(`i.swatch.s${i % 8}`), el("span", {}, this.named(name)), el("b"))));
    this.legend.hidden = this.names.length < 2;
    this.plot = new uPlot(this.options(), this.data, this.canvas);
    this.rescale();
    this.readout(null);
  }

  /** The x axis covers the zoom, else the window, so that silence at either end is seen as silence. */
  rescale() {
    if (!this.plot || !this.window) return;
    const [min, max] = zoom ?? [this.window.from, this.window.to];
    this.plot.setScale("x", { min, max });
  }

  /** A triangle at each point that is out of its baseline; a press, a touch or the focus says by how much. */
  mark(u) {
    u.over.querySelectorAll(".anomaly").forEach((old) => old.remove());
    for (const { at, value, side, words } of this.marks) {
      const [x, y] = [u.valToPos(at, "x"), u.valToPos(value, "y")];
      if (x < 0 || x > u.over.clientWidth) continue;
      const node = el(`button.anomaly.${side}`, { type: "button", "aria-label": words, "data-words": words });
      node.style.left = `${x}px`;
      node.style.top = `${Math.max(y, 0)}px`;
      node.classList.toggle("late", x > u.over.clientWidth - TIP_PX);
      node.classList.toggle("deep", y > u.over.clientHeight / 2);
      u.over.append(node);
    }
  }

  fit() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (width && height) this.plot?.setSize({ width: Math.floor(width), height: Math.floor(height) });
  }

  readout(index) {
    const at = index ?? this.data[0].length - 1;
    this.legend.querySelectorAll("b").forEach((b, i) => {
      b.textContent = show(this.raw?.[i + 1]?.[at], this.panel.unit);
    });
  }

  options() {
    const { unit, thresholds, show: kind } = this.panel;
    const ink = token("--ink-3");
    const grid = { stroke: token("--grid"), width: 1 };
    const font = `11px ${token("--sans")}`;
    const bars = uPlot.paths.bars({ size: [0.8, 24], radius: 0.15 });
    const drawn = kind === "bar" ? [...this.names].reverse() : this.names;
    const series = drawn.map((name) => {
      const i = this.names.indexOf(name);
      const colour = token(`--s${i % 8}`);
      return kind === "bar"
        ? { label: name, stroke: colour, fill: colour, width: 0, paths: bars, points: { show: false } }
        : {
            label: name, stroke: colour, width: 1.75, spanGaps: true,
            fill: this.names.length === 1 ? `color-mix(in srgb, ${colour} 12%, transparent)` : undefined,
            dash: i > 0 && this.names.length <= 2 ? [5, 4] : undefined,
            points: { show: (u) => u.data[0].length <= 2, size: 5 },
          };
    });
    const { width, height } = this.canvas.getBoundingClientRect();
    return {
      width: Math.floor(width) || 300,
      height: Math.floor(height) || 160,
      ms: 1,
      legend: { show: false },
      padding: [10, 10, 0, 0],
      cursor: { sync: { key: sync.key, setSeries: false }, drag: { x: true, y: false, setScale: false }, points: { size: 6 }, y: false },
      select: { show: true },
      scales: {
        x: { time: true },
        y: { range: (u, low, high) => [0, Math.max((high ?? 0) * 1.12, thresholds.length && high > thresholds[0].value * 0.5 ? thresholds[0].value * 1.12 : 0, COUNTS.has(unit) ? 2 : 0) || 1] },
      },
      axes: [
        { stroke: ink, font, grid: { show: false }, ticks: { ...grid, size: 4 }, size: 26, space: 64, values: (u, marks) => marks.map((m) => tick(m, u, marks)) },
        { stroke: ink, font, grid, ticks: { show: false }, size: wide, space: 34, incrs: COUNTS.has(unit) ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1e5] : undefined, values: (u, marks) => marks.map((m) => label(m, unit, marks)) },
      ],
      series: [{}, ...series],
      hooks: {
        setCursor: [(u) => this.readout(u.cursor.idx)],
        setSelect: [
          (u) => {
            if (u.select.width < 6) return;
            zoomTo([u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")]);
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          },
        ],
        ready: [(u) => u.over.addEventListener("dblclick", () => zoomTo(null))],
        drawClear: [(u) => thresholds.forEach((t) => line(u, t))],
        draw: [(u) => this.mark(u)],
      },
    };
  }
}

/** Stacked: each series on top of the ones before it; the tallest comes first, so that the shorter are drawn over it. */
function stack([t, ...series]) {
  const sums = t.map(() => 0);
  return [t, ...series.map((values) => values.map((v, i) => (sums[i] += v ?? 0))).reverse()];
}

/** The points that are out of their baseline, by time. */
function marks(answer, unit) {
  const [times] = answer.values;
  return shown(answer.columns).slice(1).flatMap((c) =>
    times.flatMap((at, r) => {
      const found = anomaly(answer, c, r, unit);
      return found ? [{ at, value: answer.values[c][r], ...found }] : [];
    }),
  );
}

/** (t, series, value) rows to one column a series. Where a count has no row nothing happened; where a measurement has none, it is not known. */
function pivot([times, labels, figures], { show: kind, unit }) {
  const absent = kind === "bar" || unit.endsWith("/s") ? 0 : null;
  const names = [...new Set(labels)].sort();
  const t = [...new Set(times)].sort((a, b) => a - b);
  const at = new Map(t.map((time, i) => [time, i]));
  const columns = new Map(names.map((name) => [name, t.map(() => absent)]));
  figures.forEach((value, i) => (columns.get(labels[i])[at.get(times[i])] = value));
  return { names, data: [t, ...columns.values()] };
}

/** Pixels that an axis of values takes: as much as its longest words need at 11 px. */
const wide = (u, words) => Math.max(60, 12 + 5.6 * Math.max(0, ...(words ?? []).map((one) => (one ?? "").length)));

const tick = (ms, u, marks) => {
  const span = u.scales.x.max - u.scales.x.min;
  const options = span > 2 * 86_400_000 ? { day: "numeric", month: "short" } : marks[1] - marks[0] < 60_000 ? { timeStyle: "medium" } : { timeStyle: "short" };
  return new Date(ms).toLocaleString("en-GB", options);
};

/** An axis label: every mark in the unit of the largest, so that they compare. */
function label(value, unit, marks) {
  if (value === 0) return "0";
  if (unit === "ms" && marks.at(-1) >= 1000) return `${Number((value / 1000).toFixed(2))} s`;
  const [figure, suffix] = parts(value, unit);
  const short = figure.replace(/\.0+$|(\.\d*?)0+$/, "$1");
  return COUNTS.has(unit) || unit === "events/s" || unit === "plays/min" ? short : `${short} ${suffix}`;
}

function line(u, { value, level }) {
  const y = u.valToPos(value, "y", true);
  if (y < u.bbox.top || y > u.bbox.top + u.bbox.height) return;
  const { ctx } = u;
  ctx.save();
  ctx.strokeStyle = token(level === "bad" ? "--bad" : "--warn");
  ctx.globalAlpha = 0.75;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([2 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(u.bbox.left, y);
  ctx.lineTo(u.bbox.left + u.bbox.width, y);
  ctx.stroke();
  ctx.restore();
}
