/* Flags and experiments decided in the page: the same tables and the same answers as schemas/allocation/engine.py, which says what a
   table holds. One half hashes (MurmurHash3 over UTF-8, FNV-1a over UTF-16 for GrowthBook's tables), one matches regular expressions in
   linear time (R. Cox, "Regular Expression Matching Can Be Simple And Fast", 2007; the browser's own RegExp can hang a page), the rest
   reads conditions and rules. No network, no clock, no storage: the caller gives a context and keeps what is to be remembered. */

// ---- where a unit lies

const SPACE = 2 ** 32;
const VARIANT_SEED = 86028157;
const UTF8 = new TextEncoder();

/** MurmurHash3_x86_32 of a text's UTF-8 bytes, in [0, 2³²). */
export function murmur3(text, seed = 0) {
  const data = UTF8.encode(text);
  const whole = data.length & ~3;
  let h = seed | 0;
  const mixed = (k) => Math.imul((k = Math.imul(k, 0xcc9e2d51)) << 15 | k >>> 17, 0x1b873593);
  for (let i = 0; i < whole; i += 4) {
    h ^= mixed(data[i] | data[i + 1] << 8 | data[i + 2] << 16 | data[i + 3] << 24);
    h = Math.imul(h << 13 | h >>> 19, 5) + 0xe6546b64 | 0;
  }
  let tail = 0;
  for (let i = data.length - 1; i >= whole; i--) tail = tail << 8 | data[i];
  if (whole < data.length) h ^= mixed(tail);
  h ^= data.length;
  h = Math.imul(h ^ h >>> 16, 0x85ebca6b);
  h = Math.imul(h ^ h >>> 13, 0xc2b2ae35);
  return (h ^ h >>> 16) >>> 0;
}

/** A unit's bucket under a salt, in [0, 2³²). */
export const bucket = (salt, unit, seed = 0) => murmur3(`${salt}:${unit}`, seed);

