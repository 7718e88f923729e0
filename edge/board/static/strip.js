/* The strip on top: services, loader and audit, by their own word; the pipeline's figures from the warehouse join them. */

import { el } from "./dom.js";
import { show } from "./format.js";

const EVERY_MS = 2000;

export function strip() {
  const tiles = { services: tile("Services"), loader: tile("Loader"), audit: tile("Audit") };
  const root = el("div.strip", {}, ...Object.values(tiles).map((t) => t.root));
  const refresh = async () => {
    const [status, audit] = await Promise.all([ask("/api/status"), ask("/api/audit")]);
    services(tiles.services, status.supervisor ?? status);
    loader(tiles.loader, status.loader ?? status);
    audits(tiles.audit, audit);
    setTimeout(refresh, EVERY_MS);
  };
  refresh();
  return root;
}

function tile(name) {
  const figure = el("b");
  const words = el("span");
  return { root: el("div.tile", {}, el("h3", {}, name), el("p", {}, figure, words)), figure, words, say(level, value, text) {
    this.root.dataset.level = level;
    if (this.figure.textContent !== value) this.figure.textContent = value;
    if (this.words.textContent !== text) this.words.textContent = text;
    this.words.title = text;
  } };
}

const ask = (url) => fetch(url).then((r) => r.json()).catch(() => ({ error: "the board does not answer" }));

function services(t, answer) {
  if (answer.error) return t.say("", "–", answer.error);
  const all = Object.values(answer.services ?? {});
  const down = all.filter((s) => !["ready", "done"].includes(s.state));
  return t.say(down.length ? "bad" : "good", `${all.length - down.length} of ${all.length}`, down.length ? down.map((s) => `${s.name} is ${s.state}`).join(", ") : "answer as they should");
}

function loader(t, answer) {
  if (answer.error) return t.say("bad", "–", answer.error);
  const tables = answer.tables ?? [];
  const stopped = tables.find((table) => Object.keys(table.stopped ?? {}).length);
  const lag = tables.reduce((sum, table) => sum + table.lag, 0);
  const rate = tables.reduce((sum, table) => sum + table.rows_per_s, 0);
  if (stopped) return t.say("bad", show(lag, ""), `${stopped.topic} is stopped: ${Object.values(stopped.stopped)[0]}`);
  return t.say(lag > 100_000 ? "warn" : "good", show(lag, ""), `events to go, ${show(rate, "")} rows/s`);
}

function audits(t, answer) {
  if (answer.error) return t.say("", "–", answer.error);
  const sum = (key) => answer.topics.reduce((total, topic) => total + topic[key], 0);
  const clean = sum("lost") === 0 && sum("duplicated") === 0;
  return t.say(clean ? "good" : "bad", `${sum("lost")} / ${sum("duplicated")}`, `lost / doubled of ${show(sum("acknowledged"), "")}`);
}
