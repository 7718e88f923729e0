"""Which fault meets whom and when. Pure: everything follows from the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

CALM_AT_START_S = 15.0
"""So that there is something to disturb."""


class Kind(StrEnum):
    """What is done to the target."""

    KILL = "kill"  # SIGKILL: nothing is finished, nothing is flushed
    FREEZE = "freeze"  # SIGSTOP, later SIGCONT: it wakes up in a world that has gone on without it
    OUTAGE = "outage"  # stopped in order, started again later
    REPLACE = "replace"  # frozen until its successor has taken over, then woken: a zombie
    CRASH = "crash"  # killed at a chosen step
    WAKE = "wake"  # asleep at a chosen step until others have taken over, then woken
    UPGRADE = "upgrade"  # stopped with a savepoint and started from it


@dataclass(frozen=True)
class Fault:
    """One fault. `for_s` is how long it lasts; 0 for a kill, which is over at once."""

    at_s: float
    kind: Kind
    target: str
    for_s: float = 0.0

    @property
    def over_s(self) -> float:
        """When it ends."""
        return self.at_s + self.for_s

    def overlaps(self, other: Fault) -> bool:
        """Whether both meet the same target at the same time."""
        return self.target == other.target and self.at_s <= other.over_s and other.at_s <= self.over_s

    def __str__(self) -> str:
        return f"{self.kind} {self.target}" + (f" for {self.for_s:.1f} s" if self.for_s else "")


@dataclass(frozen=True)
class Menu:
    """What may happen: kinds by target, with the span of seconds that each lasts."""

    target: str
    kind: Kind
    seconds: tuple[float, float] = (0.0, 0.0)
    once: bool = False


def plan(seed: int, seconds: float, menu: Sequence[Menu], gap_s: tuple[float, float]) -> list[Fault]:
    """Faults over `seconds`, a gap drawn from `gap_s` apart; each entry of the menu comes once before any comes twice.

    A fault may begin before the one before it is over, but not on the same target. What is to happen `once` happens near the middle.
    """
    rng = random.Random(f"{seed}/faults")
    faults = [Fault(seconds / 2, m.kind, m.target, rng.uniform(*m.seconds)) for m in menu if m.once]
    at_s = CALM_AT_START_S
    for entry in _decks(rng, [m for m in menu if not m.once]):
        fault = Fault(at_s, entry.kind, entry.target, rng.uniform(*entry.seconds))
        if fault.over_s > seconds:
            break
        if not any(fault.overlaps(other) for other in faults):
            faults.append(fault)
        at_s += rng.uniform(*gap_s)
    return sorted(faults, key=lambda fault: fault.at_s)


def _decks(rng: random.Random, menu: Sequence[Menu]) -> Iterator[Menu]:
    """The menu, shuffled anew each time it has been gone through."""
    while menu:
        deck = list(menu)
        rng.shuffle(deck)
        yield from deck