function fnv1a(text) {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

const HASHES = {
  murmur3: (salt) => (unit) => bucket(salt, unit),
  growthbook1: (salt) => (unit) => (fnv1a(unit + salt) % 1000) / 1000,
  growthbook2: (salt) => (unit) => (fnv1a(String(fnv1a(salt + unit))) % 10000) / 10000,
  unleash: (salt, scale) => (unit) => (bucket(salt, unit) % scale) + 1,
  unleash_variant: (salt, scale) => (unit) => (bucket(salt, unit, VARIANT_SEED) % scale) + 1,
};

// ---- regular expressions in linear time

const LONGEST_PATTERN = 1000;
const MOST_STEPS = 5000;
const MOST_STATES = 500;
const MOST_CHARACTERS = 1000;
const isDigit = (c) => c >= "0" && c <= "9";
const isWord = (c) => /^[0-9A-Za-z_]$/.test(c);
const isSpace = (c) => " \t\n\r\f\v\u00a0\ufeff\u2028\u2029".includes(c);
const CLASSES = { d: isDigit, w: isWord, s: isSpace };
const CONTROL = { n: "\n", t: "\t", r: "\r", f: "\f", v: "\v", 0: "\0" };

class Reader {
  constructor(text, ignoreCase) {
    this.chars = [...text];
    this.at = 0;
    this.ignoreCase = ignoreCase;
    this.depth = 0;
  }

  refuse(what) {
    throw new SyntaxError(`${what} at character ${this.at} of the pattern ${this.chars.join("")}`);
  }

  take(char) {
    if (this.chars[this.at] !== char) return false;
    this.at += 1;
    return true;
  }

  next() {
    if (this.at >= this.chars.length) this.refuse("the pattern ends too early");
    return this.chars[this.at++];
  }

  whole() {
    const node = this.either();
    if (this.at < this.chars.length) this.refuse("a closing bracket without an opening one");
    return node;
  }

  either() {
    let node = this.sequence();
    while (this.take("|")) node = { kind: "either", of: [node, this.sequence()] };
    return node;
  }

  sequence() {
    const of = [];
    while (this.at < this.chars.length && !"|)".includes(this.chars[this.at])) of.push(this.repeated());
    return { kind: "sequence", of };
  }

  repeated() {
    const node = this.one();
    const bounds = this.bounds();
    if (!bounds) return node;
    if (node.kind === "assert") this.refuse("nothing to repeat");
    this.take("?");
    if (this.at < this.chars.length && "*+?".includes(this.chars[this.at])) this.refuse("a repetition of a repetition");
    return { kind: "repeat", node, least: bounds[0], most: bounds[1] };
  }

  bounds() {
    if (this.take("*")) return [0, Infinity];
    if (this.take("+")) return [1, Infinity];
    if (this.take("?")) return [0, 1];
    const found = /^\{(\d{1,4})(,(\d{0,4}))?\}/.exec(this.chars.slice(this.at, this.at + 12).join(""));
    if (!found) return null;
    this.at += found[0].length;
    const least = Number(found[1]);
    const most = found[2] === undefined ? least : found[3] === "" ? Infinity : Number(found[3]);
    if (most < least) this.refuse("a repetition whose bounds are in the wrong order");
    return [least, most];
  }

  one() {
    const char = this.next();
    if (char === "(") {
      if (this.take("?") && !this.take(":")) this.refuse("look-around, flags and named groups are not supported");
      if (++this.depth > 50) this.refuse("brackets nested too deeply");
      const node = this.either();
      this.depth -= 1;
      if (!this.take(")")) this.refuse("an opening bracket without a closing one");
      return node;
    }
    if (char === "[") return { kind: "char", accepts: this.charClass() };
    if (char === ".") return { kind: "char", accepts: (c) => !"\n\r\u2028\u2029".includes(c) };
    if (char === "^" || char === "$") return { kind: "assert", edge: char };
    if ("*+?".includes(char)) this.refuse("nothing to repeat");
    if (char === "\\") {
      if (this.take("b")) return { kind: "assert", edge: "b" };
      if (this.take("B")) return { kind: "assert", edge: "B" };
      return { kind: "char", accepts: this.cased(this.escape()) };
    }
    return { kind: "char", accepts: this.cased((c) => c === char) };
  }

  cased(accepts) {
    return this.ignoreCase ? (c) => accepts(c) || accepts(c.toLowerCase()) || accepts(c.toUpperCase()) : accepts;
  }

  escape() {
    const name = this.chars[this.at]?.toLowerCase();
    if (!Object.hasOwn(CLASSES, name ?? "")) {
      const literal = this.escaped(false);
      return (c) => c === literal;
    }
    return this.next() === name ? CLASSES[name] : (c) => !CLASSES[name](c);
  }

  escaped(inside) {
    const char = this.next();
    if (char === "x" || char === "u") {
      const size = char === "x" ? 2 : 4;
      const digits = this.chars.slice(this.at, this.at + size).join("");
      if (!new RegExp(`^[0-9a-fA-F]{${size}}$`).test(digits)) this.refuse(`\\${char} without its hexadecimal digits`);
      this.at += size;
      return String.fromCharCode(parseInt(digits, 16));
    }
    if (inside && char === "b") return "\b";
    if (Object.hasOwn(CONTROL, char)) return CONTROL[char];
    if (/[\p{L}\p{N}]/u.test(char)) this.refuse(`\\${char} is not supported`);
    return char;
  }

  charClass() {
    const negated = this.take("^");
    const tests = [];
    while (!this.take("]")) {
      const low = this.classItem();
      if (typeof low === "function") {
        tests.push(low);
      } else if (this.chars[this.at] === "-" && this.at + 1 < this.chars.length && this.chars[this.at + 1] !== "]") {
        this.at += 1;
        const high = this.classItem();
        if (typeof high === "function" || high < low) this.refuse("a range in the wrong order");
        tests.push((c) => low <= c && c <= high);
      } else {
        tests.push((c) => c === low);
      }
    }
    const inner = this.cased((c) => tests.some((test) => test(c)));
    return negated ? (c) => !inner(c) : inner;
  }

  classItem() {
    const char = this.next();
    if (char !== "\\") return char;
    return Object.hasOwn(CLASSES, this.chars[this.at]?.toLowerCase() ?? "") ? this.escape() : this.escaped(true);
  }
}

/** A regular expression that is matched in time proportional to the text. Throws SyntaxError for what it cannot be. */
export class Pattern {
  constructor(text, ignoreCase = false) {
    if (typeof text !== "string") throw new SyntaxError("a pattern is a text");
    if ([...text].length > LONGEST_PATTERN) throw new SyntaxError(`a pattern of more than ${LONGEST_PATTERN} characters`);
    this.steps = [];
    this.emit(new Reader(text, ignoreCase).whole());
    this.add({ kind: "match" });
    this.forget();
  }

  /** Whether the pattern is found anywhere in `text`. */
  search(text) {
    let state = this.first;
    for (const char of text) {
      state = state.after.get(char) ?? this.follow(state, char);
      if (state === this.found) return true;
    }
    return (state.after.get("") ?? this.follow(state, "")) === this.found;
  }

  forget() {
    this.states = new Map();
    this.found = { after: new Map() };
    this.first = this.state([0], "^");
  }

  state(steps, before) {
    const key = `${before}${steps.join()}`;
    if (!this.states.has(key)) this.states.set(key, { steps, before, after: new Map() });
    return this.states.get(key);
  }

  follow(from, char) {
    let state = from;
    if (this.states.size > MOST_STATES) {
      this.forget();
      state = this.state(state.steps, state.before);
    }
    const kind = isWord(char) ? "w" : "o";
    const reading = this.reach(state, char, kind);
    let after = this.found;
    if (reading) {
      const moved = char === "" ? [] : reading.filter((at) => this.steps[at].accepts(char)).map((at) => at + 1);
      after = this.state([...new Set([0, ...moved])].sort((a, b) => a - b), kind);
    }
    if (state.after.size >= MOST_CHARACTERS) state.after.clear();
    state.after.set(char, after);
    return after;
  }

  /** The character steps that are reached without reading; null where the end of the pattern is. */
  reach({ steps, before }, char, kind) {
    const waiting = [...steps];
    const seen = new Set();
    const reading = [];
    while (waiting.length) {
      const at = waiting.pop();
      if (seen.has(at)) continue;
      seen.add(at);
      const step = this.steps[at];
      if (step.kind === "match") return null;
      if (step.kind === "char") reading.push(at);
      else if (step.kind === "go") waiting.push(...step.to);
      else {
        const edge = (before === "w") !== (kind === "w");
        if ({ "^": before === "^", $: char === "", b: edge, B: !edge }[step.edge]) waiting.push(at + 1);
      }
    }
    return reading;
  }

  add(step) {
    if (this.steps.length >= MOST_STEPS) throw new SyntaxError("the pattern is too large once its repetitions are written out");
    return this.steps.push(step) - 1;
  }

  emit(node) {
    if (node.kind === "char" || node.kind === "assert") this.add(node);
    else if (node.kind === "sequence") node.of.forEach((part) => this.emit(part));
    else if (node.kind === "either") {
      const split = this.add(null);
      this.emit(node.of[0]);
      const jump = this.add(null);
      this.steps[split] = { kind: "go", to: [split + 1, this.steps.length] };
      this.emit(node.of[1]);
      this.steps[jump] = { kind: "go", to: [this.steps.length] };
    } else {
      for (let i = 0; i < node.least; i++) this.emit(node.node);
      const splits = [];
      for (let i = node.least; i < (node.most === Infinity ? node.least + 1 : node.most); i++) {
        splits.push(this.add(null));
        this.emit(node.node);
      }
      if (node.most === Infinity) this.add({ kind: "go", to: [splits[0]] });
      for (const split of splits) this.steps[split] = { kind: "go", to: [split + 1, this.steps.length] };
    }
  }
}

// ---- conditions

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isOperators = (value) => isObject(value) && Object.keys(value).length > 0 && Object.keys(value).every((key) => key[0] === "$");
const sign = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

function at(value, path) {
  let current = value;
  for (const name of path) {
    if (typeof current !== "object" || current === null || !Object.hasOwn(current, name)) return null;
    current = current[name];
  }
  return current ?? null;
}

function within(wanted, insensitive) {
  const fold = (value) => (insensitive && typeof value === "string" ? value.toLowerCase() : value);
  const all = new Set(wanted.map(fold).filter((value) => typeof value !== "object" || value === null));
  return (value) => (Array.isArray(value) ? value.some((one) => all.has(fold(one))) : all.has(fold(value)));
}

function paddedVersion(value) {
  const text = typeof value === "number" ? String(value) : typeof value === "string" && value ? value : "0";
  const parts = text.replace(/^v|\+.*$/g, "").split(/[-.]/);
  if (parts.length === 3) parts.push("~");
  return parts.map((part) => (/^[0-9]+$/.test(part) ? part.padStart(5, " ") : part)).join("-");
}

const SEMVER = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?$/;

/** A version's core and pre-release identifiers after Semantic Versioning 2.0.0, null for what is none. */
function semver(value) {
  const found = typeof value === "string" && value.length <= 256 ? SEMVER.exec(value) : null;
  if (!found) return null;
  const before = found[4] ? found[4].split(".") : [];
  if (before.some((one) => /^0\d+$/.test(one))) return null;
  return { core: found.slice(1, 4).map(BigInt), before };
}

function semverSign(a, b) {
  for (let i = 0; i < 3; i++) if (a.core[i] !== b.core[i]) return sign(a.core[i], b.core[i]);
  if (!a.before.length || !b.before.length) return sign(!a.before.length, !b.before.length);
  for (let i = 0; i < Math.max(a.before.length, b.before.length); i++) {
    const [x, y] = [a.before[i], b.before[i]];
    if (x === undefined || y === undefined) return x === undefined ? -1 : 1;
    const [m, n] = [x, y].map((one) => /^\d+$/.test(one));
    const found = m && n ? sign(BigInt(x), BigInt(y)) : m !== n ? (m ? -1 : 1) : sign(x, y);
    if (found) return found;
  }
  return 0;
}

const numberOrNull = (number) => (Number.isNaN(number) ? null : number);
const numeric = (value) => (value === null ? null : numberOrNull(Number(value)));

function instant(value) {
  if (typeof value === "number") return numberOrNull(value);
  if (typeof value !== "string" || !/^\d{4}-/.test(value)) return null;
  return numberOrNull(Date.parse(/T.*(Z|[+-]\d\d:?\d\d)$/.test(value) || !value.includes("T") ? value : `${value}Z`));
}

/** An address as its bits, {bits, size}; null for what is none. */
function address(text) {
  const v4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (v4) {
    const bytes = v4.slice(1).map(Number);
    if (bytes.some((byte, i) => byte > 255 || (v4[i + 1].length > 1 && v4[i + 1][0] === "0"))) return null;
    return { bits: bytes.reduce((bits, byte) => bits << 8n | BigInt(byte), 0n), size: 32 };
  }
  const quad = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  if (quad) {
    const last = address(quad[2]);
    return last && address(`${quad[1]}${(last.bits >> 16n).toString(16)}:${(last.bits & 0xffffn).toString(16)}`);
  }
  const halves = text.split("::");
  if (!text.includes(":") || halves.length > 2) return null;
  const groups = halves.map((half) => (half === "" ? [] : half.split(":")));
  const missing = 8 - groups.flat().length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return null;
  const all = halves.length === 2 ? [...groups[0], ...Array(missing).fill("0"), ...groups[1]] : groups[0];
  if (!all.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))) return null;
  return { bits: all.reduce((bits, group) => bits << 16n | BigInt(`0x${group}`), 0n), size: 128 };
}

