/* The web player: dash.js plays what the gateway's ticket names, and every change on the screen is reported at the moment it happened. */

import { MediaPlayer } from "/vendor/dash.js";
import { read, readPrior } from "/static/abr.js";
import { Adaptation } from "/static/abr-rule.js";
import { Reporter } from "/static/cmcd.js";

const HEARTBEAT_MS = 10_000;
const TOUCH_MS = 1000;
const GIVE_UP_MS = 10_000;
const REQUEST_TIMEOUT_MS = 60_000; // a slow answer is no error: dash.js's own 20 s would make one of a narrow network
const BUFFER_S = 8; // short, so that a narrow network is felt within seconds
const SIZES_AFTER = 2; // so many segments in, the link has time for the sizes of the rest
const MEMBER = "headrace.member";
const CUSTOM = "com.headrace-";
const DEVICE = "web";
const OBJECT_TYPES = { MPD: "m", InitializationSegment: "i" };
const RULES = { policy: "headrace", bola: "bola" }; // values of the flag abr_rule, and what reports call them
const MEDIA_TYPES = { video: "v", audio: "a", text: "tt" };

/** This browser's member id: made once, and only ever stored as a pseudonym. */
export function member() {
  if (!localStorage.getItem(MEMBER)) localStorage.setItem(MEMBER, `web-${crypto.randomUUID().slice(0, 13)}`);
  return localStorage.getItem(MEMBER);
}

