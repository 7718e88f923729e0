"""The consistency watch: values that were served, computed again from the log as it is stored, by the engine in Python, and compared.

    watch = Watch(warehouse.reader, clock.now_ms)
    for verdict in watch.round(): …

A row of the online table holds, of each partition that it has heard of, the first so many events. Which ones is not known to the last one,
because it was told while more were on their way; how many is (`taken`), and the newest (`clock`). So a served value is right if *some* set
of events that the log allows gives it: of each partition all but the last few, `taken` in all. That is exact, and leaves nothing to a
tolerance. If none does, the value differs: skew, of which there should be none.

Where it cannot be said, it is not: the log no longer holds a window's begin; or the row had not heard of so many events that there are too
many sets (MOST_SETS); or a partition is not stored so far yet. These are counted as undecided.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import orjson

from edge.feature_log import deployed
from edge.read_outs import Queries
from schemas.catalogue import Catalogue, Topic, catalogue
from schemas.recommendations.definition import DAY_MS, ENTITIES
from sinks.recommendations.training import counted, literal
from streams.recommendations.engine import BETWEEN, Engine
from streams.recommendations.plan import Plan, Value, plan
from streams.recommendations.tiles import HEAD, Row, as_mapping, evaluate

AHEAD_MS = 1_000
"""An event that arrived so much after it was asked may be in the row: clocks of two machines differ."""
BEHIND_MS = 10_000
"""Where events that no window reaches have left the log, a row is taken to have heard of all that arrived so long before."""
ORDERED_MS = 5_000
"""An event may stand in its partition behind one that was told so much after it: its producer tried again."""
MOST_SETS = 4_000
SETTLED_MS = 20_000
"""Values served so long ago are looked at: by then everything that had arrived is stored."""
COUNTED = ("compared", "skewed", "undecided")
A_ROUND = 200
"""Rows of a round at most, drawn from those that were served since the one before."""


class Stored(NamedTuple):
    """One event of the log that counts: its topic and partition, its fields, the time that it counts at, when it arrived."""

    topic: str
    partition: int
    event: Mapping[str, Any]
    at_ms: int
    arrived_ms: int


@dataclass(frozen=True)
class Served:
    """One `recommendations.feature_served`: values as JSON, times in ms."""

    group: str
    entity: str
    layout: str
    at_ms: int
    clock_ms: int
    taken: int
    values: Mapping[str, str]


@dataclass(frozen=True)
class Verdict:
    """What came of one served row: `agree`, `undecided` count values; `differ`: (value, served, recomputed), in JSON."""

    served: Served
    agree: int = 0
    undecided: int = 0
    differ: tuple[tuple[str, str, str], ...] = ()
    arrived: int = 0


def judge(
    made: Plan,
    served: Served,
    log: Iterable[Stored],
    since_ms: int | None = None,
    until_ms: int | None = None,
    among: Catalogue | None = None,
) -> Verdict:
    """Whether the log allows what was served. `log`: the events that count, of this entity at least, each partition's in order.

    The log holds what arrived from `since_ms` (None: from the first event on) to `until_ms` (None: everything).
    """
    layout = made.layouts.get(served.group)
    if layout is None or layout.id != served.layout:
        return Verdict(served, undecided=len(served.values))  # of another plan than the one that is known here
    values = [made.values[name] for name in served.values if name in made.values and made.values[name].group == served.group]
    known = [one for one in values if since_ms is None or since_ms <= served.at_ms - one.window.length_ms - one.window.hop_ms]
    left = len(served.values) - len(known)
    if not known:
        return Verdict(served, undecided=left)
    sets = _Sets(made.only(served.group), served, log, since_ms is None, among)
    wanted = {one.name: orjson.loads(served.values[one.name]) for one in known}
    for row in islice(sets.rows(), MOST_SETS):
        clock_ms, _ = HEAD.unpack_from(row[0])
        if max(clock_ms, 0) == served.clock_ms and _told(layout, known, row, served.at_ms) == wanted:
            return Verdict(served, agree=len(known), undecided=left, arrived=sets.arrived)
    if sets.many > MOST_SETS or not sets.certain(until_ms):
        return Verdict(served, undecided=len(served.values), arrived=sets.arrived)
    all_of_it = _told(layout, known, sets.whole(), served.at_ms)
    differ = [(name, served.values[name], orjson.dumps(all_of_it[name]).decode()) for name in wanted if all_of_it[name] != wanted[name]]
    return Verdict(served, agree=len(known) - len(differ), undecided=left, differ=tuple(differ), arrived=sets.arrived)


def _told(layout: Any, values: Sequence[Value], row: tuple[bytes, bytes], at_ms: int) -> dict[str, Any]:
    """Values as they are read back from JSON."""
    told: dict[str, Any] = orjson.loads(orjson.dumps(as_mapping(evaluate(layout, values, [row], at_ms), 0)))
    return told


class _Sets:
    """The rows of the sets of events that a served row may have been of, the fullest first."""

    def __init__(self, made: Plan, served: Served, log: Iterable[Stored], whole: bool, among: Catalogue | None) -> None:
        self._served, self._engine = served, Engine(made, among)
        (self._layout,) = made.layouts.values()
        self._key = (served.group, served.entity)
        lanes: dict[tuple[str, int], list[Stored]] = defaultdict(list)
        for one in log:
            if one.arrived_ms <= served.at_ms + AHEAD_MS and self._key in self._engine.count(one.topic, one.event, one.at_ms):
                lanes[one.topic, one.partition].append(one)
        self._lanes = list(lanes.values())
        self.arrived = sum(map(len, self._lanes))
        self._missing = self.arrived - served.taken if whole else None
        if self._missing is not None:
            self._tails = [min(len(lane), max(self._missing, 0)) for lane in self._lanes]
        else:
            self._tails = [sum(one.arrived_ms >= served.at_ms - BEHIND_MS for one in lane) for lane in self._lanes]
        self._base = self._with(Row(self._layout).pack(), [lane[: len(lane) - n] for lane, n in zip(self._lanes, self._tails, strict=True)])

    @property
    def many(self) -> int:
        """How many sets there are; those of more than MOST_SETS are not counted to the end."""
        return sum(1 for _ in islice(_left_out(self._tails, self._missing), MOST_SETS + 1))

    def certain(self, until_ms: int | None) -> bool:
        """Whether one of the sets must give what was served: no partition of the log is behind it, nor it further behind than is looked."""
        if until_ms is not None and until_ms < self._served.at_ms + ORDERED_MS:
            return False
        if self._missing is not None:
            return True
        least, most = (HEAD.unpack_from(row[0])[0] for row in (self._base, self.whole()))
        return bool(least <= self._served.clock_ms <= most)

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """A row for each set."""
        for left_out in _left_out(self._tails, self._missing):
            parts = [lane[len(lane) - tail : len(lane) - n] for lane, tail, n in zip(self._lanes, self._tails, left_out, strict=True)]
            yield self._with(self._base, parts)

    def whole(self) -> tuple[bytes, bytes]:
        """The row of everything that had arrived."""
        return self._with(self._base, [lane[len(lane) - tail :] for lane, tail in zip(self._lanes, self._tails, strict=True)])

    def _with(self, row: tuple[bytes, bytes], parts: Iterable[Sequence[Stored]]) -> tuple[bytes, bytes]:
        engine, (group, key) = self._engine, self._key
        engine.rows[group] = {key: Row.unpack(self._layout, *row)}
        for part in parts:
            for one in part:
                engine.count(one.topic, one.event, one.at_ms)
        return engine.packed(group, key)


def _left_out(tails: Sequence[int], missing: int | None) -> Iterator[tuple[int, ...]]:
    """How many of each tail are left out: `missing` together, or any number; the fewest first where any number may be."""
    if missing is not None and not 0 <= missing <= sum(tails):
        return
    if not tails:
        yield ()
        return
    first, *others = tails
    for n in range(first + 1):
        if missing is None:
            yield from ((n, *rest) for rest in _left_out(others, None))
        else:
            yield from ((n, *rest) for rest in _left_out(others, missing - n))


@dataclass
class Watch:
    """Looks at what was served, round by round. `reader` makes a read-only warehouse client, `now_ms` tells the time."""

    reader: Callable[[], Queries]
    now_ms: Callable[[], int]
    plan_of: Callable[[Queries], Plan] = field(default=lambda client: plan(deployed(client)))
    among: Catalogue = field(default_factory=catalogue)
    most: int = A_ROUND
    _seen_ms: int | None = None
    made: Plan = field(default_factory=lambda: plan([]))
    _client: Queries | None = None

    def round(self) -> list[Verdict]:
        """Verdicts on rows that were served since the last round, the first time in the last minute. Raises clickhouse_connect's errors."""
        until = self.now_ms() - SETTLED_MS
        since, self._seen_ms = self._seen_ms or until - 60_000, until
        if self._client is None:
            self._client = self.reader()
        self.made = self.plan_of(self._client)
        served = list(_served(self._client, since, until, self.most))
        by_group: dict[str, list[Served]] = defaultdict(list)
        for one in served:
            by_group[one.group].append(one)
        verdicts = []
        for group, some in by_group.items():
            if group not in self.made.layouts:
                verdicts += [Verdict(one, undecided=len(one.values)) for one in some]
                continue
            log, since_ms, until_ms = self._log(group, some)
            verdicts += [judge(self.made, one, log.get(one.entity, ()), since_ms, until_ms, self.among) for one in some]
        return verdicts

    def _log(self, group: str, some: Sequence[Served]) -> tuple[dict[str, list[Stored]], int | None, int]:
        """The events of some entities, by entity; from when (None: from the first) to when the log holds all, of topics that were told."""
        made, found = self.made.only(group), defaultdict[str, list[Stored]](list)
        probe, since, until = Engine(made, self.among), list[int | None](), list[int]()
        wanted, client = {one.entity for one in some}, self._client
        assert client is not None
        for name in sorted(made.topics):
            topic = self.among.topic(name)
            begin_ms, whole, end_ms = _held(client, topic)
            # What Kafka has let go, a job that reads the log again does not count: only where nothing is so old is `taken` of all of it.
            since.append(None if whole and begin_ms >= end_ms - topic.retention_days * DAY_MS else begin_ms)
            if end_ms:
                until.append(end_ms)
            for one in _stored(client, topic, self._about(topic, group, wanted), max(one.at_ms for one in some) + AHEAD_MS):
                for _, entity in probe.count(one.topic, one.event, one.at_ms):
                    if entity in wanted:
                        found[entity].append(one)
        begins = [ms for ms in since if ms is not None]
        return found, max(begins, default=None), min(until, default=0)

    def _about(self, topic: Topic, group: str, entities: Iterable[str]) -> str:
        """The condition that an event may be about one of these entities."""
        types = {field["name"]: field["type"] for field in topic.event.fields}
        parts = zip(*(entity.split(BETWEEN) for entity in entities), strict=True)
        asked = []
        for entity, names in zip(self.made.layouts[group].key, parts, strict=True):
            name, told = ENTITIES[entity], ", ".join(sorted({literal(one) for one in names}))
            asked.append(f"hasAny({name}, [{told}])" if isinstance(types[name], Mapping) else f"{name} IN ({told})")
        return " AND ".join(asked)


