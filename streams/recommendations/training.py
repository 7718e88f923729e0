"""What was known then: values of features at past times, from a recorded log. Pure.

    rows = known(plan(features()), log, [Asked({"member": "m-1", "title": "t-7"}, at_ms), …])

A value at t comes from the events that had arrived before t, and from nothing else: what happened before t and was told of later was not
known, and a model that had seen it would be better in training than it can ever be when it is asked. Because the log goes through the same
engine as the stream, and is asked by the same function as the online table, a training row is what would have been served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from schemas.catalogue import Catalogue
from streams.recommendations.engine import BETWEEN, Engine
from streams.recommendations.plan import Plan
from streams.recommendations.tiles import as_mapping, evaluate


class Arrived(NamedTuple):
    """One event of a log: its topic, its fields, when Kafka took it (ms)."""

    topic: str
    event: Mapping[str, Any]
    arrived_ms: int


class Asked(NamedTuple):
    """Whom about, by entity, and when (ms): an impression, say, whose outcome is to be learnt."""

    about: Mapping[str, str]
    at_ms: int


def known(plan: Plan, log: Iterable[Arrived], asked: Sequence[Asked], among: Catalogue | None = None) -> list[dict[str, Any]]:
    """For each query the values by name that are about its entities, as they were known at its time; in the order of the queries.

    `log` as recorded: in the order of each partition. It is read once and put in order of arrival; events of equal arrival stay in order.
    """
    engine = Engine(plan, among)
    events = sorted(log, key=lambda one: one.arrived_ms)
    packed: dict[str, list[tuple[int, tuple[bytes, bytes]]]] = {group: [] for group in plan.layouts}
    read = 0
    for n in sorted(range(len(asked)), key=lambda n: asked[n].at_ms):
        query = asked[n]
        while read < len(events) and events[read].arrived_ms < query.at_ms:
            engine.take(*events[read])
            read += 1
        for group, layout in plan.layouts.items():
            if all(entity in query.about for entity in layout.key):
                packed[group].append((n, engine.packed(group, BETWEEN.join(query.about[entity] for entity in layout.key))))
    found: list[dict[str, Any]] = [{} for _ in asked]
    for group, rows in packed.items():
        times = np.array([asked[n].at_ms for n, _ in rows], np.int64)
        told = evaluate(plan.layouts[group], plan.of(group), [row for _, row in rows], times)
        for place, (n, _) in enumerate(rows):
            found[n] |= as_mapping(told, place)
    return found
