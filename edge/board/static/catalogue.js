/* The catalogue: every topic, searched by words; one topic with its fields, examples, versions and lineage. The address keeps both. */

import { json } from "./api.js";
import { el } from "./dom.js";
import { graph } from "./graph.js";
import { listing } from "./listing.js";

const $ = (id) => document.getElementById(id);
const { state, open, link, matching } = listing("catalogue", "topic", "topics", { list, show });
let topics = [];

const told = (topic) => [topic.topic, topic.owner, topic.team, topic.description, topic.event, topic.deprecated && "deprecated", ...topic.fields];

function list() {
  $("topics").replaceChildren(...matching(topics, told).map((topic) =>
    el("li", {}, link(topic.topic, el("b", {}, topic.topic), topic.deprecated ? el("i.gone", { title: topic.deprecated }, "goes") : null, el("span", {}, `${topic.team || topic.owner} · ${topic.description}`)))));
  $("topics").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
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

try {
  ({ topics } = await json("/api/catalogue"));
  list();
  await show();
} catch (error) {
  $("found").textContent = error.message;
}