def _served(client: Queries, since_ms: int, until_ms: int, most: int) -> Iterator[Served]:
    found = client.query(
        "SELECT group, entity, layout, toUnixTimestamp64Milli(event_time), toUnixTimestamp64Milli(clock), taken, values\n"
        "FROM recommendations_feature_served\n"
        "WHERE NOT marker AND event_time > fromUnixTimestamp64Milli({since:Int64})\n"
        "  AND event_time <= fromUnixTimestamp64Milli({until:Int64})\n"
        "ORDER BY cityHash64(event_id) LIMIT {most:UInt32}",
        {"since": since_ms, "until": until_ms, "most": most},
    )
    for row in found.result_rows:
        yield Served(*row)


def _held(client: Queries, topic: Topic) -> tuple[int, bool, int]:
    """From when to when the table holds the topic's events, of every partition, and whether that is from its first event on."""
    found = client.query(
        "SELECT max(first), toUnixTimestamp64Milli(min(since)), toUnixTimestamp64Milli(min(until)) FROM (\n"
        "SELECT topic_partition, min(topic_offset) AS first, min(topic_time) AS since, max(topic_time) AS until\n"
        f"FROM {topic.table} GROUP BY topic_partition)"
    ).result_rows
    first, since_ms, until_ms = found[0] if found else (0, 0, 0)
    return int(since_ms), not first, int(until_ms)


