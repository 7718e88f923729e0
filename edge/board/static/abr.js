/* Headrace's own adaptation in JavaScript: the evaluator of producers/abr/policy.json.

   The definition, with its papers, stands in producers/abr: state.py, plan.py, network.py, policy.py. This file says the same, function
   by function and sum by sum, under the same names, and a test holds the two against each other on ten thousand states. A state has the
   fields of producers/abr/state.py, with null for Python's None; a prior those of producers/abr/prior.py. Pure: no page, no network. */

const SCHEMA_VERSION = 1;
const SHORTEST_DELAY_S = 1e-6, LONGEST_DELAY_S = 600, SLOWEST_KBPS = 1e-3, FASTEST_KBPS = 1e9;
const SIDE = 2, REACH = 3, STEP = 1.2, ERRORS = 2 * SIDE + 1, WIDTH = 2 * REACH + 1;
const POINTS = 18, SPAN_S = 34;
const SIGMA_MAX = 3;
const STARTS = 10, PERSISTENCE = 0.8, SEGMENTS = 20, LEAST_WITHIN = 0.04, LEAST_DOUBT = 0.01, OUTAGE = 0.0025, OUTAGE_S = 15, FARTHEST = 5, TOLD_WEIGHT = 8;
const LEAST_WEIGHT = 0.5;
const REMEMBERED = 48;
const RECENT = 8, DELAYS = 4, POOLED = 5, AHEAD = 4;
const FAST = 0.3, SLOW = 0.07;
const CENTRE = 7, CENTRE_KBPS = 1096.6331584284585, LOGS = 5, GRID = 4096;
const TIE = 1e-9;
const PLAN = ["gain", "slow_gain", "pull", "sigma", "sigma_weight", "sigma_gain", "horizon", "worth", "enough_s"];
const AIM = ["rebuffer", "up", "down", "weight"];

/** No decision can be made on this state; the message says what is wrong with it. */
export class BadState extends Error {
  name = "BadState";
}

/** No policy, or none that this evaluator can read; the message says what is wrong and where. */
export class BadPolicy extends Error {
  name = "BadPolicy";
}

// ── the policy ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The policy in the JSON of a policy.json, already parsed. Throws BadPolicy. Ranges are judged where a policy is published. */
export function read(json) {
  if (json?.schema_version !== SCHEMA_VERSION) throw new BadPolicy(`schema_version ${json?.schema_version}; this evaluator reads ${SCHEMA_VERSION}`);
  const { plan, reward, network } = json;
  for (const name of PLAN) number(plan?.[name], `plan.${name}`);
  for (const name of AIM) number(reward?.[name], `reward.${name}`);
  if (!(Number.isInteger(plan.horizon) && plan.horizon >= 1)) throw new BadPolicy(`plan.horizon: ${plan.horizon} segments`);
  return { plan, reward, network: network ? trained(network) : null };
}

function trained(network) {
  const { ladder_kbps: ladder, segment_s, share, cut, caution, layers } = network;
  numbers(ladder, "network.ladder_kbps");
  for (const [name, value] of Object.entries({ segment_s, share, cut, caution })) number(value, `network.${name}`);
  if (!Array.isArray(layers) || !layers.length) throw new BadPolicy("network.layers: there is none");
  let width = count(ladder.length);
  const read = layers.map(({ weights, biases }, at) => {
    const where = `network.layers[${at}]`;
    numbers(biases, `${where}.biases`);
    if (!Array.isArray(weights) || weights.length !== width) throw new BadPolicy(`${where}: ${weights?.length} rows of weights for ${width} inputs`);
    for (const row of weights) {
      numbers(row, `${where}.weights`);
      if (row.length !== biases.length) throw new BadPolicy(`${where}: a row of ${row.length} weights for ${biases.length} outputs`);
    }
    width = biases.length;
    return { weights: weights.map((row) => Float64Array.from(row)), biases: Float64Array.from(biases) };
  });
  if (width !== ladder.length) throw new BadPolicy(`network.layers: ${width} outputs for a ladder of ${ladder.length}`);
  return { ladder_kbps: ladder, segment_s, share, cut, caution, layers: read };
}

function numbers(found, where) {
  if (!Array.isArray(found) || !found.length) throw new BadPolicy(`${where}: numbers are wanted`);
  found.forEach((one) => number(one, where));
}

