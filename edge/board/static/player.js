/* The web player: dash.js plays what the gateway's ticket names, and every change on the screen is reported at the moment it happened. */

import { MediaPlayer } from "/vendor/dash.js";
import { Reporter } from "/static/cmcd.js";

const HEARTBEAT_MS = 10_000;
const GIVE_UP_MS = 10_000;
const REQUEST_TIMEOUT_MS = 60_000; // a slow answer is no error: dash.js's own 20 s would make one of a narrow network
const BUFFER_S = 8; // short, so that a narrow network is felt within seconds
const MEMBER = "headrace.member";
const CUSTOM = "com.headrace-";
const OBJECT_TYPES = { MPD: "m", InitializationSegment: "i" };
const MEDIA_TYPES = { video: "v", audio: "a", text: "tt" };

/** This browser's member id: made once, and only ever stored as a pseudonym. */
export function member() {
  if (!localStorage.getItem(MEMBER)) localStorage.setItem(MEMBER, `web-${crypto.randomUUID().slice(0, 13)}`);
  return localStorage.getItem(MEMBER);
}

/** The moment of an event in ms since 1970: when the browser made it, not when we got to it. */
const moment = (event) => performance.timeOrigin + event.timeStamp;

export class Player extends EventTarget {
  /** Fires "state" whenever something worth showing has changed, and "told" with {line, status} for each report the collector answered. */
  constructor(video, gateway) {
    super();
    this.video = video;
    this.gateway = gateway;
    this.kbps = 0;
    this.session = null;
    for (const name of ["playing", "waiting", "pause", "seeking", "seeked", "ended", "error"]) {
      video.addEventListener(name, (event) => this.session?.on(name, moment(event)));
    }
    addEventListener("pagehide", (event) => this.session?.quit(moment(event)));
    setInterval(() => this.session?.beat(), HEARTBEAT_MS);
  }

  /** Press play. Resolves with the session's sid; rejects in words where the gateway does not let us. */
  async play(title) {
    const pressed = performance.timeOrigin + performance.now();
    this.stop();
    await shaperReady();
    const answer = await fetch(`${this.gateway}/play`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ title, member: member() }),
    }).catch(() => null);
    if (!answer) throw new Error("the gateway does not answer: `headrace status` says why");
    const ticket = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(ticket.error ?? `the gateway answered ${answer.status}`);
    this.session = new Session(this, ticket, pressed);
    this.changed();
    return ticket.sid;
  }

  /** Leave the session, if there is one. */
  stop() {
    this.session?.quit(performance.timeOrigin + performance.now());
    this.session?.dash.destroy();
    this.session = null;
    this.changed();
  }

  /** Let at most this many kbit/s through from now on; 0 for all the network gives. */
  throttle(kbps) {
    this.kbps = kbps;
    this.changed();
  }

  changed() {
    this.dispatchEvent(new Event("state"));
  }
}

class Session {
  constructor(player, ticket, pressed) {
    this.player = player;
    this.video = player.video;
    this.sid = ticket.sid;
    this.cid = ticket.cid;
    this.servers = ticket.manifest_urls;
    this.server = 0;
    this.pressed = pressed;
    this.startup = null;
    this.state = "";
    this.since = pressed;
    this.stalls = 0;
    this.stalled = 0;
    this.shown = null;
    this.reporter = new Reporter(
      ticket.collector_url,
      {
        sid: ticket.sid, cid: ticket.cid, sf: "d", st: "v", [`${CUSTOM}member`]: member(), [`${CUSTOM}device`]: "web",
        [`${CUSTOM}player`]: `dash.js/${MediaPlayer().create().getVersion()}`, [`${CUSTOM}cid`]: ticket.correlation_id,
      },
      (line, status) => player.dispatchEvent(new CustomEvent("told", { detail: { line, status } })),
    );
    this.turn("s", pressed);
    this.dash = this.attach();
  }

  attach() {
    const dash = MediaPlayer().create();
    dash.initialize(this.video, null, true);
    dash.updateSettings({
      streaming: {
        buffer: { bufferTimeDefault: BUFFER_S, bufferTimeAtTopQuality: BUFFER_S, bufferTimeAtTopQualityLongForm: BUFFER_S },
        fragmentRequestTimeout: REQUEST_TIMEOUT_MS,
        cmcd: { enabled: true, version: 1, mode: "query", sid: this.sid, cid: this.cid },
      },
    });
    dash.addRequestInterceptor((request) => Promise.resolve(this.player.kbps ? { ...request, url: `${request.url}#kbps=${this.player.kbps}` } : request));
    dash.addResponseInterceptor((response) => {
      this.fetched(response);
      return Promise.resolve(response);
    });
    dash.on(MediaPlayer.events.QUALITY_CHANGE_RENDERED, ({ mediaType, newRepresentation }) => this.rendered(mediaType, newRepresentation));
    dash.on(MediaPlayer.events.ERROR, ({ error }) => this.failed(error));
    dash.attachSource(this.servers[this.server]);
    return dash;
  }

