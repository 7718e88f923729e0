"""From events to rows: which keys an event changes, and which events count at all. Pure; state is bounded, the clock is the events'.

    engine = Engine(plan(features()))
    for topic, event, arrived_ms in log: engine.take(topic, event, arrived_ms)
    engine.values({"member": "m-1"}, at_ms)

An event counts at its own time, or when it arrived where that is earlier: a clock that is ahead cannot reach into the future (`ahead`).
So nothing that a row holds is later than the time at which it is asked, and what had arrived by then is what was known then.

The door, in the order of the log and once per topic and its key, which all of a member's events pass in one partition:

- *Twice.* An event_id that was there within TWICE_MS before, by arrival, does not count (`twice`). A repeat after that counts again;
  producers do not retry for so long.
- *Too many.* Beyond MOST_A_DAY events of one key that arrived on one day (UTC) none counts (`beyond_most`): no member does so much. This is
  asked where a topic is keyed by a member or a session, and not where it is keyed by a title.

What a selection asks for may then still have no key (`no_key`), more than MOST_KEYS keys, a text that is too long (`too_long`), or a number
out of bounds (`out_of_bounds`): it is counted as that, and only there left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any

from schemas.catalogue import Catalogue, catalogue
from schemas.envelope import milliseconds
from schemas.recommendations.definition import (
    CAPPED,
    DAY_MS,
    ENTITIES,
    MOST_A_DAY,
    MOST_KEYS,
    MOST_NUMBER,
    MOST_TEXT_BYTES,
    TWICE_MS,
)
from streams.recommendations.plan import Layout, Plan, Predicate, Uses
from streams.recommendations.tiles import NEVER, Row, as_mapping, evaluate, nothing

BETWEEN = "\x1f"


class Door:
    """Which events of one topic's key count. Give them in the order of the log."""

    __slots__ = ("_day", "_seen", "_today", "clock")

    def __init__(self) -> None:
        self.clock = NEVER
        self._seen: dict[str, int] = {}
        """event_id → when it arrived last, in that order."""
        self._day, self._today = NEVER, 0

    def refusal(self, event_id: str, arrived_ms: int, capped: bool) -> str:
        """Why an event does not count; empty where it does."""
        self.clock = max(self.clock, arrived_ms)
        while self._seen and next(iter(self._seen.values())) < self.clock - TWICE_MS:
            del self._seen[next(iter(self._seen))]
        if self.clock // DAY_MS > self._day:
            self._day, self._today = self.clock // DAY_MS, 0
        if self._seen.pop(event_id, None) is not None:
            self._seen[event_id] = self.clock
            return "twice"
        if capped and self._today >= MOST_A_DAY:
            return "beyond_most"
        self._seen[event_id] = self.clock
        self._today += 1
        return ""


