"""A job and an online table as they are in earnest: partitions are read each at its own pace, rows are served while more is on its way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from edge.home.lookup import of_row
from edge.skew import Served, Stored
from streams.recommendations.engine import Engine
from streams.recommendations.plan import Plan
from streams.recommendations.table import Table

PARTITIONS = 4


@dataclass
class Lagging:
    """Takes events of one topic; each is heard of up to `most_ms` after it arrived. `log`: the events that count, by (group, key)."""

    made: Plan
    topic: str
    random: Random
    most_ms: int = 9_000
    log: dict[tuple[str, str], list[Stored]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine, self.table = Engine(self.made), Table(self.made)
        self._waiting: list[list[tuple[int, dict[str, Any], int]]] = [[] for _ in range(PARTITIONS)]
        self._probe = Engine(self.made)
        self._keys: list[tuple[str, str]] = []
        self._last: list[tuple[str, str]] = []

    def take(self, event: dict[str, Any], arrived_ms: int, keep: int = 1) -> None:
        """An event arrives; `keep` 0: the job loses it, 2: it counts it twice."""
        partition = int(event["member_id"][2:]) % PARTITIONS
        before = self._probe.counts["taken"]
        changed = self._probe.take(self.topic, event, arrived_ms)
        self._last = [one for one in changed if self.table.head(*one)[1]]
        if self._probe.counts["taken"] > before:
            stored = Stored(self.topic, partition, event, min(event["event_time"], arrived_ms), arrived_ms)
            for one in changed:
                self.log.setdefault(one, []).append(stored)
        queue = self._waiting[partition]
        heard = max(arrived_ms + self.random.randrange(self.most_ms), queue[-1][0] if queue else 0)
        queue.append((heard, event, arrived_ms))
        for n in range(1, keep):
            queue.append((heard, {**event, "event_id": f"{event['event_id']} {n}"}, arrived_ms))
        if not keep:
            queue.pop()

    def hear(self, until_ms: int) -> None:
        """The job tells what it has heard of until then."""
        for queue in self._waiting:
            while queue and queue[0][0] <= until_ms:
                _, event, arrived_ms = queue.pop(0)
                for group, key in self.engine.take(self.topic, event, arrived_ms):
                    if not self.table.head(group, key)[1]:
                        self._keys.append((group, key))
                    self.table.fold(group, key, self.made.layouts[group].id, *self.engine.packed(group, key))

    def served(self, at_ms: int, some: int, recent: bool = False) -> Iterator[Served]:
        """What is served of some rows, drawn, with all their values; `recent`: of those that something arrived for last."""
        keys = list(self._last) if recent else self._keys
        for group, key in self.random.sample(keys, min(some, len(keys))):
            told = of_row(self.table, self.made.layouts[group], key, [value.name for value in self.made.of(group)], at_ms)
            yield Served(group, key, told["layout"], at_ms, told["clock"], told["taken"], told["values"])
