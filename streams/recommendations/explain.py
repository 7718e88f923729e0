"""One member's features through time: which events made each value what it is. Pure.

    for step in explained(plan(features()), log, "m-1"): print(step.at_ms, step.changed)

The member's events go through the engine one after the other; after each, what it changed is held against what was there before, both as
of the time it arrived, so that a change is that event's alone and not what has expired since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.catalogue import Catalogue
from schemas.envelope import milliseconds
from streams.recommendations.engine import BETWEEN, Engine
from streams.recommendations.plan import Plan
from streams.recommendations.tiles import as_mapping, evaluate, nothing
from streams.recommendations.training import Arrived

WHY = {
    "twice": "came before within the hour, and does not count",
    "beyond_most": "is beyond the most of a day, and does not count",
    "ahead": "its clock was ahead: it counts when it arrived",
    "no_key": "has no key for some features, and does not count there",
    "too_long": "has a text that is too long, which does not count",
    "out_of_bounds": "has a number out of bounds, which does not count",
}


@dataclass(frozen=True)
class Change:
    """A value that an event changed: its name, what it is about besides the member, before and after."""

    value: str
    about: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Step:
    """One event: its topic and fields, when it counts and when it arrived (ms), what was noted of it, and what it changed."""

    topic: str
    event: Mapping[str, Any]
    at_ms: int
    arrived_ms: int
    notes: tuple[str, ...]
    changed: tuple[Change, ...] = field(default=())


def of_members(made: Plan) -> Plan:
    """The plan of the features that are about members."""
    values = {name: value for name, value in made.values.items() if "member" in value.feature.key}
    layouts = {group: layout for group, layout in made.layouts.items() if "member" in layout.key}
    return Plan(layouts, values, frozenset(topic for value in values.values() for topic in value.feature.sources))


def explained(made: Plan, log: Iterable[Arrived], member_id: str, among: Catalogue | None = None) -> list[Step]:
    """A step for each of the member's events, in the order of `log`, which is that of each partition. Other members' are left out."""
    engine, steps = Engine(of_members(made), among), list[Step]()
    packed: dict[tuple[str, str], tuple[bytes, bytes]] = {}
    for topic, event, arrived_ms in log:
        if topic not in engine.plan.topics or event.get("member_id") != member_id or event.get("marker"):
            continue
        counts = engine.counts.copy()
        rows = engine.take(topic, event, arrived_ms)
        notes = tuple(WHY[name] for name in WHY if engine.counts[name] > counts[name])
        changed = [change for one in rows for change in _changes(engine, *one, packed.get(one), arrived_ms)]
        packed |= {one: engine.packed(*one) for one in rows}
        changed.sort(key=lambda one: (one.value, one.about))
        steps.append(Step(topic, event, min(milliseconds(event["event_time"]), arrived_ms), arrived_ms, notes, tuple(changed)))
    return steps


def values(made: Plan, log: Iterable[Arrived], member_id: str, at_ms: int, among: Catalogue | None = None) -> dict[str, Any]:
    """What is known of the member alone at a time, by name."""
    engine = Engine(of_members(made), among)
    for topic, event, arrived_ms in log:
        if topic in engine.plan.topics and event.get("member_id") == member_id and arrived_ms < at_ms:
            engine.take(topic, event, arrived_ms)
    return engine.values({"member": member_id}, at_ms)


def _changes(engine: Engine, group: str, key: str, before: tuple[bytes, bytes] | None, at_ms: int) -> list[Change]:
    layout = engine.plan.layouts[group]
    rows = [before or nothing(layout), engine.packed(group, key)]
    told = evaluate(layout, engine.plan.of(group), rows, at_ms)
    was, now = as_mapping(told, 0), as_mapping(told, 1)
    about = ", ".join(part for part, entity in zip(key.split(BETWEEN), layout.key, strict=True) if entity != "member")
    return [Change(name, about, was[name], now[name]) for name in now if was[name] != now[name]]
