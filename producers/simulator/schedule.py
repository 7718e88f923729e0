"""When what arrives: sessions that start one after another, their reports merged in order of arrival, with the faults of a real network.

Pure: everything follows from the world, the seed and the plan. Time is simulated time, milliseconds since 1970. Sessions are played in
cohorts, those that begin within a minute, and only what has not arrived yet is kept: memory depends on how many play at once, not on
how many there will be.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from producers.simulator.audience import SESSION, Audience
from producers.simulator.doings import Doings
from producers.simulator.experiments import Dealer, Effects, Exposed
from producers.simulator.reports import REPORT, reports
from producers.simulator.timeline import NEVER, Ints, Traits, play
from producers.simulator.truth import truth
from producers.simulator.world import World
from schemas.allocation.definition import AnyDefinition

OUT_OF_ORDER_MS = (500, 4_000)
"""How much later than others a report arrives that is out of order; within what the topic's watermark waits for."""
LATE_MS = (10_000, 60_000)
"""The same for a late one, which no watermark waits for."""
DUPLICATE_MS = (100, 3_000)
LAG_MS = (20, 300)
STARTS_SHARE = 20
"""Sessions that start in one second are at most this part of the reports wanted per second: a world does not fill at a stroke."""
COHORT_S = 60
COHORT_SESSIONS = 4096
COHORT_SECONDS = 4_000_000
"""Seconds of titles in one cohort, which bounds its memory where titles are long."""
TRIAL = (256, 1_024)
"""Sessions that are played to see how many reports come how soon; the more are wanted, the more."""


@dataclass(frozen=True)
class Plan:
    """How much, from when, how dense and how disordered. Shares are of the reports."""

    start_ms: int
    sessions: int | None = None
    events: int | None = None
    per_second: int = 2_000
    """Reports per second of simulated time, once enough sessions are under way; where load follows the hour, on average over a day."""
    duplicates: float = 0.0
    out_of_order: float = 0.0
    late: float = 0.0


@dataclass(frozen=True)
class Second:
    """What arrives until `end_ms` (reports.REPORT, in order of arrival) with the session of each report (audience.SESSION), and the truth
    about sessions that begin from now on, where there is any news of it. `scheduled` and `begun`: the reports, duplicates included, and the
    sessions drawn so far."""

    end_ms: int
    arrivals: NDArray[Any]
    sessions: NDArray[Any]
    truths: pa.Table | None
    scheduled: int
    begun: int
    exposures: list[Exposed] = field(default_factory=list)
    """What arrives of experiments and of what members do, in order."""
    effects: Effects | None = None
    """Of the sessions that begin from now on, where anybody wants to know."""


@dataclass
class _Waiting:
    """What has not arrived yet of one cohort, whose first session is number `first`, in order of arrival."""

    first: int
    rows: NDArray[Any]

    def take(self, until_ms: int) -> NDArray[Any]:
        """What arrives before that; it waits no longer."""
        due = int(np.searchsorted(self.rows["at_ms"], until_ms))
        taken, left = self.rows[:due], self.rows[due:]
        self.rows = left.copy() if len(left) < due else left  # or a few that come late would keep the memory of all
        return taken


def in_order(rows: NDArray[Any]) -> NDArray[Any]:
    """By arrival; what arrives at the same time stays as it is."""
    return rows[np.argsort(rows["at_ms"], kind="stable")]


