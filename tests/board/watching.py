"""Watching in a browser, with a witness: listeners of our own on the video element, which know nothing of the player's reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from infra.base import warehouse as clients
from producers.abr.policy import load
from producers.abr.prior import Prior
from producers.abr.state import State
from tests.board.browser import until
from tests.kit import eventually

WITNESS = """() => {
  window.witness = [];
  window.decisions = [];
  const note = (name) => (event) => witness.push([name, performance.timeOrigin + event.timeStamp]);
  const video = document.querySelector("video");
  video.addEventListener("adapted", ({ detail }) => decisions.push(detail));
  for (const name of ["playing", "waiting", "ended", "pause", "seeking"]) video.addEventListener(name, note(name));
  // dash.js pauses at the end, and where it does so first, no `ended` comes.
  video.addEventListener("pause", (event) => video.currentTime >= video.duration && note("ended")(event));
  document.querySelector("button.primary").addEventListener("click", note("click"), true);
}"""
STATE = """() => {
  const { currentTime, duration, paused, playbackRate, readyState, networkState, error, buffered } = document.querySelector("video");
  const ranges = [...Array(buffered.length).keys()].map((i) => [buffered.start(i), buffered.end(i)]);
  const listed = [...document.querySelectorAll(".reports [data-status]")].slice(0, 10);
  const reports = listed.map(({ title, dataset }) => `${dataset.status} ${title}`);
  return JSON.stringify({
    currentTime, duration, paused, playbackRate, readyState, networkState, error: error?.message, ranges, witness, reports,
  });
}"""
QUALITY = """
SELECT startup_ms, rebuffer_count, rebuffer_ms, end_reason, toUnixTimestamp64Milli(ended_at) AS ended_at
FROM qoe_sessions WHERE sid = {sid:String} AND end_reason != 'silence'
"""
TOLERANCE_MS = 100


@dataclass(frozen=True)
class Seen:
    """What the witness saw of one session; times in ms since 1970."""

    startup_ms: float
    rebuffer_count: int
    rebuffer_ms: float
    ended_at: float | None
    events: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, events: list[tuple[str, float]]) -> Seen:
        """From the element's own events: a rebuffering is from `waiting` to `playing` after the first frame, unless a pause came before."""
        pressed = next(at for name, at in events if name == "click")
        first = next(at for name, at in events if name == "playing")
        count, total, since = 0, 0.0, None
        for name, at in events:
            if name == "waiting" and at > first and since is None:
                count, since = count + 1, at
            elif name in ("playing", "ended") and since is not None:
                total, since = total + at - since, None
        return cls(first - pressed, count, total, next((at for name, at in events if name == "ended"), None), tuple(events))


def press_play(tab: Any, board: str, title: str, *, opened: bool = False, abr: str = "") -> str:
    """Open the player's page, unless it is, choose an adaptation, press play, wait for the first frame; returns the session's sid."""
    if not opened:
        tab.goto(f"{board}/watch")
    tab.wait_for_selector("button.primary:enabled")
    tab.evaluate(WITNESS)
    tab.select_option("select[aria-label=Title]", title)
    if abr:
        tab.select_option("select[aria-label=Adaptation]", abr)
    tab.click("button.primary")
    until(tab, "witness.some(([name]) => name === 'playing')")
    return str(tab.get_attribute("#session-link", "href")).partition("sid=")[2]


def decisions(tab: Any) -> list[dict[str, Any]]:
    """What the player's adaptation has decided so far: each with the state that it saw and the prior."""
    return list(tab.evaluate("decisions"))


def assert_decided_alike(found: list[dict[str, Any]]) -> None:
    """Python's evaluator says of each state what the page's said."""
    policy = load()
    for one in found:
        said = policy.explain(State(**one["state"]), one["prior"] and Prior(**one["prior"]))
        assert (said.level, said.by) == (one["level"], one["by"]), one
        assert said.worth == pytest.approx(one["worth"], rel=1e-9, abs=1e-9), one


def assert_played_as_decided(found: list[dict[str, Any]], reports: list[dict[str, Any]]) -> None:
    """Each video segment was fetched at the level that was decided last before it. `reports` are of a session without seeks or failures."""
    videos = sorted((r for r in reports if r["e"] == "rr" and r["ot"] == "v"), key=lambda r: r["sn"])
    decided = {len(one["state"]["throughputs_kbps"]): one for one in found}
    wanted = [decided[fetched]["state"]["bitrates_kbps"][decided[fetched]["level"]] for fetched in range(len(videos))]
    assert [r["br_kbps"] for r in videos] == [round(kbps) for kbps in wanted]


def network(tab: Any, kbps: int) -> None:
    """Choose a network on the page."""
    tab.check(f"input[name=kbps][value='{kbps}']", force=True)


def seen(tab: Any) -> Seen:
    """What the witness has seen so far."""
    return Seen.of([(name, at) for name, at in tab.evaluate("witness")])


def to_the_end(tab: Any, within: float) -> None:
    """Wait until the video has ended. Where it does not, say what the element and the page's list of reports show."""
    try:
        until(tab, "witness.some(([name]) => name === 'ended')", within)
    except AssertionError as error:
        raise AssertionError(f"{error}; {tab.evaluate(STATE)}") from None


def acknowledged(tab: Any) -> None:
    """Wait until the player's page says that the closing state is in Kafka: a tab that is closed by the test sends nothing more."""
    until(tab, "[...document.querySelectorAll('.reports [data-status=\"202\"]')].some(({ title }) => /(^|,)sta=[efq](,|$)/.test(title))")


def quality(sid: str) -> dict[str, Any]:
    """The session's row, once it has closed: a report of a slow segment comes late, and lets a row out before."""
    answer = eventually(lambda: (found := clients.reader().query(QUALITY, parameters={"sid": sid})).result_rows and found, within=120)
    return dict(zip(answer.column_names, answer.result_rows[0], strict=True))


def assert_agree(quality: dict[str, Any], witness: Seen) -> None:
    """The session's quality is what the video element went through, to 100 ms."""
    told = {name: quality[name] for name in ("startup_ms", "rebuffer_count", "rebuffer_ms", "end_reason")}
    assert abs(quality["startup_ms"] - witness.startup_ms) <= TOLERANCE_MS, f"{told}, {witness}"
    assert quality["rebuffer_count"] == witness.rebuffer_count, f"{told}, {witness}"
    assert abs(quality["rebuffer_ms"] - witness.rebuffer_ms) <= TOLERANCE_MS, f"{told}, {witness}"
    if witness.ended_at is not None:
        assert quality["end_reason"] == "ended"
        assert abs(quality["ended_at"] - witness.ended_at) <= TOLERANCE_MS