def _stored(client: Queries, topic: Topic, about: str, until_ms: int) -> Iterator[Stored]:
    """The topic's events that count, of keys that have one that is about some entities: those of them that are."""
    among = (
        f"topic_time <= fromUnixTimestamp64Milli(toInt64({until_ms})) AND\n"
        f"{topic.key} IN (SELECT {topic.key} FROM {topic.table} WHERE NOT marker AND {about})"
    )
    names = [one["name"] for one in topic.event.fields]
    found = client.query(
        f"SELECT topic_partition, at, arrived_ms, {', '.join(names)} FROM (\n{counted(topic, among)}\n)\n"
        f"WHERE {about} ORDER BY topic_partition, topic_offset"
    )
    for partition, at_ms, arrived_ms, *told in found.result_rows:
        yield Stored(topic.name, int(partition), dict(zip(names, told, strict=True)), int(at_ms), int(arrived_ms))


def totals(verdicts: Iterable[Verdict]) -> dict[str, Counter[str]]:
    """By group how many values were `compared`, were `skewed` among them, and were `undecided`."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for one in verdicts:
        counts = {"compared": one.agree + len(one.differ), "skewed": len(one.differ), "undecided": one.undecided}
        found[one.served.group].update(counts)
    return found


def events(verdict: Verdict) -> Iterator[dict[str, Any]]:
    """`recommendations.feature_skew` of each value that differs."""
    served = verdict.served
    for name, told, recomputed in verdict.differ:
        yield {
            "value": name, "group": served.group, "entity": served.entity, "served": told, "recomputed": recomputed,
            "taken": served.taken, "arrived": verdict.arrived,
        }  # fmt: skip
