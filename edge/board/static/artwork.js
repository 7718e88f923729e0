/* A title's picture, drawn: each variant of a title has its own, the same wherever it is shown. Who has real pictures puts them here. */

import { svg } from "./dom.js";

const WIDTH = 320;
const HEIGHT = 180;
const SHAPES = 7;

/** Numbers from 0 to 1 that follow from a text (xorshift over FNV-1a). */
function* numbers(text) {
  let state = 2166136261;
  for (const byte of new TextEncoder().encode(text)) state = Math.imul(state ^ byte, 16777619);
  for (;;) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    yield (state >>> 0) / 2 ** 32;
  }
}

/** The picture of a title, of one of its variants where there are several. */
export function artwork(cid, variant) {
  const draws = numbers(`${cid}/${variant ?? ""}`);
  const next = () => draws.next().value;
  const hue = 360 * next();
  const shapes = Array.from({ length: SHAPES }, (_, n) => svg("circle", {
    cx: WIDTH * next(), cy: HEIGHT * next(), r: 20 + 90 * next(), fill: `hsl(${(hue + 50 * next()) % 360} 60% ${30 + 8 * n}%)`, "fill-opacity": 0.45,
  }));
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true", "data-variant": variant ?? "" },
    svg("rect", { width: WIDTH, height: HEIGHT, fill: `hsl(${hue} 45% 24%)` }), ...shapes);
}