function number(found, where) {
  if (!Number.isFinite(found)) throw new BadPolicy(`${where}: ${found} is no finite number`);
}

/** What the gateway told of throughput; null where that is no prior: one can play without. */
export function readPrior(told) {
  const { mean_log_kbps, sd_log_kbps, weight } = told ?? {};
  const right = [mean_log_kbps, sd_log_kbps, weight].every(Number.isFinite) && sd_log_kbps >= 0 && weight >= 0;
  return right ? { mean_log_kbps, sd_log_kbps, weight } : null;
}

// ── the decision ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The level of the next segment. Throws BadState. `penaltyS`: what going to another server will add to the next download. */
export function choose(policy, state, prior = null, penaltyS = 0) {
  return explain(policy, state, prior, penaltyS).level;
}

/** The choice with its reasons, {level, by, throughput_kbps, worth, plan}. Throws BadState, and RangeError for a penalty that is none. */
export function explain(policy, state, prior = null, penaltyS = 0) {
  if (!(Number.isFinite(penaltyS) && penaltyS >= 0)) throw new RangeError(`a penalty of ${penaltyS} s`);
  const seen = checked(state);
  const expected = forecast(policy.plan, seen.throughputs_kbps, prior);
  if (!expected) {
    const nothing = seen.bitrates_kbps.map(() => 0);
    return { level: 0, by: "start", throughput_kbps: [0, 0, 0], worth: nothing, plan: nothing };
  }
  const network = policy.network;
  const speaks = network && seen.previous >= 0 && seen.throughputs_kbps.length && !expected.told && fits(network, seen);
  const aim = speaks ? { ...policy.reward, rebuffer: policy.reward.rebuffer * network.caution } : policy.reward;
  const planned = plan(policy.plan, aim, seen, expected, penaltyS);
  let worth = planned, by = "plan";
  if (speaks) {
    const liked = outputs(network.layers, features(seen, Math.max(seen.buffer_s - penaltyS, 0)));
    const most = Math.max(...liked);
    worth = planned.map((value, level) => value + network.share * Math.max(liked[level] - most, -network.cut));
    by = "network and plan";
  }
  return { level: best(worth), by, throughput_kbps: quantiles(expected), worth, plan: planned };
}

function best(worth) {
  let found = 0;
  for (let level = 1; level < worth.length; level++) if (worth[level] > worth[found] + TIE) found = level;
  return found;
}

function quantiles({ level, sigma, slow, pull, told }) {
  const reach = (told ? 1.2815515655446004 : 1.6377443536962102) * sigma, centre = told ? level + pull * (slow - level) : level;
  return [Math.exp(centre - reach), Math.exp(centre), Math.exp(centre + reach)];
}

const fits = ({ ladder_kbps, segment_s }, state) => segment_s === state.segment_s && ladder_kbps.length === state.bitrates_kbps.length
  && ladder_kbps.every((kbps, level) => kbps === state.bitrates_kbps[level]);

// ── the state ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The state as a decision can bear it. What a network or a clock does is tolerated; what only a wrong caller does throws BadState. */
function checked(state) {
  const {
    bitrates_kbps: kbps, segment_s, buffer_s, buffer_max_s, left, previous = -1, sizes, utilities = [], previous_utility = null,
    throughputs_kbps = [], delays_s = [],
  } = state;
  const levels = kbps.length, positive = (one) => Number.isFinite(one) && one > 0, within = (one, least, most) => least <= one && one <= most;
  const refuse = (wrong, words) => {
    if (wrong) throw new BadState(words);
  };
  refuse(!levels, "the ladder has no level");
  refuse(!kbps.every(positive), `a bitrate is not a positive number: ${kbps}`);
  refuse(kbps.some((one, at) => at && kbps[at - 1] >= one), `the ladder does not ascend: ${kbps}`);
  refuse(!positive(segment_s), `a segment lasts ${segment_s} s`);
  refuse(Number.isNaN(buffer_s) || !positive(buffer_max_s), `the buffer holds ${buffer_s} s of ${buffer_max_s} s`);
  refuse(left < 1, `${left} segments are left: there is nothing to choose`);
  refuse(!(previous >= -1 && previous < levels), `the level before was ${previous}; the ladder has levels 0 to ${levels - 1}`);
  refuse(!(sizes.length >= 1 && sizes.length <= left), `sizes of ${sizes.length} segments, where ${left} are left`);
  sizes.forEach((row, ahead) => refuse(row.length !== levels || !row.every(positive), `sizes of the segment ${ahead} ahead: ${row}`));
  refuse(utilities.length && utilities.length < sizes.length, `utilities of ${utilities.length} segments, sizes of ${sizes.length}`);
  utilities.forEach((row, ahead) => refuse(row.length !== levels || !row.every(Number.isFinite), `utilities of the segment ${ahead} ahead: ${row}`));
  refuse(previous_utility !== null && !Number.isFinite(previous_utility), `the segment before was worth ${previous_utility}`);
  refuse(throughputs_kbps.length !== delays_s.length, `${throughputs_kbps.length} throughputs, ${delays_s.length} delays`);
  const measured = throughputs_kbps.map((one, at) => within(one, SLOWEST_KBPS, FASTEST_KBPS) && within(delays_s[at], SHORTEST_DELAY_S, LONGEST_DELAY_S));
  return {
    bitrates_kbps: kbps, segment_s, buffer_s: Math.min(Math.max(buffer_s, 0), buffer_max_s), buffer_max_s, left, previous, sizes, utilities,
    previous_utility, throughputs_kbps: throughputs_kbps.filter((_, at) => measured[at]), delays_s: delays_s.filter((_, at) => measured[at]),
  };
}

