/* A list that words search and of which one entry is open. The address keeps both, and the browser's way back changes them. */

import { el } from "./dom.js";

const SHOWN = 300;
/** So many are listed at once: more is what the search is for. */

/**
 * `page` is where it is, `name` what the address calls the open one, `many` what they are called. `list` draws the list, `show` the open one.
 * Returns the address's `state`, `open(key)`, `link(key, ...children)` and `matching(all, told)`: those whose words are searched for, as far as
 * they are listed, and says how many there are.
 */
export function listing(page, name, many, { list, show }) {
  const state = new URLSearchParams(location.search);
  const search = document.getElementById("search");

  function open(key) {
    state.set(name, key);
    history.pushState(null, "", `?${state}`);
    list();
    show();
  }

  function link(key, ...children) {
    const query = new URLSearchParams(state);
    query.set(name, key);
    return el("a", { href: `/${page}?${query}`, "aria-current": state.get(name) === key ? "true" : null, onclick: (event) => {
      if (event.metaKey || event.ctrlKey) return;
      event.preventDefault();
      open(key);
    } }, ...children);
  }

  /** Every word must stand somewhere in what is told of one. */
  function matching(all, told) {
    const words = (state.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const found = all.filter((one) => words.every((word) => told(one).join(" ").toLowerCase().includes(word)));
    document.getElementById("found").textContent =
      found.length > SHOWN ? `the first ${SHOWN} of ${found.length} ${many}: say more of what you look for` : `${found.length} of ${all.length} ${many}`;
    return found.slice(0, SHOWN);
  }

  search.value = state.get("q") ?? "";
  search.addEventListener("input", ({ target }) => {
    if (target.value) state.set("q", target.value);
    else state.delete("q");
    history.replaceState(null, "", `?${state}`);
    list();
  });
  addEventListener("popstate", () => {
    const now = new URLSearchParams(location.search);
    for (const kept of ["q", name]) now.has(kept) ? state.set(kept, now.get(kept)) : state.delete(kept);
    search.value = state.get("q") ?? "";
    list();
    show();
  });
  return { state, open, link, matching };
}
