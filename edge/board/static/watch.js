/* The player on a page of its own. */

import { screen } from "./screen.js";

const link = document.getElementById("session-link");
const { player } = await screen(document.getElementById("screen"), { wide: true });
player.addEventListener("state", () => {
  link.hidden = !player.session;
  if (player.session) link.href = `/?sid=${encodeURIComponent(player.session.sid)}`;
});