const worthOf = (state, ahead) => (state.utilities.length ? state.utilities[ahead] : state.bitrates_kbps.map((kbps) => kbps / 1000));

function worthBefore(state) {
  if (state.previous < 0) return null;
  return state.previous_utility === null ? state.bitrates_kbps[state.previous] / 1000 : state.previous_utility;
}

// ── the plan ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function forecast(tuning, throughputs, given) {
  if (given && given.weight > 0 && throughputs.length < STARTS) return told(throughputs, given);
  const prior = given && given.weight < LEAST_WEIGHT ? null : given;
  let known = prior ? prior.weight : 0, level = prior ? believable(prior.mean_log_kbps) : 0, slow = level, begun = false;
  let squares = tuning.sigma_weight * tuning.sigma * tuning.sigma, weight = tuning.sigma_weight;
  const gain = tuning.sigma_gain, kept = tuning.sigma_gain * tuning.sigma_weight;
  for (const kbps of throughputs.slice(-REMEMBERED)) {
    const x = believable(Math.log(kbps)), error = x - level;
    known += 1;
    slow += Math.max(tuning.slow_gain, 1 / known) * (x - slow);
    level += Math.max(tuning.gain, 1 / known) * error;
    if (begun) {
      squares += error * error - gain * squares + kept * tuning.sigma * tuning.sigma;
      weight += 1 - gain * weight + kept;
    }
    begun = true;
  }
  if (known <= 0) return null;
  const unknown = prior ? (prior.sd_log_kbps * prior.weight) / known : 0;
  const sigma = Math.min(Math.sqrt(squares / weight + unknown * unknown), SIGMA_MAX);
  return { level, sigma, slow, later: sigma, gain: tuning.gain, pull: tuning.pull, told: false };
}

function averaged(segments) {
  let total = 1, left = 1;
  for (let lag = 1; lag < segments; lag++) {
    left *= PERSISTENCE;
    total += 2 * (1 - lag / segments) * left;
  }
  return total / segments;
}

function told(throughputs, prior) {
  const sd = Math.min(prior.sd_log_kbps, SIGMA_MAX), most = SIGMA_MAX * SIGMA_MAX, fresh = 1 - PERSISTENCE * PERSISTENCE;
  let within = Math.min(Math.max((prior.weight * sd * sd) / (1 - averaged(SEGMENTS)), LEAST_WITHIN), most);
  let doubt = Math.max(sd * sd - within * averaged(STARTS), LEAST_DOUBT);
  let mean = believable(prior.mean_log_kbps), level = mean, squares = TOLD_WEIGHT, weight = TOLD_WEIGHT;
  throughputs.forEach((kbps, at) => {
    const x = believable(Math.log(kbps)), share = at ? 1 - PERSISTENCE : 1;
    const variance = share * share * doubt + within * (at ? fresh : 1);
    const error = at ? x - level - share * (mean - level) : x - mean;
    if (at) {
      squares += (error * error) / variance;
      weight += 1;
    }
    const gain = (doubt * share) / variance;
    mean += gain * error;
    doubt *= 1 - gain * share;
    level = x;
  });
  within = Math.min((within * squares) / weight, most);
  const pull = 1 - PERSISTENCE, later = Math.sqrt(within * fresh + pull * pull * doubt);
  mean = Math.min(Math.max(mean, level - FARTHEST), level + FARTHEST);
  return { level, sigma: throughputs.length ? later : Math.sqrt(within + doubt), slow: mean, later, gain: 1, pull, told: true };
}