function network(text) {
  const [name, length, ...rest] = text.split("/");
  const found = address(name);
  if (!found || rest.length || (length !== undefined && !/^\d{1,3}$/.test(length))) return null;
  const kept = length === undefined ? found.size : Number(length);
  if (kept > found.size) return null;
  const shift = BigInt(found.size - kept);
  return (one) => one.size === found.size && one.bits >> shift === found.bits >> shift;
}

const lists = (build) => (operand, groups) => (Array.isArray(operand) ? build(operand, groups) : () => false);
const textLists = (build) => lists((wanted) => (wanted.every((one) => typeof one === "string") ? build(wanted) : () => false));
const texts = (holds, insensitive) => textLists((wanted) => {
  const all = insensitive ? wanted.map((one) => one.toLowerCase()) : wanted;
  return (value) => typeof value === "string" && all.some((one) => holds(insensitive ? value.toLowerCase() : value, one));
});
const readAs = (read, order = sign) => (holds) => (operand) => {
  const wanted = read(operand);
  if (wanted === null) return () => false;
  return (value) => {
    const ours = read(value);
    return ours !== null && holds(order(ours, wanted));
  };
};
const versions = readAs(paddedVersion);
const semvers = readAs(semver, semverSign);
const numbers = readAs(numeric);
const dates = readAs(instant);
const group = (negated) => (operand, groups) => {
  const member = within(Object.hasOwn(groups, operand) ? groups[operand] ?? [] : [], false);
  return (value) => member(value) !== negated;
};
const regex = (negated, insensitive) => (operand) => {
  try {
    const pattern = new Pattern(operand, insensitive);
    return (value) => pattern.search(String(value)) !== negated;
  } catch {
    return () => false;
  }
};
const all = (insensitive) => lists((wanted, groups) => {
  const tests = wanted.map((one) => valueTest(one, groups, insensitive));
  return (value) => Array.isArray(value) && tests.every((test) => value.some((one) => test(one)));
});
const isIn = (negated, insensitive) => lists((wanted) => {
  const member = within(wanted, insensitive);
  return (value) => member(value) !== negated;
});
const EQ = (s) => s === 0, NE = (s) => s !== 0, LT = (s) => s < 0, LTE = (s) => s <= 0, GT = (s) => s > 0, GTE = (s) => s >= 0;

