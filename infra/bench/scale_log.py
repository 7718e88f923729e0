"""The log of `scale`: definitions, exposures and measurements, made in bulk.

One event is encoded by its contract, and copied; what differs between events is written over the copies, column by column. So everything
that varies has one length: numbers of members and events have their digits, and values of metrics two bytes, from 64 to 8,191, which is
their floor and cap (a proportion's one: 0 or 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.base import kafka
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from infra.bench.harness import ends
from schemas.allocation.definition import Experiment, Metric
from schemas.catalogue import catalogue
from schemas.codec import Encoder
from schemas.publish import subject_of
from schemas.wire import long_bytes, string_bytes
from streams.experiments.batch import DAY_MS, Counted
from streams.experiments.counted import counted

START_MS = 20_700 * DAY_MS
EXPOSURES, MEASUREMENTS, CHANGES = "experiments.exposure", "experiments.measurement", "experiments.change"
KINDS = ("sum", "count", "mean", "proportion", "ratio")
DEVICES = ("tv", "phone", "web")
ARMS = ("control", "variant")
FLOOR, CAP = 64, 8_191
AT_ONCE = 50_000
"""Events made in memory together."""
MEMBER_DIGITS, EVENT_DIGITS, EXPERIMENT_DIGITS = 7, 8, 4

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """How much of everything. `of_a_member`: experiments that each is in, one of each of so many namespaces; the first `without_effect` are
    A/A, the others add `lift`.
    """

    members: int
    measurements: int
    experiments: int
    of_a_member: int
    without_effect: int
    lift: float
    metrics: int
    days: int

    @cached_property
    def defined(self) -> list[Metric]:
        """Its metrics, of all kinds in turn."""
        return [Metric.model_validate(self._metric(f"metric_{n}", KINDS[n % len(KINDS)])) for n in range(self.metrics)]

    def _metric(self, key: str, kind: str) -> dict[str, Any]:
        span_s = self.days * DAY_MS // 1000
        below = {"denominator": "played_ms"} if kind == "ratio" else {}
        return {
            "kind": "metric", "key": key, "owner": "bench", "about": "Of the benchmark `scale`.", "unit": "ms", "better": "lower",
            "topic": "playback.qoe_session", "field": "played_ms", **below, "aggregation": kind, "window_s": span_s, "covariate_s": span_s,
        }  # fmt: skip

    @cached_property
    def counted(self) -> list[Counted]:
        """Its metrics as they are counted."""
        return counted(self.defined)

    @cached_property
    def names(self) -> dict[str, bool]:
        """What is measured each time, and whether that is of a proportion."""
        return {
            name: one.aggregation == "proportion"
            for one in self.counted
            for name in (one.key, *([f"{one.key}/below"] if one.aggregation == "ratio" else []))
        }

    def key(self, experiment: int) -> str:
        """An experiment's key."""
        return f"experiment_{experiment:0{EXPERIMENT_DIGITS}}"

    def definitions(self) -> Iterator[dict[str, Any]]:
        """Events of experiments.change: every metric and experiment."""
        metrics = [one.key for one in self.defined]
        for one in self.defined:
            yield _change("metric", one.key, one.model_dump_json(exclude_unset=True))
        for number in range(self.experiments):
            document = {
                "kind": "experiment", "key": self.key(number), "owner": "bench", "about": "Of the benchmark `scale`.", "flag": "scale",
                "unit": "member_id", "phase": 1, "state": "running", "metrics": metrics, "segments": {"device_type": list(DEVICES)},
                "variations": [{"key": key, "weight": 0.5, "value": key} for key in ARMS],
            }  # fmt: skip
            yield _change("experiment", self.key(number), Experiment.model_validate(document).model_dump_json(exclude_unset=True))

    def met(self, seed: int, first: int, count: int) -> tuple[Numbers, Numbers]:
        """Experiments of so many members from the first on, and which of the two variations: members × of_a_member."""
        chance = np.random.default_rng((seed, self.experiments, first))
        namespaces = np.arange(self.of_a_member)
        slots = self.experiments // self.of_a_member
        return namespaces * slots + chance.integers(0, slots, (count, len(namespaces))), chance.integers(0, 2, (count, len(namespaces)))

    def exposed_ms(self, members: Numbers) -> Numbers:
        """When members are exposed: on the second day, in order of their numbers."""
        return START_MS + DAY_MS + members * DAY_MS // self.members


