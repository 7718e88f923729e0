/* CMCD v2 (CTA-5004-B) in event mode: makes reports and keeps them until the collector has them.

   dash.js 5.2.1 has an event mode of its own (streaming.cmcd.version 2 with eventTargets). It is not used, because what it reports is
   not what a viewer sees: `sta=s` comes when the manifest has been parsed rather than when play was pressed, so startup time lacks
   gateway and manifest; a session never quits (`sta=q`); errors are bare integers; a batch refused for a moment is lost on unload. */

const TOKENS = new Set(["e", "ot", "sf", "st", "sta"]);
const LISTS = new Set(["bl", "br", "bsa", "bsda", "mtp", "tb", "ec"]);
const HUNDREDS = new Set(["bl", "mtp"]);
const CLOSING = new Set(["e", "f", "q"]);
const LINGER_MS = 400;
const BATCH = 50;
const KEPT = 2000;
const LONGEST_PAUSE_MS = 8000;

const quoted = (text) => `"${String(text).replace(/[^\x20-\x7e]/g, "?").replace(/["\\]/g, "\\$&")}"`;

function item(key, value) {
  if (typeof value === "number") {
    if (key === "pr") return String(value);
    return String(HUNDREDS.has(key) ? Math.round(value / 100) * 100 : Math.round(value));
  }
  return TOKENS.has(key) ? value : quoted(value);
}

/** A report as a structured-field dictionary: keys in alphabetical order, what is null, undefined, NaN or false left out. */
export function serialise(report) {
  return Object.entries({ ...report, v: 2 })
    .filter(([, value]) => value !== null && value !== undefined && value !== false && !Number.isNaN(value))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => {
      if (value === true) return key;
      if (LISTS.has(key)) return `${key}=(${[value].flat().map((one) => item(key, one)).join(" ")})`;
      return `${key}=${item(key, value)}`;
    })
    .join(",");
}

export class Reporter {
  /** Reports one session to `url`; `shared` is what each report carries. `told(line, status)` is called when a batch was answered. */
  constructor(url, shared, told = () => {}) {
    this.url = url;
    this.shared = shared;
    this.told = told;
    this.sn = 0;
    this.lines = [];
    this.timer = null;
    this.sending = false;
  }

  /** Event `e` at `ts`, ms since 1970, with further keys by their CMCD names. It waits a moment for company; the state that closes the
      session does not, and takes along what waits: nothing follows it, and the page may be gone in a moment. */
  report(e, ts, keys = {}) {
    this.lines.push(serialise({ ...this.shared, ...keys, e, ts: Math.round(ts), sn: this.sn++ }));
    if (this.lines.length > KEPT) this.lines.shift();
    if (e === "ps" && CLOSING.has(keys.sta)) this.send();
    else this.timer ??= setTimeout(() => this.send(), LINGER_MS);
  }

  /** Send until nothing is left. A batch stays in the queue until it was taken or refused by content: a retry is known by its sn. */
  async send() {
    clearTimeout(this.timer);
    this.timer = null;
    if (this.gone && this.lines.length) post(this.url, this.lines.splice(0), true);
    if (this.gone || this.sending) return;
    this.sending = true;
    let pause = 500;
    while (this.lines.length && !this.gone) {
      const batch = this.lines.slice(0, BATCH);
      const { status, retryAfter } = await post(this.url, batch);
      if ((status >= 200 && status < 300) || (status >= 400 && status < 500 && status !== 408 && status !== 429)) {
        this.lines = this.lines.filter((line) => !batch.includes(line)); // the oldest may have been dropped meanwhile
        batch.forEach((line) => this.told(line, status));
        pause = 500;
      } else {
        await new Promise((resolve) => setTimeout(resolve, retryAfter ? retryAfter * 1000 : pause));
        pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
      }
    }
    this.sending = false;
  }

  /** The page goes away: from now on everything is handed to the browser, which sends it after the page has gone. */
  leave() {
    this.gone = true;
  }
}

async function post(url, lines, keepalive = false) {
  // A page that goes away cannot wait for a preflight, which text/plain does without; the collector takes both.
  const headers = { "Content-Type": keepalive ? "text/plain" : "application/cmcd" };
  try {
    const answer = await fetch(url, { method: "POST", body: lines.join("\n"), headers, keepalive });
    return { status: answer.status, retryAfter: Number(answer.headers.get("Retry-After")) || 0 };
  } catch {
    return { status: 0, retryAfter: 0 };
  }
}
