/* Who plays now: the table of the Faust worker, as it is in its memory. One card a session; a press opens the session's timeline. */

import { el } from "./dom.js";
import { show } from "./format.js";
import { STATES } from "./states.js";

const EVERY_MS = 2000;
const FULL_BUFFER_MS = 30_000;
const CARDS = 48;

let mine = null;
document.addEventListener("mine", ({ detail }) => (mine = detail));

/** The section. `opens(sid)` opens a timeline; `chosen()` gives the filters, by name, '' for all. */
export function playing({ opens, chosen }) {
  const count = el("span.count");
  const words = el("p.words", { role: "status" }, "asking the worker");
  const cards = el("ul.cards");
  const root = el("section.board.playing", { id: "playing", "aria-label": "Sessions playing now" }, el("h2", {}, "Sessions playing now", count, el("span.hint", {}, `the bar is what is buffered, ${FULL_BUFFER_MS / 1000} s at full length`)), words, cards);
  const known = new Map();

  const refresh = async () => {
    const answer = await fetch("/api/playing").then((r) => r.json()).catch(() => ({ error: "the board does not answer" }));
    const sessions = (answer.sessions ?? []).filter(fits(chosen()));
    const shown = sessions.sort((a, b) => (a.sid < b.sid ? -1 : 1)).slice(0, CARDS);
    const stalled = sessions.filter((s) => s.sta === "r").length;
    put(count, answer.error ? "" : `${sessions.length}${stalled ? `, ${stalled} rebuffering` : ""}`);
    put(words, answer.error ?? (sessions.length ? (sessions.length > CARDS ? `the first ${CARDS} of ${sessions.length}` : "") : "nobody is playing now"));
    const here = new Set(shown.map((s) => s.sid));
    for (const [sid, card] of known) if (!here.has(sid)) known.delete(sid) && card.remove();
    shown.forEach((session, i) => {
      if (!known.has(session.sid)) known.set(session.sid, make(session.sid, opens));
      const card = known.get(session.sid);
      if (cards.children[i] !== card) cards.insertBefore(card, cards.children[i] ?? null);
      paint(card.firstElementChild, session);
    });
    setTimeout(refresh, EVERY_MS);
  };
  refresh();
  return root;
}

/** By filter, what a session's state calls it. */
const CALLED = { title: "cid", device: "device_type", oca: "oca_id", isp: "isp_asn", region: "region", player: "player" };
const fits = (chosen) => (session) => Object.entries(chosen).every(([filter, value]) => !value || String(session[CALLED[filter]]) === value);

function make(sid, opens) {
  const part = (name) => el(`span.${name}`);
  return el("li", {}, el("button", { type: "button", "data-opens": sid, onclick: () => opens(sid) }, part("title"), part("device"), part("rate"), part("buffer")));
}

function paint(button, { sid, sta, cid, device_type: device, br_kbps: kbps, bl_ms: buffer, oca_id: oca }) {
  const [title, kind, rate, filled] = button.children;
  const [word] = STATES[sta] ?? [sta];
  button.dataset.state = sta;
  button.classList.toggle("mine", sid === mine); // the viewer's own session stands out
  button.title = `${sid}\n${word}, ${show(buffer, "ms")} in the buffer, served by ${oca ?? "no cache server yet"}`;
  put(title, cid ?? "–");
  put(kind, device ?? "");
  put(rate, sta === "p" ? show(kbps, "kbit/s") : word);
  filled.style.setProperty("--share", Math.min(1, (buffer ?? 0) / FULL_BUFFER_MS));
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