const OPERATORS = {
  $eq: (operand) => (value) => value === operand,
  $ne: (operand) => (value) => value !== operand,
  $lt: (operand) => (value) => value < operand,
  $lte: (operand) => (value) => value <= operand,
  $gt: (operand) => (value) => value > operand,
  $gte: (operand) => (value) => value >= operand,
  $exists: (operand) => (value) => (value !== null) === Boolean(operand),
  $type: (operand) => (value) => (value === null ? "null" : Array.isArray(value) ? "array" : typeof value) === operand,
  $not: (operand, groups) => {
    const test = valueTest(operand, groups);
    return (value) => !test(value);
  },
  $in: isIn(false, false), $nin: isIn(true, false), $ini: isIn(false, true), $nini: isIn(true, true),
  $inGroup: group(false), $notInGroup: group(true),
  $all: all(false), $alli: all(true),
  $elemMatch: (operand, groups) => {
    const test = isOperators(operand) ? valueTest(operand, groups) : condition(operand, groups);
    return (value) => Array.isArray(value) && value.some((one) => Boolean(one) && test(one));
  },
  $size: (operand, groups) => {
    const test = valueTest(operand, groups);
    return (value) => Array.isArray(value) && test(value.length);
  },
  $regex: regex(false, false), $regexi: regex(false, true), $notRegex: regex(true, false), $notRegexi: regex(true, true),
  $veq: versions(EQ), $vne: versions(NE), $vlt: versions(LT), $vlte: versions(LTE), $vgt: versions(GT), $vgte: versions(GTE),
  $semverEq: semvers(EQ), $semverLt: semvers(LT), $semverLte: semvers(LTE), $semverGt: semvers(GT), $semverGte: semvers(GTE),
  $numEq: numbers(EQ), $numLt: numbers(LT), $numLte: numbers(LTE), $numGt: numbers(GT), $numGte: numbers(GTE),
  $before: dates(LT), $after: dates(GT),
  $startsWith: texts((value, one) => value.startsWith(one), false), $startsWithi: texts((value, one) => value.startsWith(one), true),
  $endsWith: texts((value, one) => value.endsWith(one), false), $endsWithi: texts((value, one) => value.endsWith(one), true),
  $contains: texts((value, one) => value.includes(one), false), $containsi: texts((value, one) => value.includes(one), true),
  $cidr: textLists((wanted) => {
    const networks = wanted.map(network).filter(Boolean);
    return (value) => {
      const one = typeof value === "string" ? address(value) : null;
      return one !== null && networks.some((holds) => holds(one));
    };
  }),
};