class Schedule:
    """Iterate over it: one `Second` after another, without a gap, until everything has arrived. `truths`: whether anybody wants to know.

    With `definitions` members are in their experiments; `does`: what they do beside playing is told, too. Raises BadWorld where the world
    knows effects of others.
    """

    def __init__(
        self,
        world: World,
        seed: int,
        plan: Plan,
        truths: bool = True,
        definitions: Sequence[AnyDefinition] | None = None,
        does: bool = False,
    ) -> None:
        if (plan.sessions is None) == (plan.events is None):
            raise ValueError("a plan has either a number of sessions or a number of events")
        self.scheduled = 0
        """Reports scheduled so far, duplicates included."""
        self.sessions = 0
        self._world, self._plan, self._truths = world, plan, truths
        self._audience = Audience(world, seed, plan.start_ms)
        self._rng = np.random.default_rng([seed, 1])
        self._dealer = None if definitions is None else Dealer(world, definitions)
        self._doings = Doings(world, seed) if does else None
        self._of_exposures = np.random.default_rng([seed, 2])
        self._exposures: list[Exposed] = []
        """Those that have not arrived, in order."""
        self._begun = np.empty(0, SESSION)
        """Sessions from number `_forgotten` on."""
        self._forgotten = 0
        wanted = plan.sessions or (plan.events or 0) // 50
        self._profile = self._try_out(int(np.clip(wanted, *TRIAL)), np.random.default_rng([seed, 0]))
        self._ahead = np.zeros(len(self._profile) + COHORT_S)
        """Reports that are expected in each second from the next one on, of the sessions that have begun."""
        self._fraction = 0.0

    def __iter__(self) -> Iterator[Second]:
        second = self._plan.start_ms // 1000
        waiting: list[_Waiting] = []
        while self._wanted() or waiting or self._exposures:
            truths, effects = None, None
            until = second + COHORT_S
            if self._wanted():
                first = self.sessions
                pressed_ms, until = self._starts(second)
                fresh, truths, effects = self._begin(pressed_ms)
                waiting.append(_Waiting(first, in_order(fresh)))
            else:
                latest = [int(of.rows["at_ms"][-1]) for of in waiting] + [one.at_ms for one in self._exposures[-1:]]
                until = min(until, max(latest) // 1000 + 1)
            now = in_order(np.concatenate([np.empty(0, REPORT), *(of.take(until * 1000) for of in waiting)]))
            bounds = np.searchsorted(now["at_ms"], 1000 * np.arange(second, until + 1))
            for number, end in enumerate(range(second + 1, until + 1)):
                arrivals = now[bounds[number] : bounds[number + 1]]
                of = self._begun[arrivals["session"] - self._forgotten]
                yield Second(end * 1000, arrivals, of, truths, self.scheduled, self.sessions, self._exposed(end * 1000), effects)
                truths, effects = None, None
            second = until
            waiting = [of for of in waiting if len(of.rows)]
            oldest = waiting[0].first if waiting else self.sessions
            self._begun, self._forgotten = self._begun[oldest - self._forgotten :], oldest

    def _wanted(self) -> bool:
        plan = self._plan
        return self.sessions < plan.sessions if plan.sessions is not None else self.scheduled < (plan.events or 0)

    def _try_out(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Reports of one session to be expected in each second after the one in which it begins."""
        pressed_ms = self._plan.start_ms // 1000 * 1000 + np.sort(rng.integers(0, 1000, count))
        sessions = self._audience.sessions(0, pressed_ms, rng)
        lines = play(self._world, sessions, self._plan.start_ms, rng, self._audience.traits(sessions, rng))
        arrivals = self._delivered(reports(lines), rng)
        return np.bincount(arrivals["at_ms"] // 1000 - self._plan.start_ms // 1000) / count

    def _starts(self, second: int) -> tuple[Ints, int]:
        """When the sessions of the next cohort begin, and up to which second that is."""
        plan, profile = self._plan, self._profile
        wanted = np.inf if plan.sessions is None else plan.sessions - self.sessions
        if plan.events is not None:
            wanted = max(1.0, np.ceil((plan.events - self.scheduled) / profile.sum()))
        longest_s = max(title.length_s for title in self._world.all_titles)
        most = min(wanted, max(256, min(COHORT_SESSIONS, COHORT_SECONDS // longest_s)))
        at_most_now = max(1.0, plan.per_second / STARTS_SHARE)
        starts: list[int] = []
        for now in range(second, second + COHORT_S):
            lacks = plan.per_second * self._audience.load(now * 1000) - self._ahead[0]
            self._fraction += min(at_most_now, max(0.0, lacks / profile[0])) if profile[0] else at_most_now
            count = int(min(self._fraction, most - len(starts)))
            self._fraction = min(self._fraction - count, 1.0)
            starts += [now] * count
            self._ahead[: len(profile)] += count * profile
            self._ahead = np.append(self._ahead[1:], 0.0)
            if len(starts) >= most:
                break
        pressed_ms = np.array(starts, np.int64) * 1000 + self._rng.integers(0, 1000, len(starts))
        return np.sort(pressed_ms), now + 1

    def _begin(self, pressed_ms: Ints) -> tuple[NDArray[Any], pa.Table | None, Effects | None]:
        """Sessions that begin at these times: their reports as they will arrive, the truth about them, and what experiments did."""
        if not len(pressed_ms):
            return np.empty(0, REPORT), None, None
        sessions = self._audience.sessions(self.sessions, pressed_ms, self._rng)
        traits, effects = self._audience.traits(sessions, self._rng), None
        if self._dealer is not None:
            plain = Traits.plain(len(sessions)) if traits is None else traits
            dealt = self._dealer.deal(sessions)
            self._expose(dealt.exposures)
            traits = self._dealer.affected(plain, dealt.variations)
            effects = self._effects(sessions, plain, dealt.variations) if self._truths else None
        lines = play(self._world, sessions, self._plan.start_ms, self._rng, traits)
        made = reports(lines)
        if self._doings is not None:
            self._expose(self._doings.of(lines))
        true = None
        if self._truths:
            told, last_told = np.bincount(made["session"], minlength=len(sessions)), np.zeros(len(sessions), np.int64)
            np.maximum.at(last_told, made["session"], made["event_time"])
            true = truth(self._world, lines, last_told).append_column("reports", pa.array(told))
        arrivals = self._delivered(made, self._rng)
        arrivals["session"] += self.sessions
        self._begun = np.concatenate([self._begun, sessions])
        self.sessions += len(sessions)
        self.scheduled += len(arrivals)
        return arrivals, true, effects

    def _effects(self, sessions: NDArray[Any], plain: Traits, variations: dict[str, Ints]) -> Effects:
        """What these sessions would have had under each variation. What nobody was told of counts, too: the device was switched off."""
        assert self._dealer is not None
        played = {}
        for experiment, variation, dealt in self._dealer.alternatives(variations):
            lines = play(self._world, sessions, self._plan.start_ms, deepcopy(self._rng), self._dealer.affected(plain, dealt))
            told = sessions["pressed_ms"] + np.where(lines.silent_ms < NEVER, lines.silent_ms, 0)
            played[experiment, variation] = truth(self._world, lines, told)
        found = Effects()
        found.add({experiment: of >= 0 for experiment, of in variations.items()}, played)
        return found

    def _expose(self, exposures: list[Exposed]) -> None:
        """Have them arrive after a while, some twice."""
        rng, count = self._of_exposures, len(exposures)
        lag_ms = rng.integers(*LAG_MS, count).tolist()
        again = np.flatnonzero(rng.random(count) < self._plan.duplicates).tolist()
        later_ms = rng.integers(*DUPLICATE_MS, len(again)).tolist()
        come = [one._replace(at_ms=one.at_ms + lag) for one, lag in zip(exposures, lag_ms, strict=True)]
        come += [come[index]._replace(at_ms=come[index].at_ms + lag) for index, lag in zip(again, later_ms, strict=True)]
        self._exposures = sorted([*self._exposures, *come], key=lambda one: one.at_ms)

    def _exposed(self, until_ms: int) -> list[Exposed]:
        """Those that arrive before that; they wait no longer."""
        due = bisect_left(self._exposures, until_ms, key=lambda one: one.at_ms)
        found, self._exposures = self._exposures[:due], self._exposures[due:]
        return found

    def _delivered(self, made: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """Reports as they arrive: after a while, some out of order, some late, some twice."""
        plan, count = self._plan, len(made)
        chance = rng.random(count)
        lag_ms = rng.integers(*LAG_MS, count)
        lag_ms += np.where(chance < plan.late, rng.integers(*LATE_MS, count), 0)
        disordered = (chance >= plan.late) & (chance < plan.late + plan.out_of_order)
        lag_ms += np.where(disordered, rng.integers(*OUT_OF_ORDER_MS, count), 0)
        made["at_ms"] += lag_ms
        again = made[rng.random(count) < plan.duplicates]
        again["at_ms"] += rng.integers(*DUPLICATE_MS, len(again))
        return np.concatenate([made, again])
