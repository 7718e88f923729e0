/* What is out of its baseline. Beside a column `x` the statement gives `x_expected` and `x_z`; see sinks/dashboards/__init__.py. */

import { show } from "./format.js";

const ANOMALOUS = 3.5;

/** The columns that are shown themselves, by their place among all of them. */
export const shown = (columns) => columns.flatMap((c, i) => (/_(expected|z)$/.test(c) ? [] : [i]));

/** What is wrong with row `r` of column `c`, or null: {side: "high" | "low", words}. `unit` is the column's. */
export function anomaly({ columns, values }, c, r, unit) {
  const z = values[columns.indexOf(`${columns[c]}_z`)]?.[r] ?? 0;
  if (Math.abs(z) < ANOMALOUS) return null;
  const value = values[c][r];
  const expected = values[columns.indexOf(`${columns[c]}_expected`)][r];
  const side = z > 0 ? "high" : "low";
  const off = `${show(Math.abs(value - expected), unit)} too ${side}, ${Math.round(Math.abs(z) * 10) / 10} times the usual spread`;
  return { side, words: `${show(value, unit)}, expected ${show(expected, unit)}: ${off}` };
}
