/* One session's timeline: play states, bitrate, throughput and buffer on one time axis, and what each part said, line by line. */

import { el, svg, token } from "./dom.js";
import { clock, moment, show, unitOf, heading } from "./format.js";
import { STATES } from "./states.js";

const EVERY_MS = 2000;
const WIDTH = 920;
const LEFT = 84;
const RIGHT = 12;

let open = null;

/** Open the drawer on a session and keep it up to date until it is closed. */
export async function openSession(sid) {
  const drawer = document.getElementById("session");
  open = sid;
  const body = el("div");
  drawer.replaceChildren(
    el("header", {}, el("div", {}, el("h2", {}, "Session"), el("p.sid", {}, sid)), el("button.quiet", { type: "button", "aria-label": "Close", onclick: () => drawer.close() }, "✕")),
    body,
  );
  drawer.onclose = () => (open = null);
  if (!drawer.open) drawer.showModal();
  let last = "";
  while (open === sid) {
    const answer = await fetch(`/api/session/${encodeURIComponent(sid)}`).then((r) => r.json()).catch(() => ({ error: "the board does not answer" }));
    const text = JSON.stringify(answer, (key, value) => (key === "took_ms" ? undefined : value));
    if (text !== last && open === sid) {
      last = text;
      const scrolled = [...body.querySelectorAll(".log")].map((log) => log.scrollTop);
      body.replaceChildren(...(answer.error ? [el("section", {}, el("p.words", {}, answer.error))] : sections(answer.parts)));
      body.querySelectorAll(".log").forEach((log, i) => (log.scrollTop = scrolled[i] ?? 0));
    }
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

const records = ({ columns, values }) => (values?.[0] ?? []).map((_, i) => Object.fromEntries(columns.map((c, j) => [c, values[j][i]])));

function sections(parts) {
  const quality = records(parts.quality)[0];
  const states = records(parts.states);
  const segments = records(parts.segments).filter((s) => s.kind !== "audio");
  return [
    el("section", {}, el("h3", { title: parts.quality.question }, "Quality"), quality ? facts(quality) : el("p.words", {}, parts.quality.error ?? parts.quality.empty)),
    el("section", {}, el("h3", { title: parts.states.question }, "Timeline"), states.length + segments.length ? lanes(states, segments) : el("p.words", {}, parts.states.error ?? parts.states.empty)),
    ...["errors", "segments", "requests", "served"].map((name) => listing(parts[name])),
  ];
}

function facts(q) {
  const shown = [
    ["Title", q.cid ?? "–"], ["Device", q.device_type ?? "–"], ["OCA", q.oca_id ?? "none reached"], ["Ended by", q.end_reason],
    ["Startup time", show(q.startup_ms, "ms")], ["Played", show(q.playing_ms, "ms")], ["Rebufferings", show(q.rebuffer_count, "")],
    ["Rebuffered", show(q.rebuffer_ms, "ms")], ["Rebuffer ratio", show(q.rebuffer_ratio, "ratio")], ["Bitrate on screen", show(q.time_weighted_bitrate_kbps, "kbit/s")],
    ["Bitrate fetched", show(q.average_bitrate_kbps, "kbit/s")], ["Switches", show(q.switches, "")], ["Failovers", show(q.failovers, "")], ["Reports", show(q.reports, "")],
  ];
  return el("dl.facts", {}, ...shown.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", { title: value }, value))));
}

function lanes(states, segments) {
  const times = [...states, ...segments].map((e) => e.at);
  const from = Math.min(...times);
  const to = Math.max(...times, from + 1000);
  const x = (at) => LEFT + ((at - from) / (to - from)) * (WIDTH - LEFT - RIGHT);
  const root = svg("svg", { viewBox: `0 0 ${WIDTH} 268`, class: "lanes", role: "img", "aria-label": "Timeline of the session" });

  for (const at of marks(from, to)) {
    root.append(svg("line", { x1: x(at), x2: x(at), y1: 8, y2: 246, class: "rule" }));
    root.append(svg("text", { x: x(at), y: 261, "text-anchor": "middle" }, `${Math.round((at - from) / 100) / 10} s`));
  }

  root.append(svg("text", { x: 8, y: 27 }, "State"));
  const present = new Set();
  states.forEach((state, i) => {
    const until = states[i + 1]?.at ?? to;
    const [word, colour] = STATES[state.state] ?? [state.state, "--ink-3"];
    present.add(state.state);
    const width = Math.max(2, x(until) - x(state.at));
    const bar = svg("rect", { x: x(state.at), y: 12, width, height: 22, rx: 3, fill: token(colour) }, svg("title", {}, `${word} for ${show(until - state.at, "ms")}, from ${clock(state.at)}`));
    root.append(bar);
    if (width > 70 && ["p", "r", "s"].includes(state.state)) root.append(svg("text", { x: x(state.at) + 8, y: 27, class: "inside" }, word));
  });

  const fetched = segments.filter((s) => s.bitrate_kbps !== null);
  lane(root, x, 52, 120, "Bitrate", "kbit/s", fetched, [["bitrate_kbps", "--ink-2", "step"], ["throughput_kbps", "--s3", "dots"]]);
  lane(root, x, 186, 56, "Buffer", "ms", segments.filter((s) => s.buffer_ms !== null), [["buffer_ms", "--s2", "area"]]);
  for (const stall of states.filter((s) => s.state === "r")) {
    const until = states.find((s) => s.at > stall.at)?.at ?? to;
    root.append(svg("rect", { x: x(stall.at), y: 40, width: Math.max(2, x(until) - x(stall.at)), height: 206, fill: token("--s1"), opacity: 0.12 }));
  }

  const key = [...present].map((s) => STATES[s]).filter(Boolean);
  return el("div", {}, root, el("ul.states", {}, ...[...key, ["bitrate of the segment", "--ink-2"], ["measured throughput", "--s3"], ["buffer", "--s2"]].map(([word, colour]) => {
    const dot = el("i");
    dot.style.background = `var(${colour})`;
    return el("li", {}, dot, word);
  })));
}

function lane(root, x, top, height, name, unit, rows, series) {
  const middle = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length * 0.9)] ?? 0;
  const main = rows.map((r) => r[series[0][0]]);
  const most = Math.max(1, ...main, Math.min(middle(rows.map((r) => r[series[1]?.[0]] ?? 0)), 3 * Math.max(1, ...main))) * 1.1;
  const y = (value) => top + height - (Math.min(value, most) / most) * height;
  root.append(svg("text", { x: 8, y: top - 2 }, name));
  root.append(svg("text", { x: LEFT - 6, y: y(most / 1.1) + 4, "text-anchor": "end" }, show(most / 1.1, unit)), svg("text", { x: LEFT - 6, y: top + height, "text-anchor": "end" }, "0"));
  root.append(svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: top + height, y2: top + height, class: "rule" }));
  for (const [column, colour, kind] of series) {
    const points = rows.filter((r) => r[column] !== null).map((r) => [x(r.at), y(r[column]), r]);
    if (kind === "dots") points.forEach(([px, py, r]) => root.append(svg("circle", { cx: px, cy: py, r: 2.2, fill: token(colour) }, svg("title", {}, `${show(r[column], unit)} at ${clock(r.at)}`))));
    else {
      const path = points.map(([px, py], i) => (i === 0 ? `M${px} ${py}` : kind === "step" ? `H${px}V${py}` : `L${px} ${py}`)).join("");
      if (kind === "area" && points.length) root.append(svg("path", { d: `${path}V${top + height}H${points[0][0]}Z`, fill: token(colour), opacity: 0.18 }));
      root.append(svg("path", { d: path, fill: "none", stroke: token(colour), "stroke-width": 1.8 }));
    }
  }
}

/** About eight round moments between the two. */
function marks(from, to) {
  const step = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800].map((s) => s * 1000).find((s) => (to - from) / s <= 9) ?? 3_600_000;
  return Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => from + i * step);
}

function listing(part) {
  const rows = records(part);
  const head = el("h3", { title: part.question }, rows.length ? `${part.title} (${rows.length})` : part.title);
  if (!rows.length) return el("section", {}, head, el("p.words", {}, part.error ?? part.empty));
  const columns = part.columns.filter((c) => rows.some((r) => r[c] !== null));
  const text = (column, value) => (column === "at" ? clock(value) : typeof value === "number" ? show(value, unitOf(column) || (column === "bytes" ? "bytes" : "")) : (value ?? "–"));
  return el("section", {}, head, el("div.log", { tabindex: 0 }, el("table", {},
    el("thead", {}, el("tr", {}, ...columns.map((c) => el("th", { scope: "col" }, c === "at" ? "Time" : c === "rc" ? "Status" : heading(c))))),
    el("tbody", {}, ...rows.map((r) => el("tr", {}, ...columns.map((c) => el("td", { title: c === "at" ? moment(r.at) : String(r[c] ?? "") }, String(text(c, r[c]))))))),
  )));
}
