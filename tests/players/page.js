/* dash.js, hls.js and Shaka with the settings of docs/edge.md: each plays one session, told as {sid, cid, dash, hls, collector}. */

const ALL = [
  "ab", "bg", "bl", "br", "bs", "bsa", "bsd", "bsda", "cdn", "cen", "cid", "cmsdd", "cmsds", "cs", "d", "dfa", "dl", "e", "ec", "h", "lab", "lb", "ltc",
  "msd", "mtp", "nor", "nr", "ot", "pb", "pr", "pt", "rc", "rtp", "sf", "sid", "sn", "st", "sta", "su", "tab", "tb", "tbl", "tpb", "ts", "ttfb", "ttfbb",
  "ttlb", "url", "v",
];
const but = (...keys) => ALL.filter((key) => !keys.includes(key));
const EVENTS = ["ps", "e", "bc", "m", "um", "pr", "pe", "pc", "b"];
const playing = {};

const start = {
  dashjs(video, { sid, cid, dash, collector }) {
    const player = dashjs.MediaPlayer().create();
    player.updateSettings({
      streaming: {
        cmcd: {
          enabled: true, version: 2, mode: "query", sid, cid, enabledKeys: ALL,
          // Now and then dash.js takes its time to first byte for one since 1970.
          eventTargets: [{ enabled: true, url: collector, events: [...EVENTS, "rr", "t"], interval: 10, batchSize: 1, enabledKeys: but("ttfb") }],
        },
      },
    });
    player.initialize(video, dash, true);
    return { player, version: player.getVersion() };
  },

  async hlsjs(video, { sid, cid, hls, collector }) {
    // No event t: the reporter that hls.js makes first, and the one it makes for the title, would both send it as number 0. No event rr: it
    // does not say what was fetched, and the requests do.
    const player = new Hls({
      cmcd: {
        version: 2, sessionId: sid, contentId: cid, useHeaders: true, includeKeys: ALL,
        eventTargets: [{ url: collector, events: EVENTS, batchSize: 1, includeKeys: ALL }],
      },
    });
    player.loadSource(hls);
    player.attachMedia(video);
    return { player, version: Hls.version };
  },

  async shaka(video, { sid, cid, dash, collector }) {
    shaka.polyfill.installAll();
    // In the build that pages load, the compiler has renamed keys where they are told but not where they are read: bare numbers come out where
    // version 2 has inner lists, and play states not at all.
    const includeKeys = but("bl", "br", "tb");
    const player = new shaka.Player();
    player.configure({
      cmcd: {
        enabled: true, version: 2, sessionId: sid, contentId: cid, useHeaders: false, includeKeys,
        eventTargets: [{ url: collector, events: EVENTS, batchSize: 1, includeKeys }],
      },
    });
    await player.attach(video);
    await player.load(dash);
    return { player, version: shaka.Player.version };
  },
};

/** Play `told` with the player `name` until the video has ended. */
async function play(name, told) {
  const video = document.getElementById(name);
  video.addEventListener("ended", () => (playing[name].ended = true));
  playing[name] = { ended: false };
  Object.assign(playing[name], await start[name](video, told));
  await video.play();
}
