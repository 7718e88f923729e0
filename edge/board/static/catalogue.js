/* The catalogue: every topic, searched by words; one topic with its fields, examples, versions and lineage. The address keeps both. */

import { el } from "./dom.js";
import { graph } from "./graph.js";

const SHOWN = 300;
/** So many topics are listed at once: more is what the search is for. */

const $ = (id) => document.getElementById(id);
const state = new URLSearchParams(location.search);
let topics = [];

async function json(url) {
  const answer = await fetch(url);
  const body = await answer.json().catch(() => ({ error: `${url} answered ${answer.status} without JSON` }));
  return answer.ok ? body : Promise.reject(new Error(body.error));
}

const address = (topic) => {
  const query = new URLSearchParams(state);
  query.set("topic", topic);
  return `/catalogue?${query}`;
};

function open(topic) {
  state.set("topic", topic);
  history.pushState(null, "", `?${state}`);
  list();
  show();
}

const link = (topic, ...children) =>
  el("a", { href: address(topic), "aria-current": state.get("topic") === topic ? "true" : null, onclick: (event) => {
    if (event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    open(topic);
  } }, ...children);

/** Every word must stand somewhere in what is told of the topic. */
function matches(topic, words) {
  const told = [topic.topic, topic.owner, topic.team, topic.description, topic.event, topic.deprecated && "deprecated", ...topic.fields].join(" ").toLowerCase();
  return words.every((word) => told.includes(word));
}

function list() {
  const words = (state.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const found = topics.filter((topic) => matches(topic, words));
  $("topics").replaceChildren(...found.slice(0, SHOWN).map((topic) =>
    el("li", {}, link(topic.topic, el("b", {}, topic.topic), topic.deprecated ? el("i.gone", { title: topic.deprecated }, "goes") : null, el("span", {}, `${topic.team || topic.owner} · ${topic.description}`)))));
  $("topics").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  $("found").textContent = found.length > SHOWN ? `the first ${SHOWN} of ${found.length} topics: say more of what you look for` : `${found.length} of ${topics.length} topics`;
}

const heading = (words) => el("h2", {}, words);

function facts(card) {
  const told = [
    ["Owner", card.team && card.team !== card.owner ? `${card.owner} (team ${card.team})` : card.owner], ["Event", card.event], ["Key", card.key],
    ["Kept", `${card.kept}, ${card.partitions} partition${card.partitions === 1 ? "" : "s"}`], ["Compatibility", card.compatibility],
    ["Table", card.table || "none"], ["Read by", card.public ? "every team" : `${card.owner}`], ["Door", card.door || "none"],
  ];
  return el("dl.facts", {}, ...told.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

const fields = (card) => el("div.fields", {}, el("table", {},
  el("thead", {}, el("tr", {}, ...["Field", "Type", "Unit", "Meaning"].map((name) => el("th", {}, name)))),
  el("tbody", {}, ...card.fields.map((field) => el("tr", {},
    el("td", {}, field.name), el("td", {}, field.optional ? `${field.type}, optional` : field.type), el("td", {}, field.unit),
    el("td", {}, field.deprecated ? el("span.gone", {}, field.deprecated) : null, field.deprecated ? " " : null, field.doc, field.symbols.length ? ` One of ${field.symbols.join(", ")}.` : null))))));

const examples = (card) => card.examples.map((example) =>
  el(`details${example.passes ? "" : ".refused"}`, {}, el("summary", {}, example.passes ? example.case : `${example.case}: ${example.refused}`),
    el("pre", { tabindex: 0 }, el("code", {}, JSON.stringify(example.event, null, 2)))));

function versions({ versions: found, error }) {
  if (error) return el("p.words", {}, error);
  if (!found.length) return el("p.words", {}, "not in the registry yet: `headrace schema register` publishes it");
  return el("ol.versions", {}, ...found.toReversed().map(({ number, changes }) => el("li", {}, el("b", {}, `Version ${number}`), ` ${changes.join("; ")}`)));
}

async function show() {
  const topic = state.get("topic");
  if (!topic) {
    $("topic").replaceChildren(el("h1", {}, "Catalogue"), el("p.about", {}, "Every topic of this installation, from the files that tables, jobs and records derive from. Choose one, or search by topic, owner or field."));
    return;
  }
  try {
    const card = await json(`/api/catalogue/${encodeURIComponent(topic)}`);
    if (state.get("topic") !== topic) return;
    document.title = `${topic} · Headrace`;
    $("topic").replaceChildren(
      el("h1", {}, card.topic), card.deprecated ? el("p", {}, el("span.gone", {}, card.deprecated)) : "", el("p.about", {}, `${card.description} ${card.doc}`), facts(card),
      heading("Lineage"), graph(card.lineage, card.topic, open), heading("Fields"), fields(card),
      ...(card.examples.length ? [heading("Examples"), ...examples(card)] : []), heading("Versions"), versions(card.versions),
    );
  } catch (error) {
    $("topic").replaceChildren(el("h1", {}, topic), el("p.words", {}, error.message));
  }
}

$("search").value = state.get("q") ?? "";
$("search").addEventListener("input", ({ target }) => {
  if (target.value) state.set("q", target.value);
  else state.delete("q");
  history.replaceState(null, "", `?${state}`);
  list();
});
addEventListener("popstate", () => {
  const now = new URLSearchParams(location.search);
  for (const name of ["q", "topic"]) now.has(name) ? state.set(name, now.get(name)) : state.delete(name);
  $("search").value = state.get("q") ?? "";
  list();
  show();
});

try {
  ({ topics } = await json("/api/catalogue"));
  list();
  await show();
} catch (error) {
  $("found").textContent = error.message;
}
