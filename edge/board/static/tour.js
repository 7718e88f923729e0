/* The five-minute tour: a player, and five buttons that do something to the running system. */

import { el } from "./dom.js";
import { screen } from "./screen.js";

const NARROW_KBPS = 100;

/* Each step: what to press, what to see. `act(room)` runs before the server's part and returns what it must know. */
const STEPS = [
  {
    name: "play", title: "Watch something", button: "Press play",
    words: "Your browser asks the gateway, fetches segments from a cache server and reports each change on screen. Your session appears among those playing now.",
    act: async (room) => ({ sid: await room.play() }),
  },
  {
    name: "throttle", title: "Suffer a narrow network", button: `Throttle me to ${NARROW_KBPS} kbit/s`,
    words: "Your buffer drains, the picture stops, and the rebuffering shows in your session's timeline. Then your network is widened again.",
    act: async (room) => {
      if (!room.watching()) await room.play();
      room.throttle(NARROW_KBPS);
      return { sid: room.sid() };
    },
    after: (room) => room.throttle(0),
  },
  {
    name: "loader", title: "Kill the loader", button: "kill -9",
    words: "What writes to ClickHouse dies at a random moment. It comes back, finds out what it had done, and the audit counts every acknowledged event.",
  },
  {
    name: "schema", title: "Break a contract", button: "Register a breaking schema",
    words: "Somebody turns startup_ms into text. The registry refuses it, and the refusal names the jobs and panels that would have broken.",
  },
  {
    name: "replay", title: "Replay your recording", button: "Record and replay",
    words: "What was on the topics is recorded, replayed into a namespace of its own, and the derived tables are compared row for row.",
  },
];

let room = null;

/** Open the tour beside the board; a second call closes it. */
export async function openTour() {
  const aside = document.getElementById("tour");
  aside.hidden = !aside.hidden;
  if (room || aside.hidden) return;
  const stage = el("div.screen");
  const steps = el("ol.steps", {}, ...STEPS.map(step));
  aside.append(el("header", {}, el("h2", {}, "Five-minute tour"), el("button.quiet", { type: "button", "aria-label": "Close", onclick: () => (aside.hidden = true) }, "✕")), stage, steps);
  room = {};
  const { player, play, throttle } = await screen(stage);
  Object.assign(room, {
    play, throttle,
    sid: () => player.session?.sid,
    watching: () => player.session && !player.session.closed,
  });
  player.addEventListener("state", () => document.dispatchEvent(new CustomEvent("mine", { detail: room.sid() })));
}

function step({ name, title, button, words, act, after }) {
  const said = el("ul.said", { "aria-live": "polite" });
  const press = el("button", { type: "button" }, button);
  const root = el("li.step", { id: `step-${name}` }, el("h3", {}, title), el("p", {}, words), press, said);
  const say = (line, state = "working") => {
    said.append(el("li", { "data-state": state }, line));
    root.dataset.state = state;
  };
  press.addEventListener("click", async () => {
    press.disabled = true;
    said.replaceChildren();
    root.dataset.state = "working";
    try {
      const query = new URLSearchParams((await act?.(room)) ?? {});
      for await (const { words: line, state } of lines(`/api/tour/${name}?${query}`)) say(line, state);
    } catch (error) {
      say(error.message, "failed");
    } finally {
      after?.(room);
      press.disabled = false;
    }
  });
  return root;
}

/** The JSON objects of a streamed answer, as they come. */
async function* lines(url) {
  const answer = await fetch(url, { method: "POST" });
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? `${url} answered ${answer.status}`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const whole = (rest + value).split("\n");
    rest = whole.pop();
    for (const line of whole) yield JSON.parse(line);
  }
}
