/* Features: a list with what each sums up, one of them with what it costs and how it is distributed, and what made a member's. */

import { json } from "./api.js";
import { el } from "./dom.js";
import { moment, show as said } from "./format.js";
import { listing } from "./listing.js";

const EVERY_MS = 30_000;
const STEPS = 50;
/** So many events of a member are drawn at most, the newest first. */

const $ = (id) => document.getElementById(id);
const { state, link, matching } = listing("features", "feature", "features", { list, show });
let features = [];
let story = null;
let complaint = "";

const told = (value) => {
  if (value === null || value === undefined) return "none";
  if (Array.isArray(value)) return value.map((one) => (Array.isArray(one) ? `${one[0]} ×${one[1]}` : one)).join(", ") || "none";
  return typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(4) : String(value);
};
const costs = (one) => Object.entries(one.costs);
const stateBytes = (one) => costs(one).reduce((sum, [, cost]) => sum + cost.keys * cost.value_bytes, 0);

function entry(one) {
  const size = costs(one).length ? ` · ${said(stateBytes(one), "bytes")}` : "";
  return el("li", {}, link(one.name, el("b", {}, one.name), el("span.line", {}, `${one.sums_up} · ${one.key.join(" × ")}${size}`), el("span.line", {}, one.doc)));
}

function list() {
  const at = $("features").scrollTop;
  $("features").replaceChildren(...matching(features, (one) => [one.name, one.owner, one.doc, ...one.key, ...one.sources, one.sums_up]).map(entry));
  $("features").scrollTop = at;
}

const row = (tag, ...cells) => el("tr", {}, ...cells.map((cell) => (cell instanceof Node ? cell : el(tag, {}, cell))));
const table = (selector, heads, rows) => el("div.card", {}, el("div.scroll", {}, el(selector, {}, el("thead", {}, row("th", ...heads)), el("tbody", {}, ...rows))));

function shares(cost) {
  const parts = Object.entries(cost.buckets).sort((a, b) => b[1] - a[1]).slice(0, 8);
  return el("td", {}, el("span.shares", {}, ...parts.map(([name, n]) => el("span", {}, `${name.replace(/^2\^(-?\d+)$/, (_, power) => `≥ ${2 ** power}`)}: ${Math.round((100 * n) / cost.looked_at)} %`))));
}

function detail(one) {
  const facts = [["Sums up", one.sums_up], ["Where", one.where || "every event"], ["Of", one.key.join(" × ")], ["From", one.sources.join(", ")], ["Owner", one.owner], ["Default", told(one.default)]];
  const rows = one.values.map((name) => {
    const cost = one.costs[name];
    return cost
      ? row("td", name, cost.keys.toLocaleString("en"), `${said(cost.value_bytes, "bytes")} of ${said(cost.row_bytes, "bytes")}`, `${cost.columns}, ${cost.shared} shared`, said(cost.happened / cost.looked_at, "ratio"), shares(cost))
      : row("td", name, "–", "–", "–", "–", "not told of yet");
  });
  return [
    el("div.readout", {}, el("h1", {}, one.name), el("p", {}, one.doc)),
    el("dl.facts", {}, ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    el("h2", {}, "Values"),
    table("table", ["Value", "Keys", "Bytes a row", "Parts", "Happened", "Distribution"], rows),
  ];
}

function steps(one) {
  const mine = (change) => !one || one.values.includes(change.value);
  const kept = story.steps.filter((step) => !one || step.changed.some(mine) || step.notes.length).reverse();
  const rows = kept.slice(0, STEPS).map((step) =>
    row("td", moment(step.at_ms), Object.values(step.what).map(told).join(" "), el("td", {}, el("ul", {}, ...step.notes.map((note) => el("li.about", {}, note)),
      ...step.changed.filter(mine).map((change) => el("li", {}, change.value, change.about ? el("span.about", {}, ` ${change.about}`) : null, `: ${told(change.before)} → ${told(change.after)}`)),
    ))));
  return rows.length ? table("table.story", ["Counts at", "Event", "Changes"], rows) : el("p.about", {}, "None of the member's events has changed it.");
}

function member(one) {
  const input = el("input", { type: "text", placeholder: "A member's id, or pseudonym", "aria-label": "A member", value: state.get("member") ?? "", autocomplete: "off" });
  const form = el("form.ask", { onsubmit: (event) => {
    event.preventDefault();
    if (input.value.trim()) state.set("member", input.value.trim());
    else state.delete("member");
    history.replaceState(null, "", `?${state}`);
    read();
  } }, input, el("button", { type: "submit" }, "Explain"));
  const found = [el("h2", {}, "One member through time"), form];
  if (complaint) found.push(el("p.words", {}, complaint));
  else if (story && !story.events) found.push(el("p.about", {}, "Nothing that features count is stored of this member."));
  else if (story) {
    const known = Object.entries(story.values).filter(([name]) => !one || one.values.includes(name));
    if (known.length) found.push(el("p.about", {}, `Now: ${known.map(([name, value]) => `${name} = ${told(value)}`).join(", ")}`));
    found.push(steps(one));
  }
  return found;
}

function show() {
  const one = features.find((some) => some.name === state.get("feature"));
  document.title = `${one?.name ?? "Features"} · Headrace`;
  if (document.activeElement?.closest?.(".ask")) return; // somebody is typing
  $("feature").replaceChildren(...(one ? detail(one) : [el("h1", {}, "Features")]), ...member(one));
}

async function read() {
  const whose = state.get("member");
  story = null;
  complaint = "";
  if (whose) {
    try {
      story = await json(`/api/features/member/${encodeURIComponent(whose)}`);
    } catch (error) {
      complaint = error.message;
    }
  }
  document.activeElement?.blur?.();
  show();
}

async function follow() {
  try {
    ({ features } = await json("/api/features"));
    if (!state.has("feature") && features.length) state.set("feature", features[0].name);
    list();
    show();
  } catch (error) {
    $("found").textContent = error.message;
  }
  setTimeout(follow, EVERY_MS);
}

follow().then(read);