def _change(kind: str, key: str, document: str) -> dict[str, Any]:
    return _envelope(f"{kind}/{key}", START_MS) | {
        "item": f"{kind}/{key}", "kind": kind, "key": key, "version": 1, "action": "PUBLISH", "document": document, "author": "bench",
    }  # fmt: skip


def _envelope(event_id: str, at_ms: int) -> dict[str, Any]:
    return {"event_id": event_id, "event_time": at_ms, "producer_id": "scale", "epoch": 0, "seq": 0}


class Copies:
    """Copies of one encoded event, to be written over."""

    def __init__(self, event: bytes, count: int) -> None:
        self.event = event
        self.bytes: Bytes = np.tile(np.frombuffer(event, np.uint8), (count, 1))

    def after(self, before: bytes, occurrence: int = 0) -> int:
        """Where in the event begins what follows these bytes. Raises ValueError."""
        at = -1
        for _ in range(occurrence + 1):
            at = self.event.index(before, at + 1)
        return at + len(before)

    def digits(self, at: int, numbers: Numbers, count: int) -> None:
        """Write decimal numbers with leading zeros."""
        for place in range(count):
            self.bytes[:, at + place] = 48 + numbers // 10 ** (count - 1 - place) % 10

    def longs(self, at: int, numbers: Numbers, length: int) -> None:
        """Write Avro's longs, none negative, all of this length."""
        left = numbers << 1
        for place in range(length):
            self.bytes[:, at + place] = (left >> 7 * place & 0x7F) | (0x80 if place < length - 1 else 0)


def exposures(world: World, seed: int, encode: Encoder) -> Iterator[tuple[Bytes, int, Numbers]]:
    """Framed events, where in them the unit stands, and times in ms. One a member, to all its experiments."""
    for first in range(0, world.members, AT_ONCE):
        every = np.arange(first, min(first + AT_ONCE, world.members))
        experiments, arms = world.met(seed, first, len(every))
        for device, name in enumerate(DEVICES):
            chosen = every % len(DEVICES) == device
            members = every[chosen]
            at_ms = world.exposed_ms(members)
            copies, unit = _copies(encode, len(members), {
                "variations": {f"{world.key(n)}.1": ARMS[0] for n in range(world.of_a_member)}, "segments": {"device_type": name},
            })  # fmt: skip
            copies.digits(copies.after(string_bytes("0" * EVENT_DIGITS)) - EVENT_DIGITS, members, EVENT_DIGITS)
            copies.digits(unit + len("member-"), members, MEMBER_DIGITS)
            copies.longs(copies.event.index(long_bytes(START_MS)), at_ms, len(long_bytes(START_MS)))
            for n in range(world.of_a_member):
                at = copies.after(b"experiment_", n)
                copies.digits(at, experiments[chosen, n], EXPERIMENT_DIGITS)
                arm = at + EXPERIMENT_DIGITS + len(".1") + 1
                words = np.frombuffer("".join(ARMS).encode(), np.uint8).reshape(len(ARMS), -1)
                copies.bytes[:, arm : arm + words.shape[1]] = words[arms[chosen, n]]
            yield copies.bytes, unit, at_ms