  get closed() {
    return ["e", "f", "q"].includes(this.state);
  }

  /** A video element's event. */
  on(name, at) {
    if (this.closed) return;
    const { video } = this;
    if (name === "playing") this.turn("p", at);
    else if (name === "waiting" && this.startup === null) this.turn("s", at);
    else if (name === "waiting") this.turn(video.seeking ? "k" : "r", at);
    else if (this.state === "r" && name.startsWith("seek")) return; // dash.js jumps over a gap: the viewer still waits for the network
    else if (name === "seeking" && this.startup !== null) this.turn("k", at);
    else if (name === "seeked" && this.startup !== null) this.turn(video.paused ? "a" : video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA ? "p" : "k", at);
    else if (name === "pause" && !video.ended && !video.seeking && this.startup !== null) this.turn("a", at);
    else if (name === "ended") this.turn("e", at);
    else if (name === "error") this.fatal(at, `media-${video.error?.code ?? "unknown"}`);
  }

  /** The play state from `at` on; nothing is reported where it stays the same. */
  turn(state, at) {
    if (state === this.state || this.closed) return;
    if (this.state === "r") this.stalled += at - this.since;
    if (state === "r") this.stalls += 1;
    this.state = state;
    this.since = at;
    const first = state === "p" && this.startup === null;
    if (first) this.startup = at - this.pressed;
    this.reporter.report("ps", at, { ...this.status(), sta: state, msd: first ? this.startup : null });
    this.player.changed();
  }

  /** What every report says of the playback. */
  status() {
    const dash = this.dash;
    if (!dash?.isReady?.()) return { sta: this.state };
    const rates = dash.getRepresentationsByType("video").map((r) => r.bitrateInKbit);
    return {
      sta: this.state, bl: dash.getBufferLength("video") * 1000, br: this.shown, tb: rates.length ? Math.max(...rates) : null,
      mtp: dash.getAverageThroughput("video") || null, pt: this.video.currentTime * 1000, pr: this.state === "p" ? this.video.playbackRate : 0,
      bsa: this.stalls, bsda: this.stalled, bg: document.hidden,
    };
  }

  /** An answer, or that none came (status 0): one response-received report each, retries and failures included. */
  fetched(response) {
    const request = response.request.customData.request;
    if (this.closed || !request.startDate) return;
    const kbps = request.representation?.bitrateInKbit ?? null;
    this.reporter.report("rr", request.startDate.getTime(), {
      ...this.status(), url: response.request.url.split("#")[0].split("?")[0], rc: response.status ?? 0, br: kbps, d: request.duration * 1000 || null,
      ot: OBJECT_TYPES[request.type] ?? MEDIA_TYPES[request.mediaType] ?? "o", ttfb: request.firstByteDate - request.startDate,
      ttlb: request.endDate - request.startDate, [`${CUSTOM}bytes`]: request.bytesLoaded || response.data?.byteLength || null,
    });
    this.player.changed();
  }

  rendered(kind, representation) {
    if (kind !== "video" || !representation || this.closed) return;
    const first = this.shown === null;
    this.shown = representation.bitrateInKbit;
    if (!first) this.reporter.report("bc", Date.now(), this.status());
    this.player.changed();
  }

  /** dash.js gave something up: try the next cache server from here. Where none is left, dash.js may still jump over what it could not
      get and play on; only if the picture does not move again has the session failed. */
  failed(error) {
    if (this.closed) return;
    this.reporter.report("e", Date.now(), { ...this.status(), ec: [`dash-${error.code}`] });
    if (this.server + 1 < this.servers.length) {
      this.server += 1;
      this.dash.attachSource(this.servers[this.server], this.video.currentTime);
    } else if (this.startup === null) this.turn("f", Date.now());
    else {
      const { since } = this;
      setTimeout(() => this.state === "r" && this.since === since && this.turn("f", Date.now()), GIVE_UP_MS);
    }
  }

  fatal(at, code) {
    if (!this.closed) this.reporter.report("e", at, { ...this.status(), ec: [code] });
    this.turn("f", at);
  }

  beat() {
    if (!this.closed) this.reporter.report("t", Date.now(), this.status());
  }

  quit(at) {
    this.turn("q", at);
    this.reporter.leave();
  }
}

let worker = null;

/** Resolves when the shaper stands between this page and the network; without service workers the network is simply not shaped. */
function shaperReady() {
  if (!navigator.serviceWorker) return Promise.resolve();
  worker ??= navigator.serviceWorker.register("/shaper.js").then(() =>
    navigator.serviceWorker.controller ? null : new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true })),
  );
  return worker;
}
