/* Values as people read them, by unit. A column's unit stands in its name: startup_ms, rebuffer_ratio, served_bytes. */

const CAPITALS = new Set(["oca", "isp", "sid", "url", "ttfb", "ttlb", "utc"]);
const SUFFIXES = [
  ["_ms", "ms"], ["_s", "s"], ["_ratio", "ratio"], ["_kbps", "kbit/s"], ["_bytes", "bytes"], ["_at", "time"],
];

const round = (value, digits) => Number(value.toFixed(digits)).toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: value && Math.abs(value) < 10 ? digits : 0 });

function scaled(value, base, units) {
  let step = 0;
  while (Math.abs(value) >= base && step < units.length - 1) {
    value /= base;
    step += 1;
  }
  return [round(value, Math.abs(value) < 10 && step ? 2 : Math.abs(value) < 100 && step ? 1 : 0), units[step]];
}

/** [figure, unit] of a value; an absent value is a dash. */
export function parts(value, unit) {
  if (value === null || value === undefined || Number.isNaN(value)) return ["–", ""];
  switch (unit) {
    case "ms": {
      if (Math.abs(value) < 1000) return [round(value, Math.abs(value) < 10 && value % 1 ? 1 : 0), "ms"];
      return parts(value / 1000, "s");
    }
    case "s": {
      if (value < 120) return [round(value, value < 10 ? 2 : 1), "s"];
      return value < 7200 ? [round(value / 60, 1), "min"] : [round(value / 3600, 1), "h"];
    }
    case "ratio": return [value === 0 ? "0" : round(value * 100, value < 0.1 ? 2 : 1), "%"];
    case "kbit/s": return scaled(value, 1000, ["kbit/s", "Mbit/s", "Gbit/s"]);
    case "bit/s": return scaled(value, 1000, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]);
    case "bytes": return scaled(value, 1000, ["B", "kB", "MB", "GB", "TB"]);
    case "time": return [clock(value), ""];
    case "plays": return [round(value, 0), value === 1 ? "play" : "plays"];
    default: return [typeof value === "number" ? round(value, value % 1 && Math.abs(value) < 100 ? 1 : 0) : String(value), unit ?? ""];
  }
}

/** A value with its unit, in one string. */
export const show = (value, unit) => parts(value, unit).filter(Boolean).join(" ");

/** The unit a column's name ends in, or "". */
export const unitOf = (column) => SUFFIXES.find(([suffix]) => column.endsWith(suffix))?.[1] ?? "";

/** A column's name without its unit, as a heading; a ratio says that it is one. */
export function heading(column) {
  const suffix = SUFFIXES.find(([s, unit]) => unit !== "ratio" && column.endsWith(s))?.[0] ?? "";
  const words = column.slice(0, column.length - suffix.length).split("_").map((word) => (CAPITALS.has(word) ? word.toUpperCase() : word)).join(" ");
  return words[0].toUpperCase() + words.slice(1);
}

/** "1 failed play", "2 failed plays", "1.3 s median". */
export const counted = (value, column) => {
  const words = heading(column).toLowerCase();
  return `${show(value, unitOf(column))} ${value === 1 && !unitOf(column) ? words.replace(/s$/, "") : words}`;
};

/** Local time of day, with seconds. */
export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

/** Local date and time. */
export const moment = (ms) => new Date(ms).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** The level a value reaches by a panel's thresholds: "bad", "warn" or "". */
export function level(value, thresholds) {
  if (value === null || value === undefined) return "";
  const reached = thresholds.filter((t) => (t.below ? value < t.value : value >= t.value)).map((t) => t.level);
  return reached.includes("bad") ? "bad" : reached.includes("warn") ? "warn" : "";
}