/** The policy of Headrace's own adaptation; null where it cannot be had, or is none that our evaluator reads. */
async function ownPolicy() {
  try {
    return read(await (await fetch("/abr/policy.json")).json());
  } catch (error) {
    console.error("adaptation is left to dash.js:", error);
    return null;
  }
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
    this.abr = "";
    this.session = null;
    for (const name of ["playing", "waiting", "pause", "seeking", "seeked", "ended", "error"]) {
      video.addEventListener(name, (event) => this.session?.on(name, moment(event)));
    }
    // dash.js seeks too, over gaps; only a seek right after the viewer touched the video is the viewer's.
    this.touched = -Infinity;
    for (const name of ["pointerdown", "pointermove", "pointerup", "keydown"]) {
      video.addEventListener(name, (event) => (event.type !== "pointermove" || event.buttons) && (this.touched = moment(event)));
    }
    addEventListener("pagehide", (event) => this.session?.leave(moment(event)));
    setInterval(() => this.session?.beat(), HEARTBEAT_MS);
  }

  /** Press play, by `event` if a viewer did, to begin at `from` s. Resolves with the session's sid; rejects in words where the gateway does not let us. */
  async play(title, event, from = 0) {
    const pressed = event ? moment(event) : performance.timeOrigin + performance.now();
    this.stop();
    if (this.abr !== "dash.js") this.policy ??= ownPolicy();
    const answer = await fetch(`${this.gateway}/play`, {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ title, member: member(), device_type: DEVICE, experiments: !this.abr }),
    }).catch(() => null);
    if (!answer) throw new Error("the gateway does not answer: `headrace status` says why");
    const ticket = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(ticket.error ?? `the gateway answered ${answer.status}`);
    const abr = this.abr || (RULES[ticket.flags?.abr_rule] ?? "headrace");
    this.session = new Session(this, ticket, pressed, abr, abr === "headrace" ? await this.policy : null, from);
    this.changed();
    return ticket.sid;
  }

  /** Leave the session, if there is one. */
  stop() {
    this.session?.turn("q", performance.timeOrigin + performance.now());
    this.session?.dash.destroy();
    this.session = null;
    this.changed();
  }

  /** Adapt by "headrace", our own policy, by "dash.js", its rules, or, "", as experiments say, from the next play on. Who chooses is in none. */
  adapt(abr) {
    this.abr = abr;
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
  constructor(player, ticket, pressed, abr, policy, from) {
    this.player = player;
    this.video = player.video;
    this.sid = ticket.sid;
    this.cid = ticket.cid;
    this.servers = ticket.manifest_urls;
    this.server = 0;
    this.from = from;
    this.pressed = pressed;
    this.startup = null;
    this.state = "";
    this.since = pressed;
    this.stalls = 0;
    this.stalled = 0;
    this.shown = null;
    this.sought = false;
    this.bola = abr === "bola";
    this.start = Number(ticket.flags?.start_bitrate_kbps) || 0;
    // Each decision is an event of the video element's, for who wants to see why.
    this.adaptation = policy && new Adaptation(policy, readPrior(ticket.prior), this.video, (detail) => this.video.dispatchEvent(new CustomEvent("adapted", { detail })), this.start);
    this.reporter = new Reporter(
      ticket.collector_url,
      {
        sid: ticket.sid, cid: ticket.cid, sf: "d", st: "v", [`${CUSTOM}member`]: member(), [`${CUSTOM}device`]: DEVICE,
        [`${CUSTOM}player`]: `dash.js/${MediaPlayer().create().getVersion()}`, [`${CUSTOM}cid`]: ticket.correlation_id,
        [`${CUSTOM}abr`]: policy ? "headrace" : this.bola ? "bola" : "dash.js",
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
    if (this.bola) dash.updateSettings({ streaming: { abr: { rules: { throughputRule: { active: false }, bolaRule: { active: true } } } } });
    if (this.start) dash.updateSettings({ streaming: { abr: { initialBitrate: { video: this.start } } } });
    this.adaptation?.attach(dash);
    dash.addRequestInterceptor((request) => Promise.resolve(this.player.kbps ? { ...request, url: narrowed(request.url, this.player.kbps) } : request));
    dash.addResponseInterceptor((response) => {
      this.adaptation?.fetched(response);
      if (this.adaptation?.throughputs.length >= SIZES_AFTER) this.sizes ??= this.learnSizes();
      this.fetched(response);
      return Promise.resolve(response);
    });
    dash.on(MediaPlayer.events.QUALITY_CHANGE_RENDERED, ({ mediaType, newRepresentation }) => this.rendered(mediaType, newRepresentation));
    dash.on(MediaPlayer.events.ERROR, ({ error }) => this.failed(error));
    dash.attachSource(this.servers[this.server], this.from || undefined);
    return dash;
  }

  get closed() {
    return ["e", "f", "q"].includes(this.state);
  }

  /** A video element's event. */
  on(name, at) {
    if (this.closed) return;
    const { video } = this;
    if (name === "playing") {
      this.sought = false;
      this.turn("p", at);
    } else if (name === "waiting" && this.startup === null) this.turn("s", at);
    else if (name === "waiting") this.turn(this.sought ? "k" : "r", at);
    else if (name === "seeking" && this.startup !== null && at - this.player.touched < TOUCH_MS) {
      this.sought = true;
      this.turn("k", at);
    } else if (name === "seeked" && this.sought && video.paused) this.turn("a", at);
    else if (name === "seeked" && this.sought && video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA) this.turn("p", at);
    else if (name === "ended" || (name === "pause" && atEnd(video))) this.turn("e", at);
    else if (name === "pause" && !this.sought && this.startup !== null) this.turn("a", at);
    else if (name === "error") this.trouble(at, `media-${video.error?.code ?? "unknown"}`);
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
      ...this.status(), url: response.request.url.split("?")[0], rc: response.status ?? 0, br: kbps, d: request.duration * 1000 || null,
      ot: OBJECT_TYPES[request.type] ?? MEDIA_TYPES[request.mediaType] ?? "o", ttfb: request.firstByteDate - request.startDate,
      ttlb: request.endDate - request.startDate, [`${CUSTOM}bytes`]: request.bytesLoaded || response.data?.byteLength || null,
    });
    this.player.changed();
  }

  /** What the title's files weigh, from the server in use. Where that does not say, plans reckon with bitrates. */
  async learnSizes() {
    const url = new URL("checksums.json", this.servers[this.server]).href;
    const answer = await fetch(this.player.kbps ? narrowed(url, this.player.kbps) : url).catch(() => null);
    const told = answer?.ok ? await answer.json().catch(() => null) : null;
    if (told?.files) this.adaptation.learn(told.files);
  }

  rendered(kind, representation) {
    if (kind !== "video" || !representation || this.closed) return;
    const first = this.shown === null;
    this.shown = representation.bitrateInKbit;
    if (!first) this.reporter.report("bc", Date.now(), this.status());
    this.player.changed();
  }

  /** dash.js gave something up: try the next cache server from here, where there is one. */
  failed(error) {
    this.trouble(Date.now(), `dash-${error.code}`);
    if (!this.closed && this.server + 1 < this.servers.length) {
      this.server += 1;
      this.dash.attachSource(this.servers[this.server], this.video.currentTime);
    }
  }

  /** An error. dash.js mends many by itself (it resets the decoder, jumps over what it could not get); only if no picture moves for a
      while, or none ever did and no server is left to try, has the session failed. */
  trouble(at, code) {
    if (this.closed) return;
    this.reporter.report("e", at, { ...this.status(), ec: [code] });
    const last = this.server + 1 >= this.servers.length;
    if (this.startup === null && last) this.turn("f", at);
    const stuckAt = this.video.currentTime;
    setTimeout(() => this.state !== "a" && this.video.currentTime === stuckAt && this.turn("f", Date.now()), GIVE_UP_MS);
  }

  beat() {
    if (!this.closed) this.reporter.report("t", Date.now(), this.status());
  }

  /** The page goes away. */
  leave(at) {
    this.reporter.leave();
    this.turn("q", at);
    this.reporter.send();
  }
}

/** Whether everything has been shown. dash.js pauses the element at the end, and where it does so before the element says `ended`, that
    event never comes. */
const atEnd = (video) => video.ended || video.currentTime >= video.duration;

/** The address that asks a cache server to answer as if the network in between let only this much through. */
function narrowed(url, kbps) {
  const narrow = new URL(url);
  narrow.searchParams.set("narrow_kbps", kbps);
  return narrow.href;
}