class Engine:
    """Rows of all keys, from events of all topics that a plan reads."""

    def __init__(self, plan: Plan, among: Catalogue | None = None) -> None:
        self.plan = plan
        self.rows: dict[str, dict[str, Row]] = {group: {} for group in plan.layouts}
        """By group and key."""
        self.counts: Counter[str] = Counter()
        """Events that counted (`taken`) and that did not, by reason."""
        self._keyed_by = {name: (among or catalogue()).topic(name).key for name in plan.topics}
        self._doors: dict[tuple[str, str], Door] = {}
        self._filters: dict[str, list[tuple[Predicate, list[tuple[Layout, str | None, Uses]]]]] = {
            name: _by_filter(plan.layouts.values(), name) for name in plan.topics
        }
        """By topic: each filter once, and what is changed where an event meets it."""

    def take(self, topic: str, event: Mapping[str, Any], arrived_ms: int) -> list[tuple[str, str]]:
        """One event of a topic that the plan reads, in the order of its partition; the rows that it changed, as (group, key).

        `event_time` in ms or as a datetime. Time markers change nothing.
        """
        if event.get("marker"):
            return []
        told_ms = milliseconds(event["event_time"])
        if told_ms > arrived_ms:
            self.counts["ahead"] += 1
        at_ms, field = min(told_ms, arrived_ms), self._keyed_by[topic]
        door = self._doors.setdefault((topic, str(event[field])), Door())
        if why := door.refusal(event["event_id"], arrived_ms, field in CAPPED):
            self.counts[why] += 1
            return []
        self.counts["taken"] += 1
        return self.count(topic, event, at_ms)

    def count(self, topic: str, event: Mapping[str, Any], at_ms: int) -> list[tuple[str, str]]:
        """One event that counts, at its time: what `take` does with those that pass the door."""
        values: dict[str | None, tuple[int | None, Sequence[str]]] = {None: (1, ())}
        rows: dict[str, list[tuple[str, Row]]] = {}
        changed: dict[tuple[str, str], Row] = {}
        for met_by, parts in self._filters[topic]:
            if not met_by(event):
                continue
            for layout, name, uses in parts:
                if name not in values:
                    values[name] = self._value(event.get(str(name)))
                number, texts = values[name]
                if number is None and not texts:
                    continue
                group = layout.group
                if group not in rows:
                    rows[group] = [(key, self._row(layout, key)) for key in self._keys(layout, event)]
                for key, row in rows[group]:
                    row.take(uses, at_ms, number, texts)
                    changed[group, key] = row
        for row in changed.values():
            row.taken += 1
        return list(changed)

    def _row(self, layout: Layout, key: str) -> Row:
        rows = self.rows[layout.group]
        row = rows.get(key)
        if row is None:
            row = rows[key] = Row(layout)
        return row

    def _value(self, told: Any) -> tuple[int | None, Sequence[str]]:
        """The number of a field, and its texts; (None, ()) where it is null or cannot be used."""
        if told is None:
            return None, ()
        if isinstance(told, int):
            if abs(told) > MOST_NUMBER:
                self.counts["out_of_bounds"] += 1
                return None, ()
            return told, (str(told),)
        texts = list(dict.fromkeys(told)) if isinstance(told, list) else [told]
        fitting = [text for text in map(str, texts) if text and len(text.encode()) <= MOST_TEXT_BYTES]
        self.counts["too_long"] += sum(1 for text in texts if len(str(text).encode()) > MOST_TEXT_BYTES)
        return None, fitting

    def _keys(self, layout: Layout, event: Mapping[str, Any]) -> Iterator[str]:
        parts = []
        for entity in layout.key:
            told = event.get(ENTITIES[entity])
            some = dict.fromkeys(told if isinstance(told, list) else [told])
            parts.append([one for one in some if one])
        if not all(parts):
            self.counts["no_key"] += 1
            return
        for key in islice(product(*parts), MOST_KEYS):
            if any(BETWEEN in part or len(part.encode()) > MOST_TEXT_BYTES for part in key):
                self.counts["too_long"] += 1
            else:
                yield BETWEEN.join(key)

    def packed(self, group: str, key: str) -> tuple[bytes, bytes]:
        """A key's row as bytes, that of nothing where it has none."""
        row = self.rows[group].get(key)
        return nothing(self.plan.layouts[group]) if row is None else row.pack()

    def values(self, about: Mapping[str, str], at_ms: int) -> dict[str, Any]:
        """Every value that is about these entities or some of them, at `at_ms`."""
        found: dict[str, Any] = {}
        for group, layout in self.plan.layouts.items():
            if all(entity in about for entity in layout.key):
                row = self.packed(group, BETWEEN.join(about[entity] for entity in layout.key))
                found |= as_mapping(evaluate(layout, self.plan.of(group), [row], at_ms), 0)
        return found


def _by_filter(layouts: Iterable[Layout], topic: str) -> list[tuple[Predicate, list[tuple[Layout, str | None, Uses]]]]:
    found: dict[tuple[tuple[str, str], ...], tuple[Predicate, list[tuple[Layout, str | None, Uses]]]] = {}
    for layout in layouts:
        for selection, uses in layout.uses.items():
            if topic in selection.sources:
                found.setdefault(selection.asked, (selection.met_by, []))[1].append((layout, selection.field, uses))
    return list(found.values())
