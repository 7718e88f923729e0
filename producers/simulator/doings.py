"""What simulated members do before, with and after their sessions: the impression and the click that led to a play, the play, how it ended,
and what they rate and list. Follows from the timeline, never from reports.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from producers.simulator.experiments import Exposed
from producers.simulator.timeline import STATES, P, Timelines
from producers.simulator.world import World

IMPRESSION, INTERACTION, SEARCH = (f"recommendations.{name}" for name in ("impression", "interaction", "search"))
TOPICS = (IMPRESSION, INTERACTION, SEARCH)
ENDS = {"e": "completion", "q": "skip"}
SEES_MS, CLICKS_MS = (1_000, 3_000), (300, 1_500)
"""How long before it was opened a title was seen, and before the press of play opened; told with that, it is not late for a watermark."""
SEARCHES, LISTS, RATES = 0.1, 0.05, 0.2
"""Shares of sessions whose title was searched for in place of seen, that put it on the list, and that rate it."""
ROWS, ON_SCREEN, PREVIOUS = 8, 6, 5


class Doings:
    """Tells of sessions in the order in which they begin. What it remembers grows with members, and with titles that they completed."""

    def __init__(self, world: World, seed: int) -> None:
        self._cids = [title.cid for title in world.all_titles]
        self._kinds, self._regions = [rig.kind for rig in world.rigs], list(world.regions)
        self._rng = np.random.default_rng([seed, 4])
        self._completed: set[tuple[str, str]] = set()
        self._played: dict[str, list[str]] = {}

    def of(self, lines: Timelines) -> list[Exposed]:
        """Everything, with the times at which it happened; a device that was switched off tells of nothing after that."""
        count, changes = len(lines.sessions), lines.changes
        last = np.searchsorted(changes["session"], np.arange(count), side="right") - 1
        ends = [STATES[state] for state in changes["state"][last].tolist()]
        end_ms = np.where(changes["at_ms"][last] < lines.silent_ms, changes["at_ms"][last], -1).tolist()
        plays = np.flatnonzero(changes["state"][:-1] == P)
        watched_ms = np.zeros(count, np.int64)
        np.add.at(watched_ms, changes["session"][plays], changes["at_ms"][plays + 1] - changes["at_ms"][plays])
        names = [np.ascontiguousarray(lines.sessions[name]).view("S32").ravel().tolist() for name in ("sid", "correlation_id")]
        members = np.ascontiguousarray(lines.sessions["member_id"]).view("S32").ravel().tolist()
        found: list[Exposed] = []
        for at, (sid, correlation_id, member) in enumerate(zip(*names, members, strict=True)):
            session, about = lines.sessions[at], (sid.decode(), correlation_id.decode(), member.decode())
            found += self._of(session, *about, ends[at], int(end_ms[at]), int(watched_ms[at]))
        return found

    def _of(self, session: Any, sid: str, correlation_id: str, member: str, end: str, end_ms: int, watched_ms: int) -> Iterator[Exposed]:
        rng, cid, pressed_ms = self._rng, self._cids[session["title"]], int(session["pressed_ms"])
        who = {"member_id": member, "region": self._regions[session["region"]], "device_type": self._kinds[session["rig"]]}

        def told(topic: str, name: str, at_ms: int, **fields: Any) -> Exposed:
            return Exposed(max(at_ms, pressed_ms), f"{sid}-{name}", at_ms, correlation_id, {**who, **fields}, topic)

        def does(kind: str, at_ms: int, **more: Any) -> Exposed:
            return told(INTERACTION, kind, at_ms, cid=cid, kind=kind, **more)

        clicked_ms = pressed_ms - int(rng.integers(*CLICKS_MS))
        seen_ms = clicked_ms - int(rng.integers(*SEES_MS))
        after: dict[str, str] = {}
        if rng.random() < SEARCHES:
            yield told(SEARCH, "search", seen_ms, query=cid, results=1)
        else:
            place = {
                "row": int(rng.integers(ROWS)),
                "position": int(rng.integers(ON_SCREEN)),
                "row_kind": "all",
                "model_version": "fallback",
            }
            yield told(IMPRESSION, "impression", seen_ms, cid=cid, page_id=f"{sid}-page", **place)
            after = {"impression_id": f"{sid}-impression"}
        yield does("click", clicked_ms, **after)
        if rng.random() < LISTS:
            yield does("list_add", clicked_ms, **after)
        before = [one for one in self._played.get(member, ()) if one != cid][:PREVIOUS]
        self._played[member] = [cid, *before]
        again = (member, cid) in self._completed
        yield does("rewatch" if again else "play", pressed_ms, sid=sid, previous_cids=before, **after)
        rates, stars = rng.random() < RATES, int(rng.integers(1, 11))
        if end_ms < 0 or end not in ENDS:
            return
        if end == "e":
            self._completed.add((member, cid))
        yield does(ENDS[end], pressed_ms + end_ms, sid=sid, watched_ms=watched_ms)
        if rates:
            yield does("rating", pressed_ms + end_ms + 1_000, rating_halves=stars)
