/* Experiments: a list with what each has come to, and one read-out, which the server draws; both follow the stream. The address keeps which. */

import { el } from "./dom.js";
import { listing } from "./listing.js";

const EVERY_MS = 5000;
const LEVELS = { better: "good", worse: "bad", "a guardrail is broken": "bad", refused: "bad" };
const EMPTY = "No experiment has been published yet. `headrace experiment publish` makes those of a folder known; the demo's come with it.";

const $ = (id) => document.getElementById(id);
const { state, link, matching } = listing("experiments", "experiment", "experiments", { list, show: () => {
  drawn = "";
  show();
} });
let experiments = [];
let drawn = "";

async function text(url) {
  const answer = await fetch(url);
  const body = await answer.text();
  if (answer.ok) return body;
  let words = `${url} answered ${answer.status} without JSON`;
  try {
    words = JSON.parse(body).error;
  } catch { /* the words above */ }
  throw new Error(words);
}

function entry(one) {
  const days = one.days === null ? "not started" : one.days === 1 ? "1 day" : `${one.days} days`;
  return el("li", {}, link(one.experiment,
    el("b", {}, one.experiment), " ", el("span.badge", { "data-level": LEVELS[one.verdict] ?? "" }, one.verdict),
    el("span.line", {}, `${one.state} · ${days} · ${one.units.toLocaleString("en")} units · split p ${one.split_p < 0.001 ? one.split_p.toExponential(1) : Number(one.split_p.toFixed(3))}`),
    el("span.line", {}, one.words)));
}

function list() {
  const at = $("experiments").scrollTop;
  $("experiments").replaceChildren(...matching(experiments, (one) => [one.experiment, one.owner, one.state, one.verdict, one.flag]).map(entry));
  $("experiments").scrollTop = at;
}

async function show() {
  const key = state.get("experiment");
  if (!key) return;
  let page;
  if (!$("readout").childElementCount) $("readout").replaceChildren(el("h1", {}, key), el("p.words", {}, "reading it out …"));
  try {
    page = await text(`/api/experiments/${encodeURIComponent(key)}/page`);
  } catch (error) {
    drawn = "";
    $("readout").replaceChildren(el("h1", {}, key), el("p.words", {}, error.message));
    return;
  }
  if (state.get("experiment") !== key || page === drawn) return;
  document.title = `${key} · Headrace`;
  const same = drawn !== "";
  const folds = new Map([...$("readout").querySelectorAll("details")].map((one) => [one.id, one.open]));
  $("readout").replaceChildren(document.createRange().createContextualFragment(page)); // ours, with every text escaped
  if (same) for (const fold of $("readout").querySelectorAll("details")) fold.open = folds.get(fold.id) ?? fold.open;
  drawn = page;
}

async function follow() {
  try {
    ({ experiments } = JSON.parse(await text("/api/experiments")));
    if (!experiments.length) {
      $("found").textContent = "";
      $("readout").replaceChildren(el("h1", {}, "Experiments"), el("p.about", {}, EMPTY));
    } else {
      if (!experiments.some((one) => one.experiment === state.get("experiment")) && !state.has("experiment")) state.set("experiment", experiments[0].experiment);
      list();
      await show();
    }
  } catch (error) {
    $("found").textContent = error.message;
  }
  setTimeout(follow, EVERY_MS);
}

follow();