function valueTest(wanted, groups, insensitive = false) {
  if (typeof wanted === "string") {
    if (!insensitive) return (value) => String(value) === wanted;
    return (value) => String(value).toLowerCase() === wanted.toLowerCase();
  }
  if (typeof wanted === "number") return (value) => Number(value) === wanted;
  if (typeof wanted === "boolean") return (value) => value !== null && Boolean(value) === wanted;
  if (wanted === null) return (value) => value === null;
  if (!isOperators(wanted)) {
    const text = JSON.stringify(wanted);
    return (value) => JSON.stringify(value) === text;
  }
  const tests = Object.entries(wanted).map(([name, operand]) =>
    Object.hasOwn(OPERATORS, name) ? OPERATORS[name](operand, groups) : () => false);
  return (value) => tests.every((test) => test(value));
}

/** The function that says whether attributes meet a condition; what cannot be meant is never met. */
export function condition(wanted, groups = {}) {
  const parts = Object.entries(wanted).map(([key, value]) => {
    if (key === "$not") {
      const inner = condition(value, groups);
      return (attributes) => !inner(attributes);
    }
    if (key === "$and" || key === "$or" || key === "$nor") {
      const inners = value.map((one) => condition(one, groups));
      if (key === "$and") return (attributes) => inners.every((inner) => inner(attributes));
      const any = (attributes) => !inners.length || inners.some((inner) => inner(attributes));
      return key === "$or" ? any : (attributes) => !any(attributes);
    }
    const test = valueTest(value, groups);
    const path = key.split(".");
    return (attributes) => test(at(attributes, path));
  });
  return (attributes) => parts.every((part) => part(attributes));
}