const believable = (log) => Math.min(Math.max(log, 0), 20);

/** [level] what the next segment and the best plan after it are worth on average. Arrays are flat: [level][m][buffer]. */
function plan(tuning, aim, state, expected, penaltyS) {
  const levels = state.bitrates_kbps.length, horizon = Math.min(tuning.horizon, state.sizes.length);
  const point = Math.min(SPAN_S, state.buffer_max_s) / (POINTS - 1);
  const lattice = latticeOf(expected, expected.later), soon = expected.sigma === expected.later ? lattice : latticeOf(expected, expected.sigma);
  const buffers = Float64Array.from({ length: POINTS }, (_, at) => point * at), every = Array.from({ length: WIDTH }, (_, m) => m);
  let value = new Float64Array(levels * WIDTH * POINTS);
  if (horizon !== state.left) {
    const end = buffers.map((buffer) => {
      const lack = Math.max(1 - buffer / tuning.enough_s, 0);
      return ((aim.rebuffer * tuning.worth * tuning.enough_s) / 2) * (1 - lack * lack);
    });
    for (let at = 0; at < value.length; at += POINTS) value.set(end, at);
  }
  for (let ahead = horizon - 1; ahead > 0; ahead--) {
    const worth = worthOf(state, ahead), before = worthOf(state, ahead - 1), better = new Float64Array(value.length).fill(-Infinity);
    for (let level = 0; level < levels; level++) {
      const after = expectedOf(value, level, lattice, every, state.sizes[ahead][level], 0, buffers, state.segment_s, point, aim.rebuffer);
      for (let at = 0; at < after.length; at++) after[at] += aim.weight * worth[level];
      for (let from = 0; from < levels; from++) {
        const switching = switchingOf(aim, worth[level] - before[from]), base = from * WIDTH * POINTS;
        for (let at = 0; at < after.length; at++) {
          const one = after[at] - switching;
          if (one > better[base + at]) better[base + at] = one;
        }
      }
    }
    value = better;
  }
  const worth = worthOf(state, 0), before = worthBefore(state);
  return worth.map((one, level) => {
    const after = expectedOf(value, level, soon, [REACH], state.sizes[0][level], penaltyS, [state.buffer_s], state.segment_s, point, aim.rebuffer);
    return after[0] + aim.weight * one - switchingOf(aim, one - (before ?? one));
  });
}

const switchingOf = (aim, change) => aim.up * Math.max(change, 0) + aim.down * Math.max(-change, 0);

/** {odds, slowness, heldS, moves}, [m][error]: the odds of each error of such a σ, seconds per kilobit with it; [error] seconds that a
    download is held up besides, and by how much m moves. Told sessions have one error more: an outage. */
function latticeOf({ level, slow, later, gain, pull, told }, sigma) {
  const odds = [], slowness = [], sides = Array.from({ length: ERRORS }, (_, side) => side - SIDE), densityOf = told ? normal : student;
  const every = told ? [...sides, 0] : sides, share = told ? 1 - OUTAGE : 1;
  for (let at = 0; at < WIDTH; at++) {
    const step = (at - REACH) * gain * later * STEP, centre = (pull * (slow - level - step)) / sigma;
    const density = sides.map((side) => densityOf(side * STEP - centre));
    const total = density.reduce((sum, one) => sum + one, 0);
    odds.push([...density.map((one) => (one / total) * share), ...(told ? [OUTAGE] : [])]);
    slowness.push(every.map((side) => Math.exp(-(level + step + sigma * (side * STEP)))));
  }
  return {
    odds, slowness, heldS: [...sides.map(() => 0), ...(told ? [OUTAGE_S] : [])],
    moves: every.map((side) => Math.floor(side * (sigma / later) + 0.5)),
  };
}

function student(error) {
  const one = 1 + (error * error) / 3;
  return 1 / (one * one);
}

