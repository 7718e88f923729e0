"""What a member does before and after it plays: looks at a page, opens a title or searches for one, rates it, keeps a list. Pure.

Each event is an object as the collector's `/interactions` takes it. What is chosen to be played is not decided here: a member that wants a
title finds it on its page, and has then seen what stands before it, or types its name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from producers.players.player import Device

Event = dict[str, Any]

ON_SCREEN = 6
"""Titles of a row that are on the screen at once."""
PREVIOUS = 5
RATES, LISTS, UNLISTS = 0.3, 0.15, 0.1
"""Shares of plays after which a title is rated, of titles seen that are put on the list, and of pages on which one is taken off it."""


@dataclass(frozen=True)
class Shown:
    """A title at its place on a page; what an impression of it tells."""

    cid: str
    row: int
    position: int
    row_kind: str
    model_version: str
    artwork_variant: str | None = None
    propensity: float | None = None


@dataclass(frozen=True)
class Page:
    """What was served, row by row."""

    page_id: str
    shown: tuple[Shown, ...]


def page(told: Any) -> Page:
    """The answer of `GET /home`. Raises ValueError where it is none."""
    try:
        return Page(
            str(told["page_id"]),
            tuple(
                Shown(
                    str(item["cid"]), row["row"], item["position"], str(row["row_kind"]), str(row["model_version"]),
                    item.get("artwork_variant"), item.get("propensity"),
                )
                for row in told["rows"]
                for item in row["items"]
            ),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no page: {error!r}") from None


def plain_page(page_id: str, cids: Sequence[str]) -> Page:
    """One row of all titles: what a member sees where nobody serves a page."""
    return Page(page_id, tuple(Shown(cid, 0, position, "all", "fallback") for position, cid in enumerate(cids)))


class Browsing:
    """One member, from evening to evening. `run` tells its ids apart from those of other runs with the same seed."""

    def __init__(self, device: Device, seed: int, run: int) -> None:
        self._shared = {"member": device.member}
        self._about = {"region": device.region, "device_type": device.kind}
        self._rng = random.Random(seed + 2)
        self._run = run
        self._made = 0
        self._completed: set[str] = set()
        self._played: list[str] = []
        self._listed: list[str] = []
        self._clicked: Mapping[str, Any] = {}

    def looks(self, at: Page, wanted: str, now_ms: int) -> Iterator[Event]:
        """What it sees until it opens `wanted`, and how it finds it."""
        here = next((one for one in at.shown if one.cid == wanted), None)
        last = here or next((one for one in reversed(at.shown)), None)
        seen: dict[str, str] = {}
        for one in at.shown:
            if last is None or one.row > last.row:
                break
            if one.position < ON_SCREEN or (one.row == last.row and one.position <= last.position):
                told = self._event("impression", now_ms, **self._about, page_id=at.page_id, **_of(one))
                seen[one.cid] = told["id"]
                yield told
                if one.cid not in self._listed and one.cid != wanted and self._rng.random() < LISTS:
                    self._listed.append(one.cid)
                    yield self._does("list_add", one.cid, now_ms, impression_id=told["id"])
        if self._listed and self._rng.random() < UNLISTS:
            yield self._does("list_remove", self._listed.pop(self._rng.randrange(len(self._listed))), now_ms)
        if here is None:
            yield self._event("search", now_ms, **self._about, query=wanted, results=1)
        self._clicked = {"impression_id": seen[wanted]} if here else {}
        yield self._does("click", wanted, now_ms, **self._clicked)

    def presses(self, cid: str, sid: str, now_ms: int) -> Event:
        """It presses play, for the first time or again."""
        again = cid in self._completed
        before = [one for one in self._played if one != cid][:PREVIOUS]
        self._played = [cid, *before]
        return self._does("rewatch" if again else "play", cid, now_ms, sid=sid, previous_cids=before, **self._clicked)

    def leaves(self, cid: str, sid: str, state: str, watched_ms: int, now_ms: int) -> Iterator[Event]:
        """It has watched so much: to the end (state e) or not; a session that failed (f) says nothing about its title."""
        if state not in ("e", "q"):
            return
        if state == "e":
            self._completed.add(cid)
        yield self._does("completion" if state == "e" else "skip", cid, now_ms, sid=sid, watched_ms=watched_ms)
        if self._rng.random() < RATES:
            yield self._does("rating", cid, now_ms, rating_halves=self._rng.randint(5, 10) if state == "e" else self._rng.randint(1, 6))

    def _does(self, kind: str, cid: str, now_ms: int, **more: Any) -> Event:
        return self._event("interaction", now_ms, cid=cid, kind=kind, **self._about, **more)

    def _event(self, name: str, now_ms: int, **fields: Any) -> Event:
        self._made += 1
        return {"event": name, "id": f"{self._run:x}-{self._made}", "ts": now_ms, **self._shared, **fields}


def _of(one: Shown) -> dict[str, Any]:
    told = {name: getattr(one, name) for name in Shown.__dataclass_fields__}
    return {name: value for name, value in told.items() if value is not None}
