"""Which bitrate next, as a player asks: an algorithm of `producers.abr` on what the player knows, and how long to wait before it fetches.

Pure. `ALGORITHMS` are those that a device may be told to adapt by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from producers.abr import bola_finite
from producers.abr.bola_finite import Choice
from producers.abr.policy import Policy, load
from producers.abr.prior import Prior
from producers.abr.state import State

BUFFER_MIN_MS = 12_000
"""Aimed at near the begin and the end of a title; BOLA-FINITE's alone."""
DEFAULT = "policy"
TOLD = MappingProxyType({"policy": "headrace"})
"""What reports (playback.report, abr) call it, where that is another name."""


@dataclass(frozen=True)
class Situation:
    """What a player knows when it chooses."""

    state: State
    playhead_s: float
    """How far into the title."""
    title_s: float
    prior: Prior | None = None
    """What its ticket says of its throughput."""
    penalty_s: float = 0.0
    """What leaving the server in use will cost the next download, where that server is suspected; else 0."""


Adaptation = Callable[[Situation], Choice]


def paced(level: Callable[[Situation], int]) -> Adaptation:
    """A choice of levels, of a player that fetches whenever its buffer has room for one segment more."""

    def choose(situation: Situation) -> Choice:
        state = situation.state
        full_ms = round(1000 * (state.buffer_s + state.segment_s - state.buffer_max_s))
        return Choice(0, full_ms) if full_ms > 0 else Choice(level(situation), 0)

    return choose


def by_policy(situation: Situation) -> int:
    """The level that our own algorithm takes."""
    return installed().choose(situation.state, situation.prior, situation.penalty_s)


def by_bola(situation: Situation) -> Choice:
    """BOLA-FINITE's choice; it paces itself."""
    state, left_s = situation.state, situation.title_s - situation.playhead_s
    return bola_finite.choose(
        state.bitrates_kbps, round(1000 * state.segment_s), round(1000 * state.buffer_s), BUFFER_MIN_MS, round(1000 * state.buffer_max_s),
        round(1000 * situation.playhead_s), round(1000 * left_s), None if state.previous < 0 else state.previous,
        state.throughputs_kbps[-1] if state.throughputs_kbps else None,
    )  # fmt: skip


@cache
def installed() -> Policy:
    """The policy that comes with Headrace, read once. Raises BadPolicy."""
    return load()


ALGORITHMS: Mapping[str, Adaptation] = MappingProxyType({"policy": paced(by_policy), "bola": by_bola})


def named(name: str) -> Adaptation:
    """The algorithm of this name. Raises ValueError."""
    try:
        return ALGORITHMS[name]
    except KeyError:
        raise ValueError(f"no adaptation is called {name!r}: there are {', '.join(ALGORITHMS)}") from None