// ---- the table

class Split {
  constructor({ hash = "murmur3", salt = "", units, scale = SPACE, ranges, ramp = [], strata = [] }, groups) {
    this.units = units?.length ? units : ["id"];
    this.hash = Object.hasOwn(HASHES, hash) ? HASHES[hash](salt, scale) : null;
    this.ranges = ranges;
    this.ramp = [...ramp].sort((a, b) => a[0] - b[0]);
    this.strata = strata.map((one) => ({ ...one, met: condition(one.condition ?? {}, groups) }));
  }

  unit(attributes) {
    const attribute = this.units.find((name) => Object.hasOwn(attributes, name) && attributes[name]);
    return attribute === undefined ? [this.units[0], ""] : [attribute, attributes[attribute]];
  }

  position(unit) {
    return this.hash ? this.hash(String(unit)) : null;
  }

  place(position, { attributes, at_ms: now = 0 }) {
    let ranges = this.ranges;
    for (const [from, step] of this.ramp) if (from <= now) ranges = step;
    const stratum = this.strata.find((one) => one.met(attributes));
    if (stratum) ranges = stratum.ranges;
    return [ranges.findIndex(([begin, below]) => begin <= position && position < below), stratum?.label ?? null];
  }

  holds(context) {
    const [, unit] = this.unit(context.attributes);
    const position = unit === "" ? null : this.position(unit);
    return position !== null && this.place(position, context)[0] >= 0;
  }
}

export class Table {
  /** Reads a table of schemas/allocation/engine.py once. */
  constructor({ flags, groups = {} }) {
    const splits = (all) => (all ?? []).map((one) => new Split(one, groups));
    const requires = (all) => (all ?? []).map((one) => ({ ...one, met: condition(one.condition ?? {}) }));
    this.flags = new Map(Object.entries(flags).map(([key, flag]) => [key, {
      default: flag.default ?? null,
      rules: (flag.rules ?? []).map((rule) => ({
        ...rule,
        decides: Object.hasOwn(rule, "value"),
        requires: requires(rule.requires),
        filters: splits(rule.filters),
        entry: {
          filters: splits(rule.entry?.filters),
          met: rule.entry?.condition ? condition(rule.entry.condition, groups) : () => true,
          requires: requires(rule.entry?.requires),
        },
        split: rule.split ? new Split(rule.split, groups) : null,
      })),
    }]));
  }

  /** What a flag gives: {flag, value, reason, rule, exposures}.

     `context` is {attributes, at_ms, forced, assignments, experiments, only_forced}; all but the attributes may be left out. */
  decide(flag, context) {
    return this.#decide(flag, context, [], []);
  }

  /** What the first experiment of a flag does with the unit, whatever stands around it. */
  run(flag, context) {
    return this.#expose(this.flags.get(flag).rules.find((rule) => rule.experiment !== undefined), context, [flag], []);
  }

