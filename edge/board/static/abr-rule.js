/* Headrace's own adaptation in dash.js: a custom rule that asks the evaluator in abr.js, and what it needs to know of a session.

   dash.js asks before each segment, the first one included, but not for the first one after a seek, which keeps its level. Where it then
   changes the representation it may ask again for the same segment, so a decision rests on what was fetched, never on what was decided.
   A level that the viewer chose, and whether dash.js adapts at all, stay with dash.js: it does not ask while `autoSwitchBitrate.video` is
   off. What is asked here is for video alone. */

import { explain } from "./abr.js";

const RULE = "HeadraceRule";
const OFF = ["throughputRule", "bolaRule", "insufficientBufferRule", "switchHistoryRule", "droppedFramesRule", "l2ARule", "loLPRule"];
const DEFAULT_PRIORITY = 0.5; // of dash.js's SwitchRequest
const WHOLE = 200;
const AHEAD = 16; // the evaluator plans ten segments and looks at four
const SAMPLES = 48; // nor does it remember more
const EDGE = 0.1; // share of a segment by which a buffer may end before its segment does

export class Adaptation {
  /** Adapts one session by `policy` and `prior` (null: nothing is known). `decided({state, prior, ...explanation})` is told each decision.
      The first segment is of the highest level up to `start` kbit/s, the lowest where all are higher; 0: that is decided, too. */
  constructor(policy, prior, video, decided = () => {}, start = 0) {
    this.policy = policy;
    this.prior = prior;
    this.video = video;
    this.decided = decided;
    this.start = start;
    this.throughputs = [];
    this.delays = [];
    this.previous = null;
    this.files = null;
  }

  /** Take over from dash.js's own rules; to be called before a source is attached. What gives up a download that would stall stays its. */
  attach(dash) {
    const off = Object.fromEntries(OFF.map((name) => [name, { active: false }]));
    // Fast switching would fetch again what the buffer holds, which no plan reckons with.
    dash.updateSettings({ streaming: { abr: { rules: off }, buffer: { fastSwitchEnabled: false } } });
    const rule = { getClassName: () => RULE, getSwitchRequest: (context) => this.request(context, dash) };
    dash.addABRCustomRule("qualitySwitchRules", RULE, () => ({ create: () => rule }));
  }

  /** A response has come, whole or not: what a whole video segment tells of the network. */
  fetched(response) {
    const { type, mediaType, representation } = response.request.customData.request;
    const bytes = response.data?.byteLength;
    if (type !== "MediaSegment" || mediaType !== "video" || response.status !== WHOLE || !bytes) return;
    const ms = response.resourceTiming.responseEnd - response.resourceTiming.startTime;
    this.throughputs = [...this.throughputs, (bytes * 8) / ms].slice(-SAMPLES);
    this.delays = [...this.delays, ms / 1000].slice(-SAMPLES);
    this.previous = representation.bandwidth;
  }

  /** The sizes of the title's files, `{name: {bytes}}` by path below the manifest's directory, as its checksums.json has them. */
  learn(files) {
    this.files = files;
  }

  /** dash.js's question. */
  request(context, dash) {
    const unchanged = { representation: null, reason: null, rule: RULE, priority: DEFAULT_PRIORITY };
    if (context.getMediaType() !== "video") return unchanged;
    const media = context.getMediaInfo();
    const ladder = ascending(context.getAbrController().getPossibleVoRepresentationsFilteredBySettings(media, true));
    const current = context.getRepresentation();
    const segmentS = current.segmentDuration || current.fragmentDuration;
    if (!ladder.length || !(segmentS > 0)) return unchanged; // an index that has not come yet: dash.js will ask again
    if (this.start > 0 && this.previous === null) {
      const first = ladder.findLast((one) => one.bandwidth <= 1000 * this.start) ?? ladder[0];
      return { ...unchanged, representation: first, reason: { message: `[${RULE}] start_bitrate_kbps` } };
    }
    const state = this.state(ladder, segmentS, media.streamInfo, dash.getBufferLength("video") || 0, context.getScheduleController().getBufferTarget());
    const explanation = explain(this.policy, state, this.prior);
    this.decided({ state, prior: this.prior, ...explanation });
    return { ...unchanged, representation: ladder[explanation.level], reason: { message: `[${RULE}] ${explanation.by}` } };
  }

  /** What may be seen, as producers/abr/state.py has it. `ladder` are representations, ascending. */
  state(ladder, segmentS, period, bufferS, bufferMaxS) {
    // The next segment begins where the buffer ends, and holds the playhead where that is empty.
    const position = Math.max(this.video.currentTime + bufferS - period.start, 0);
    const next = Math.floor(position / segmentS + EDGE);
    const ends = (endS) => Math.max(Math.ceil(endS / segmentS - EDGE) - next, 1);
    const left = Number.isFinite(period.duration) ? ends(Math.max(period.duration, this.video.duration - period.start || 0)) : AHEAD + 1;
    const ahead = Math.min(Number.isFinite(period.duration) ? ends(period.duration) : AHEAD, AHEAD);
    return {
      buffer_s: bufferS, buffer_max_s: bufferMaxS, segment_s: segmentS, bitrates_kbps: ladder.map((one) => one.bandwidth / 1000),
      sizes: Array.from({ length: ahead }, (_, at) => ladder.map((one) => this.size(one, next + at) ?? (one.bandwidth / 8) * segmentS)),
      left, previous: ladder.findIndex((one) => one.bandwidth === this.previous), throughputs_kbps: this.throughputs, delays_s: this.delays,
    };
  }

  /** Bytes of a segment, by the index of its file or by the title's sizes; undefined where neither is known. */
  size(representation, index) {
    const range = representation.segments?.[index]?.mediaRange?.split("-").map(Number);
    if (range) return range[1] - range[0] + 1;
    return representation.media && this.files?.[named(representation, index)]?.bytes;
  }
}

/** The representations by bitrate; of two with the same one, the first. */
function ascending(representations) {
  const sorted = [...representations].sort((a, b) => a.bandwidth - b.bandwidth);
  return sorted.filter((one, at) => at === 0 || one.bandwidth > sorted[at - 1].bandwidth);
}

/** The name of a segment's file by its SegmentTemplate (ISO/IEC 23009-1, 5.3.9.4.4). Templates by $Time$ name none that sizes are known of. */
function named({ media, id, bandwidth, startNumber }, index) {
  const values = { RepresentationID: id, Bandwidth: bandwidth, Number: startNumber + index };
  return media.replace(/\$(RepresentationID|Bandwidth|Number)(?:%0(\d+)d)?\$/g, (_, name, width) => String(values[name]).padStart(width ?? 0, "0"));
}
