/* The player as people see it: video, titles, network, what is on the screen, and what the player reports of it. */

import { el } from "./dom.js";
import { show } from "./format.js";
import { Player } from "./player.js";
import { STATES } from "./states.js";

const NETWORKS = [[0, "As it is"], [3000, "3 Mbit/s"], [800, "800 kbit/s"], [100, "100 kbit/s"]];
const ADAPTATIONS = [["", "As experiments say"], ["headrace", "Headrace's"], ["dash.js", "dash.js's own"]];
const REPORTS_SHOWN = 60;

/** Build a player into `root`. Returns {player, play(), throttle(kbps)}; `wide` adds the list of reports. */
export async function screen(root, { wide = false } = {}) {
  const { gateway_url: gateway } = await (await fetch("/api/boards")).json();
  const video = el("video", { playsinline: true, controls: true, muted: true });
  video.muted = true;
  const player = new Player(video, gateway);
  const titles = el("select", { "aria-label": "Title" });
  const press = el("button.primary", { type: "button" }, "▶ Play");
  const words = el("p.words", { role: "status" });
  const facts = el("dl.facts");
  const log = el("ol.reports");
  const adaptations = el("select", { "aria-label": "Adaptation", title: "From the next play on", onchange: () => player.adapt(adaptations.value) },
    ...ADAPTATIONS.map(([abr, label]) => el("option", { value: abr }, label)));
  const networks = el("div.segmented", { role: "radiogroup", "aria-label": "Network" }, ...NETWORKS.map(([kbps, label]) =>
    el("label", {}, el("input", { type: "radio", name: "kbps", value: kbps, checked: kbps === 0, onchange: () => player.throttle(kbps) }), el("span", {}, label))));
  const overlay = el("div.overlay", { hidden: true });

  const throttle = (kbps) => networks.querySelector(`[value="${kbps}"]`).click();
  const play = async (event) => {
    press.disabled = true;
    words.textContent = "";
    try {
      return await player.play(titles.value, event);
    } catch (error) {
      words.textContent = error.message;
      throw error;
    } finally {
      press.disabled = false;
    }
  };
  press.addEventListener("click", (event) => play(event).catch(() => {}));

  const paint = () => {
    const { session } = player;
    const status = session?.status() ?? {};
    const told = [
      ["State", session ? STATES[session.state][0] : "–"], ["Startup time", show(session?.startup ?? null, "ms")], ["Bitrate", show(session?.shown ?? null, "kbit/s")],
      ["Buffer", show(status.bl ?? null, "ms")], ["Throughput", show(status.mtp ?? null, "kbit/s")], ["Rebufferings", show(session?.stalls ?? null, "")],
    ];
    if (facts.children.length !== told.length) facts.replaceChildren(...told.map(([name]) => el("div", {}, el("dt", {}, name), el("dd"))));
    told.forEach(([, value], i) => {
      const dd = facts.children[i].lastChild;
      if (dd.textContent !== value) dd.textContent = value;
    });
    facts.dataset.state = session?.state ?? "";
    overlay.hidden = session?.state !== "r";
    overlay.textContent = player.kbps ? `Rebuffering: ${show(player.kbps, "kbit/s")} are not enough` : "Rebuffering";
  };
  player.addEventListener("state", paint);
  setInterval(paint, 250);
  player.addEventListener("told", ({ detail: { line, status } }) => {
    log.prepend(el("li", { "data-status": status, title: line }, el("b", {}, line.match(/(?:^|,)e=(\w+)/)?.[1] ?? ""), el("code", {}, line)));
    while (log.children.length > REPORTS_SHOWN) log.lastChild.remove();
  });

  root.append(
    el("div.stage", {}, video, overlay),
    el("div.presses", {}, titles, press),
    el("div.presses", {}, el("span.caption", {}, "Network"), networks, el("span.caption", {}, "Adaptation"), adaptations),
    words, facts,
    ...(wide ? [el("h3", {}, "What your player reports"), el("p.words", {}, "CMCD v2 lines, newest first; a dot means that Kafka has acknowledged it."), log] : []),
  );

  try {
    const answer = await (await fetch(`${gateway}/titles`)).json();
    titles.append(...answer.titles.map(({ cid, title }) => el("option", { value: cid }, title)));
    if (!answer.titles.length) words.textContent = "no title has been published yet: the encoder is still at work";
  } catch {
    words.textContent = "the gateway does not answer: `headrace status` says why";
  }
  press.disabled = !titles.options.length;
  return { player, play, throttle };
}
