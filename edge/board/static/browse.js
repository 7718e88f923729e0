/* The page that a member opens: rows of titles, each told of once it has been seen; a title with its player, stars and list; a search. */

import { artwork } from "./artwork.js";
import { Doings } from "./doings.js";
import { el } from "./dom.js";
import { Player, member } from "./player.js";

const SEEN_SHARE = 0.5;
const SEEN_MS = 1000;
const TYPED_MS = 600; // whoever stops typing for so long has typed what he looks for
const PREVIOUS = 5;
const STARS = 5;
const DEVICE = "web";
const KEPT = "headrace.watched";

const $ = (id) => document.getElementById(id);
const { gateway_url: gateway, home_url: home, interactions_url: url } = await (await fetch("/api/boards")).json();
const video = el("video", { playsinline: true, controls: true, muted: true });
video.muted = true;
const player = new Player(video, gateway); // before what tells: where the page goes away, that sends what this has said of it
/** Where the member is, as the page's address says: ?region=eu-1&country=FR. Without it there is nothing that rises in a region. */
const where = (...names) => Object.fromEntries([...new URLSearchParams(location.search)].filter(([name, said]) => names.includes(name) && said));
const doings = new Doings(url, { member: member(), device_type: DEVICE, ...where("region") });

/** What this browser remembers of its member: titles played, newest first, those completed, those listed, and where each was left, in s. */
const kept = { played: [], completed: [], listed: [], left: {}, ...JSON.parse(localStorage.getItem(KEPT) ?? "{}") };
const keep = () => localStorage.setItem(KEPT, JSON.stringify(kept));

const does = (kind, cid, more = {}) => doings.tell("interaction", { kind, cid, ...more });

/* What is seen: half of a tile for a second. */
const waiting = new Map();
const seen = new IntersectionObserver((entries) => {
  for (const { target, intersectionRatio } of entries) {
    clearTimeout(waiting.get(target));
    waiting.delete(target);
    if (intersectionRatio >= SEEN_SHARE) waiting.set(target, setTimeout(() => impress(target), SEEN_MS));
  }
}, { threshold: [SEEN_SHARE] });
const shown = new WeakMap();

function impress(tile) {
  const { told, item } = shown.get(tile);
  if (document.hidden || item.impression) return;
  seen.unobserve(tile);
  item.impression = doings.tell("impression", told);
}

function tile(item, told) {
  const node = el("button.poster", { type: "button", "data-cid": item.cid, onclick: () => open(item) },
    artwork(item.cid, item.artwork_variant), el("b", {}, item.title), el("span", {}, item.genres.join(", ").replaceAll("_", " ")));
  if (told) {
    shown.set(node, { told, item });
    seen.observe(node);
  }
  return el("li", {}, node);
}

function shelf(row, page_id) {
  const tiles = row.items.map((item) => tile(item, {
    cid: item.cid, page_id, row: row.row, position: item.position, row_kind: row.row_kind, model_version: row.model_version,
    artwork_variant: item.artwork_variant, propensity: item.propensity,
  }));
  return el("section", { "aria-label": row.title, "data-kind": row.row_kind }, el("h2", {}, row.title), el("ul.shelf", {}, ...tiles));
}

async function ask(path, about) {
  const answer = await fetch(`${home}${path}?${new URLSearchParams(about)}`).catch(() => null);
  if (!answer) throw new Error("the home service does not answer: `headrace status` says why");
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.error ?? `the home service answered ${answer.status}`);
  return told;
}

async function rows() {
  try {
    const { page_id, rows: some } = await ask("/home", { member: member(), device_type: DEVICE, ...where("region", "country") });
    seen.disconnect();
    $("rows").replaceChildren(...some.map((row) => shelf(row, page_id)));
    $("words").textContent = some.length ? "" : "there is no title yet: the encoder is still at work";
  } catch (error) {
    $("words").textContent = error.message;
  }
}

/* One title. */
let watching = null;