const normal = (error) => Math.exp((-error * error) / 2);

/** [m of `which`][buffer] the mean over errors of `value` after a download of `size` bytes less its rebuffering. */
function expectedOf(value, level, { odds, slowness, heldS, moves }, which, size, penaltyS, buffers, segmentS, point, rebuffer) {
  const mean = new Float64Array(which.length * buffers.length);
  which.forEach((m, row) => {
    for (let error = 0; error < moves.length; error++) {
      const delay = ((size * 8) / 1000) * slowness[m][error] + heldS[error] + penaltyS;
      const base = (level * WIDTH + Math.min(Math.max(m + moves[error], 0), WIDTH - 1)) * POINTS;
      for (let buffer = 0; buffer < buffers.length; buffer++) {
        const left = buffers[buffer] - delay;
        const at = Math.min((Math.max(left, 0) + segmentS) / point, POINTS - 1);
        const below = Math.min(Math.floor(at), POINTS - 2);
        const low = value[base + below], high = value[base + below + 1];
        mean[row * buffers.length + buffer] += (low + (at - below) * (high - low) + rebuffer * Math.min(left, 0)) * odds[m][error];
      }
    }
  });
  return mean;
}

// ── the network ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const count = (levels) => 13 + RECENT + DELAYS + 4 * levels;
const onGrid = (value) => Math.floor(value * GRID + 0.5) / GRID;
const bounded = (log) => Math.min(Math.max(onGrid(log) - CENTRE, -LOGS), LOGS - 2);
const spare = (buffer, size, rate) => Math.min(Math.max((buffer - (size * 8) / 1000 / (rate * CENTRE_KBPS + 1)) / 8, -1), 3);

/** What the network sees of a state with at least one sample, (count(levels),). */
function features(state, buffer) {
  const kbps = state.throughputs_kbps.slice(-REMEMBERED), took = state.delays_s.slice(-REMEMBERED);
  const logs = kbps.map((one) => bounded(Math.log(one)));
  let fast = logs[0], slow = logs[0], low = logs[0], changeFast = 0, changeSlow = 0;
  for (const x of logs.slice(1)) {
    const change = Math.abs(x - fast);
    changeFast += FAST * (change - changeFast);
    changeSlow += SLOW * (change - changeSlow);
    fast += FAST * (x - fast);
    slow += SLOW * (x - slow);
    low = Math.min(low, x);
  }
  let sent = 0, lasted = 0;
  for (let at = Math.max(kbps.length - POOLED, 0); at < kbps.length; at++) {
    sent += kbps[at] * took[at];
    lasted += took[at];
  }
  const pooled = bounded(Math.log(sent / lasted)), rate = onGrid(Math.exp(pooled)), slower = onGrid(Math.exp(pooled - changeFast));
  const sizes = state.sizes[0], top = state.bitrates_kbps.at(-1) * state.segment_s * 125;
  let after = state.sizes.slice(1, 1 + AHEAD).map((row) => row.at(-1) / top);
  if (!after.length) after = [sizes.at(-1) / top];
  let mean = 0;
  for (const size of after) mean += size / after.length;
  const newest = (values, length) => Array.from({ length }, (_, back) => values[Math.max(values.length - 1 - back, 0)]);
  return [
    buffer / 10, Math.min(buffer, 8) / 4, ...sizes.map((_, level) => (level === state.previous ? 1 : 0)),
    ...newest(logs, RECENT), ...newest(took, DELAYS).map((one) => onGrid(Math.log(one))),
    fast, slow, changeFast, changeSlow, low, Math.min(logs.length, 10) / 10, pooled,
    ...sizes.map((size) => size / 1e6), ...sizes.map((size) => spare(buffer, size, rate)), ...sizes.map((size) => spare(buffer, size, slower)),
    mean, after[0], Math.min(state.left, 16) / 16, Math.min(state.left, 4) / 4,
  ];
}

/** The outputs; one input after the other, so that the order of every sum is fixed. */
function outputs(layers, inputs) {
  return layers.reduce((values, { weights, biases }, at) => {
    const total = biases.slice();
    values.forEach((value, input) => weights[input].forEach((weight, output) => (total[output] += value * weight)));
    return at < layers.length - 1 ? total.map((one) => Math.max(one, 0)) : total;
  }, inputs);
}
