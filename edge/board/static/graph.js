/* Lineage as a picture: producers, topics, jobs, tables and boards in columns from left to right. */

import { el, svg } from "./dom.js";

const WIDTH = 172, HEIGHT = 40, GAP_X = 34, GAP_Y = 12, EDGE = 12;
const LONGEST = 24;

const bare = (name) => name.replace(/^streams\.|^producers\./, "");
const short = (name) => (name.length > LONGEST ? `…${name.slice(1 - LONGEST)}` : name);

/** Places: nodes of a column one below the other, each near the middle of those that lead to it, so that fewer edges cross. */
function placed(nodes, edges) {
  const columns = [];
  for (const node of nodes) (columns[node.column] ??= []).push(node);
  const rows = new Map();
  const before = (node) => {
    const from = edges.filter(([, to]) => to === node.id).map(([start]) => rows.get(start)).filter((row) => row !== undefined);
    return from.length ? from.reduce((sum, row) => sum + row, 0) / from.length : 0;
  };
  const used = columns.filter(Boolean);
  used.forEach((column) => column.sort((a, b) => before(a) - before(b) || a.id.localeCompare(b.id)).forEach((node, row) => rows.set(node.id, row)));
  const tallest = Math.max(...used.map((column) => column.length));
  const at = new Map();
  used.forEach((column, x) => column.forEach((node, row) => at.set(node.id, {
    x: EDGE + x * (WIDTH + GAP_X),
    y: EDGE + (row + (tallest - column.length) / 2) * (HEIGHT + GAP_Y),
  })));
  return { at, width: 2 * EDGE + used.length * (WIDTH + GAP_X) - GAP_X, height: 2 * EDGE + tallest * (HEIGHT + GAP_Y) - GAP_Y };
}

function box(node, { x, y }, here, open) {
  const kind = node.team ? `${node.kind} · team ${node.team}` : node.panels.length ? `board · ${node.panels.length} panel${node.panels.length === 1 ? "" : "s"}` : node.kind;
  const shape = [
    svg("title", {}, [node.name, ...node.panels].join("\n")),
    svg("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 7 }),
    svg("text", { class: "kind", x: x + 10, y: y + 15 }, kind),
    svg("text", { x: x + 10, y: y + 31 }, short(bare(node.name))),
  ];
  const group = svg("g", { class: `node-${node.kind}${here ? " here" : ""}`, "data-node": node.id }, ...shape);
  if (node.kind !== "topic" || here) return group;
  const link = svg("a", { href: `/catalogue?topic=${encodeURIComponent(node.name)}` }, group);
  link.addEventListener("click", (event) => {
    event.preventDefault();
    open(node.name);
  });
  return link;
}

/** The graph of {nodes, edges} around `topic`; a press on another topic calls `open` with its name. */
export function graph({ nodes, edges }, topic, open) {
  const { at, width, height } = placed(nodes, edges);
  const lines = edges.map(([from, to]) => {
    const [a, b] = [at.get(from), at.get(to)];
    const [x1, y1, x2, y2] = [a.x + WIDTH, a.y + HEIGHT / 2, b.x, b.y + HEIGHT / 2];
    const middle = (x1 + x2) / 2;
    return svg("path", { d: `M${x1} ${y1} C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}` });
  });
  const boxes = nodes.map((node) => box(node, at.get(node.id), node.id === `topic ${topic}`, open));
  const picture = el("div.graph", { tabindex: 0, role: "group", "aria-label": `Where events of ${topic} come from and go to` },
    svg("svg", { width, height, viewBox: `0 0 ${width} ${height}` }, ...lines, ...boxes));
  requestAnimationFrame(() => (picture.scrollLeft = at.get(`topic ${topic}`).x - WIDTH));  // a long way begins off to the left
  return picture;
}
