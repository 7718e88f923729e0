/* What the member does, on its way to the collector: gathered for a moment, kept until it is taken, and told with this browser's clock. */

const LINGER_MS = 500;
const HELD = 2000;
const BATCH = 200;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 8000;

export class Doings {
  /** `shared` goes with every event. */
  constructor(url, shared) {
    this.url = url;
    this.shared = shared;
    this.held = [];
    this.pause = FIRST_PAUSE_MS;
    this.timer = null;
    this.sending = false;
    addEventListener("pagehide", () => this.leave());
  }

  /** Tell of an event; returns its id. */
  tell(event, fields) {
    const id = crypto.randomUUID();
    const given = Object.entries({ ...this.shared, ...fields }).filter(([, value]) => value !== null && value !== undefined);
    this.held.push({ event, id, ts: Date.now(), ...Object.fromEntries(given) });
    if (this.held.length > HELD) this.held.shift();
    this.later(LINGER_MS);
    return id;
  }

  later(ms) {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.send();
    }, ms);
  }

  /** Plain text, or browsers would ask the collector first whether JSON is welcome. */
  post(events, keepalive = false) {
    return fetch(`${this.url}?sent=${Date.now()}`, { method: "POST", keepalive, headers: { "Content-Type": "text/plain" }, body: JSON.stringify(events) });
  }

  async send() {
    if (this.sending || !this.held.length) return;
    this.sending = true;
    const batch = this.held.slice(0, BATCH);
    const answer = await this.post(batch).catch(() => null);
    this.sending = false;
    const again = !answer || answer.status >= 500 || answer.status === 429 || answer.status === 408;
    if (!again) {
      if (answer.status !== 202) console.error("the collector refuses:", await answer.text());
      const done = new Set(batch.map(({ id }) => id));
      this.held = this.held.filter(({ id }) => !done.has(id));
    }
    this.pause = again ? Math.min(2 * this.pause, LONGEST_PAUSE_MS) : FIRST_PAUSE_MS;
    if (this.held.length) this.later(again ? this.pause : 0);
  }

  /** The page goes away: what is held goes along, and what was under way goes twice, which changes nothing. */
  leave() {
    if (this.held.length) this.post(this.held.slice(-BATCH), true).catch(() => {});
  }
}
