"""When what arrives: sessions that start one after another, their reports merged in order of arrival, with the faults of a real network.

Pure: everything follows from the world, the seed and the plan. Time is simulated time, milliseconds since 1970.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from producers.simulator.reports import Made, reports
from producers.simulator.timeline import draw
from producers.simulator.truth import truth
from producers.simulator.world import World

OUT_OF_ORDER_MS = (500, 4_000)
"""How much later than others a report arrives that is out of order; within what the topic's watermark waits for."""
LATE_MS = (10_000, 60_000)
"""The same for a late one, which no watermark waits for."""
DUPLICATE_MS = (100, 3_000)
LAG_MS = (20, 300)
STARTS_SHARE = 20
"""Sessions that start in one second are at most this part of the reports wanted per second: a world does not fill at a stroke."""


@dataclass(frozen=True)
class Plan:
    """How much, from when, how dense and how disordered. Shares are of the reports."""

    start_ms: int
    sessions: int | None = None
    events: int | None = None
    per_second: int = 2_000
    """Reports per second of simulated time, once enough sessions are under way."""
    duplicates: float = 0.0
    out_of_order: float = 0.0
    late: float = 0.0
    pool: int = 0
    """Simulate this many sessions and repeat them under other names and times; 0: every session is simulated for itself."""


@dataclass(slots=True)
class Arrival:
    """One report on its way into Kafka, at `at_ms`."""

    at_ms: int
    sid: str
    correlation_id: str
    event_time_ms: int
    made: Made


@dataclass
class Second:
    """What arrives until `end_ms`, in order of arrival, and the truth about the sessions that began meanwhile."""

    end_ms: int
    arrivals: list[Arrival] = field(default_factory=list)
    truths: list[dict[str, Any]] = field(default_factory=list)


class Schedule:
    """Iterate over it: one `Second` after another, without a gap, until everything has arrived."""

    def __init__(self, world: World, seed: int, plan: Plan) -> None:
        if (plan.sessions is None) == (plan.events is None):
            raise ValueError("a plan has either a number of sessions or a number of events")
        self.scheduled = 0
        """Reports scheduled so far, duplicates included."""
        self.sessions = 0
        self._world = world
        self._plan = plan
        self._seed = seed
        self._sessions_rng, self._network_rng = random.Random(f"{seed}/sessions"), random.Random(f"{seed}/network")
        self._pool = [self._simulate() for _ in range(plan.pool)]
        self._waiting: dict[int, list[Arrival]] = defaultdict(list)

    def __iter__(self) -> Iterator[Second]:
        second = self._plan.start_ms // 1000
        while self._wanted() or self._waiting:
            now = Second((second + 1) * 1000)
            limit = max(1, self._plan.per_second // STARTS_SHARE)
            while self._wanted() and len(now.truths) < limit and len(self._waiting[second]) < self._plan.per_second:
                now.truths.append(self._begin(second * 1000))
            now.arrivals = sorted(self._waiting.pop(second, ()), key=lambda arrival: arrival.at_ms)
            yield now
            second += 1

    def _wanted(self) -> bool:
        plan = self._plan
        return self.sessions < plan.sessions if plan.sessions is not None else self.scheduled < (plan.events or 0)

    def _simulate(self) -> tuple[list[Made], dict[str, Any]]:
        line = draw(self._world, self._sessions_rng)
        made = reports(line)
        return made, truth(line, max(report.event_ms for report in made)) | {"reports": len(made)}

    def _begin(self, second_ms: int) -> dict[str, Any]:
        """Start one session within this second; returns the truth about it."""
        rng = self._network_rng
        made, true = rng.choice(self._pool) if self._pool else self._simulate()
        pressed_ms = second_ms + rng.randrange(1000)
        name = hashlib.blake2b(b"%d/%d" % (self._seed, self.sessions), digest_size=32).hexdigest()
        sid, correlation_id = name[:32], name[32:]
        self.sessions += 1
        for report in made:
            arrival = Arrival(pressed_ms + report.made_ms + self._lag_ms(), sid, correlation_id, pressed_ms + report.event_ms, report)
            self._deliver(arrival)
            if rng.random() < self._plan.duplicates:
                again_ms = arrival.at_ms + rng.randrange(*DUPLICATE_MS)
                self._deliver(Arrival(again_ms, sid, correlation_id, arrival.event_time_ms, report))
        shifted = {"started_at": pressed_ms + true["started_ms"], "ended_at": pressed_ms + true["ended_ms"]}
        return {"sid": sid} | {name: value for name, value in true.items() if name not in ("started_ms", "ended_ms")} | shifted

    def _deliver(self, arrival: Arrival) -> None:
        self._waiting[arrival.at_ms // 1000].append(arrival)
        self.scheduled += 1

    def _lag_ms(self) -> int:
        rng, plan = self._network_rng, self._plan
        lag_ms = int(LAG_MS[0] + rng.random() * (LAG_MS[1] - LAG_MS[0]))
        chance = rng.random()
        if chance < plan.late:
            return lag_ms + rng.randrange(*LATE_MS)
        if chance < plan.late + plan.out_of_order:
            return lag_ms + rng.randrange(*OUT_OF_ORDER_MS)
        return lag_ms
