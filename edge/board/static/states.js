/* The play states of CMCD (key sta), as people read them and in the colours they have everywhere. */

export const STATES = {
  s: ["starting", "--ink-3"], p: ["playing", "--s0"], r: ["rebuffering", "--s1"], w: ["waiting", "--s3"], k: ["seeking", "--s6"],
  a: ["paused", "--s2"], e: ["ended", "--ink-2"], q: ["quit", "--ink-2"], f: ["failed", "--bad"], d: ["preloading", "--ink-3"],
};