  #decide(flag, context, above, exposures) {
    const said = (value, reason, rule = "") => ({ flag, value, reason, rule, exposures });
    if (above.includes(flag)) return said(null, "cycle");
    if (!this.flags.has(flag)) return said(null, "unknown");
    const { default: otherwise, rules } = this.flags.get(flag);
    for (const rule of rules) {
      const failed = this.#failed(rule.requires, context, [...above, flag], exposures);
      if (failed === "cycle" || failed === "prerequisite") return said(null, failed);
      if (failed || !rule.filters.every((split) => split.holds(context))) continue;
      if (rule.experiment === undefined) {
        if (!rule.decides || !rule.entry.met(context.attributes) || (rule.split && !rule.split.holds(context))) continue;
        return said(rule.value, "rollout", rule.id ?? "");
      }
      const exposure = this.#expose(rule, context, [...above, flag], exposures);
      if (!exposure.inside) continue;
      exposures.push(exposure);
      if (!exposure.passthrough) return said(exposure.value, "experiment", rule.id ?? "");
    }
    return said(otherwise, "default");
  }

  #failed(requires, context, above, exposures) {
    for (const { flag, met, gate } of requires) {
      const { value, reason } = this.#decide(flag, context, above, exposures);
      if (reason === "cycle") return "cycle";
      if (!met({ value })) return gate ? "prerequisite" : "skip";
    }
    return "";
  }

  #expose(rule, context, above, exposures) {
    const { split, variations, entry, sticky, experiment } = rule;
    const { attributes, forced = {}, assignments = null } = context;
    const [attribute, unit] = split.unit(attributes);
    const outcome = (index, more = {}) => {
      const inside = index >= 0 && index < variations.length;
      const variation = inside ? index : 0;
      const { key, value, name, passthrough } = variations[variation];
      return {
        experiment, variation, key: String(key || variation), value: value ?? null, inside, attribute, unit, name: name ?? null,
        hashed: false, position: null, sticky: false, passthrough: Boolean(passthrough), label: null, remember: null, ...more,
      };
    };
    if (variations.length < 2 || context.experiments === false) return outcome(-1);
    if (Object.hasOwn(forced, experiment)) return outcome(forced[experiment]);
    if (rule.active === false || unit === "") return outcome(-1);
    if (Object.hasOwn(rule.forced ?? {}, String(unit))) return outcome(rule.forced[String(unit)]);
    let [index, blocked] = sticky && assignments ? remembered(rule, attributes, assignments) : [-1, false];
    const found = index >= 0;
    if (!found) {
      if (!entry.filters.every((one) => one.holds(context)) || !entry.met(attributes)) return outcome(-1);
      if (this.#failed(entry.requires, context, above, exposures)) return outcome(-1);
    }
    const position = split.position(unit);
    if (position === null) return outcome(-1);
    const [placed, label] = split.place(position, context);
    if (!found) index = placed;
    if (blocked) return outcome(-1, { sticky: true });
    if (index < 0) return outcome(-1);
    if (rule.force !== undefined && rule.force !== null) return outcome(rule.force);
    if (context.only_forced || rule.stopped) return outcome(-1);
    let remember = null;
    if (sticky && assignments) {
      const [document, version] = [`${attribute}||${unit}`, `${experiment}__${sticky.version ?? 0}`];
      const key = String(variations[index].key || index);
      if (assignments[document]?.[version] !== key) remember = [document, version, key];
    }
    return outcome(index, { hashed: true, position, sticky: found, label, remember });
  }
}

/** The variation that the unit was given before, -1 for none, and whether an assignment of a version that is too old shuts it out. */
function remembered({ experiment, sticky, split, variations }, attributes, assignments) {
  const assigned = {};
  for (const name of [...(sticky.units ?? split.units)].reverse()) {
    if (attributes[name]) Object.assign(assigned, assignments[`${name}||${attributes[name]}`]);
  }
  for (let version = 0; version < (sticky.oldest ?? 0); version++) {
    if (Object.hasOwn(assigned, `${experiment}__${version}`)) return [-1, true];
  }
  const key = assigned[`${experiment}__${sticky.version ?? 0}`];
  return [variations.findIndex((one) => one.key !== undefined && one.key === key), false];
}