function open(item) {
  does("click", item.cid, { impression_id: item.impression });
  video.hidden = true;
  const words = el("p.words", { role: "status" });
  const picture = artwork(item.cid, item.artwork_variant);
  const from = kept.left[item.cid] ?? 0;
  const play = el("button.primary", { type: "button", onclick: (event) => start(event, from) }, from ? `▶ Resume at ${clock(from)}` : "▶ Play");
  const again = from ? el("button", { type: "button", onclick: (event) => start(event, 0) }, "From the beginning") : null;
  const list = el("button", { type: "button", onclick: () => (listed(item), paint()) });
  const stars = el("div.stars", { role: "group", "aria-label": "Rating" }, ...Array.from({ length: STARS }, (_, n) =>
    el("button", { type: "button", "aria-label": `${n + 1} of ${STARS} stars`, "aria-pressed": "false", onclick: () => rate(n + 1) }, "★")));
  const paint = () => (list.textContent = kept.listed.includes(item.cid) ? "✓ On my list" : "+ My list");
  const rate = (n) => {
    does("rating", item.cid, { rating_halves: 2 * n, impression_id: item.impression });
    [...stars.children].forEach((star, at) => star.setAttribute("aria-pressed", String(at < n)));
  };
  async function start(event, at) {
    play.disabled = true;
    words.textContent = "";
    try {
      const sid = await player.play(item.cid, event, at);
      pressed(item, sid);
      video.hidden = false;
      picture.remove();
      again?.remove();
    } catch (error) {
      words.textContent = error.message;
    } finally {
      play.disabled = false;
    }
  }
  paint();
  $("title").replaceChildren(
    el("header", {}, el("div", {}, el("h2", {}, item.title), el("p", {}, item.genres.join(", ").replaceAll("_", " "))),
      el("button.quiet", { type: "button", "aria-label": "Close", onclick: () => $("title").close() }, "✕")),
    el("div.inside", {}, el("div.stage.about", {}, picture, video), el("div.presses", {}, play, again, list, stars), words),
  );
  $("title").showModal();
}

$("title").addEventListener("close", () => {
  player.stop();
  $("title").replaceChildren();
  rows();
});

function listed(item) {
  const there = kept.listed.includes(item.cid);
  kept.listed = there ? kept.listed.filter((cid) => cid !== item.cid) : [item.cid, ...kept.listed];
  keep();
  does(there ? "list_remove" : "list_add", item.cid, { impression_id: item.impression });
}

function pressed(item, sid) {
  const before = kept.played.filter((cid) => cid !== item.cid).slice(0, PREVIOUS);
  does(kept.completed.includes(item.cid) ? "rewatch" : "play", item.cid, { sid, impression_id: item.impression, previous_cids: before });
  kept.played = [item.cid, ...before];
  keep();
  watching = { cid: item.cid, sid, session: player.session };
}

/** A session that has come to its end is a completion, one that was left before it a skip. */
player.addEventListener("state", () => {
  const state = watching?.session.state;
  if (!["e", "q", "f"].includes(state)) return;
  const { cid, sid } = watching;
  watching = null;
  const watched_ms = Math.round(1000 * Array.from({ length: video.played.length }, (_, n) => video.played.end(n) - video.played.start(n)).reduce((a, b) => a + b, 0));
  if (state === "e") {
    kept.completed = [...new Set([...kept.completed, cid])];
    delete kept.left[cid];
  } else kept.left[cid] = Math.floor(video.currentTime);
  keep();
  if (state !== "f") does(state === "e" ? "completion" : "skip", cid, { sid, watched_ms });
});

/* Search. */
let typing = null;
let last = "";

async function search() {
  const query = $("query").value.trim();
  if (query === last) return;
  last = query;
  $("found").hidden = !query;
  if (!query) return;
  try {
    const { results, items } = await ask("/search", { query, member: member() });
    if (query !== last) return;
    doings.tell("search", { query, results });
    $("found").replaceChildren(el("h2", {}, results ? `Found for “${query}”` : `Nothing is called “${query}”`), el("ul.shelf", {}, ...items.map((item) => tile(item, null))));
  } catch (error) {
    $("words").textContent = error.message;
  }
}

$("query").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, TYPED_MS);
});
$("query").addEventListener("change", search);

const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;

await rows();