def measurements(world: World, seed: int, encode: Encoder) -> Iterator[tuple[Bytes, int, Numbers]]:
    """The same of measurements, in order of time over all days, of members as busy as they are. Values are about a level of the member's,
    higher by its experiments' effects once it is exposed.
    """
    chance = np.random.default_rng((seed, 1))
    levels = chance.lognormal(6, 0.7, world.members).astype(np.float32)
    busy = np.cumsum(chance.gamma(2, 1, world.members))
    lifts = np.concatenate([
        (1 + world.lift) ** (arms * (experiments >= world.without_effect)).sum(axis=1)
        for first in range(0, world.members, AT_ONCE)
        for experiments, arms in [world.met(seed, first, min(AT_ONCE, world.members - first))]
    ]).astype(np.float32)  # fmt: skip
    for first in range(0, world.measurements, AT_ONCE):
        numbers = np.arange(first, min(first + AT_ONCE, world.measurements))
        members = np.minimum(np.searchsorted(busy, chance.random(len(numbers)) * busy[-1]), world.members - 1)
        at_ms = START_MS + numbers * (world.days * DAY_MS) // world.measurements
        level = levels[members] * np.where(at_ms >= world.exposed_ms(members), lifts[members], np.float32(1))
        copies, unit = _copies(encode, len(numbers), {
            "source": "playback.qoe_session", "measurement_id": "0" * EVENT_DIGITS, "version": 1,
            "measured": {name: 0 if yes_or_no else FLOOR for name, yes_or_no in world.names.items()},
        })  # fmt: skip
        copies.digits(unit + len("member-"), members, MEMBER_DIGITS)
        for occurrence in range(2):  # event_id and measurement_id
            copies.digits(copies.after(string_bytes("0" * EVENT_DIGITS), occurrence) - EVENT_DIGITS, numbers, EVENT_DIGITS)
        copies.longs(copies.event.index(long_bytes(START_MS)), at_ms, len(long_bytes(START_MS)))
        for name, yes_or_no in world.names.items():
            at = copies.after(string_bytes(name))
            if yes_or_no:
                copies.longs(at, (chance.random(len(numbers), np.float32) < level / 20_000).astype(np.int64), 1)
            else:
                noise = np.exp(0.5 * chance.standard_normal(len(numbers), np.float32))
                copies.longs(at, np.clip(level * noise, FLOOR, CAP).astype(np.int64), 2)
        yield copies.bytes, unit, at_ms


def _copies(encode: Encoder, count: int, fields: dict[str, Any]) -> tuple[Copies, int]:
    """Copies of an event with these fields, and where in it the unit stands."""
    unit = "member-" + "0" * MEMBER_DIGITS
    copies = Copies(encode(_envelope("0" * EVENT_DIGITS, START_MS) | {"unit": unit, "unit_name": "member_id"} | fields), count)
    return copies, copies.after(unit.encode()) - len(unit)


def put(topic: str, blocks: Iterator[tuple[Bytes, int, Numbers]]) -> int:
    """Write events by their units; returns how many. Blocks until they are stored."""
    producer = kafka.producer(linger_ms=100, batch_size=1_000_000, queue_buffering_max_messages=500_000)
    name, length = settings().topic(topic), len("member-") + MEMBER_DIGITS
    before, count = ends([topic])[topic], 0
    for copies, unit, at_ms in blocks:
        data, width = copies.tobytes(), copies.shape[1]
        for begin, at in zip(range(0, len(data), width), at_ms.tolist(), strict=True):
            while True:
                try:
                    producer.produce(name, data[begin : begin + width], data[begin + unit : begin + unit + length], timestamp=at)
                    break
                except BufferError:
                    producer.poll(0.1)
        count += len(copies)
    producer.flush(300)
    if (stored := ends([topic])[topic] - before) != count:
        raise AssertionError(f"{stored:,} of {count:,} events of {topic} were stored")
    return count


def put_each(topic: str, events: Sequence[Mapping[str, Any]], key: str) -> None:
    """Write some events one by one."""
    producer, encode = kafka.producer(), encoder(topic)
    for event in events:
        producer.produce(settings().topic(topic), encode(event), key=event[key].encode(), timestamp=event["event_time"])
    if left := producer.flush(60):
        raise AssertionError(f"{left} events of {topic} were not stored")


def encoder(topic: str) -> Encoder:
    """Of a topic whose contract is registered."""
    declared = catalogue().topic(topic)
    return Encoder(declared.event, RegistryClient().lookup(subject_of(declared), declared.event.schema))
