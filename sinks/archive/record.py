"""Record topics into a log directory: read-committed, resumable, nothing written over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.base import kafka
from infra.base.registry import RegistryClient, RegistryError
from infra.base.settings import settings
from schemas.catalogue import catalogue
from schemas.codec import BadFraming, schema_id_of
from sinks.archive.layout import RecordedLog, Row, SegmentWriter

GROUP_ROWS = 20_000
GROUP_BYTES = 8 << 20
"""A row group is written at either bound; with it the memory of a recording: one unwritten group per partition."""
SEGMENT_ROWS = 1_000_000
SEGMENT_S = 30.0
"""A segment is finished at either bound while following, so that a killed recording repeats this much at most."""

Progress = Callable[[int, int], None]
"""Called with records read and records to read; the latter is 0 while following, which has no end."""


class CannotRecord(Exception):
    """The recording cannot begin or go on; the message says why and what to do."""


@dataclass(frozen=True)
class Recording:
    """What a log holds after a recording, and how much this run read for it (records left out by time, and gaps, included)."""

    records: int
    read: int
    topics: int
    complete: bool
    seconds: float


@dataclass
class _Partition:
    """One partition being recorded: rows waiting for the next row group, and how far it has been read."""

    topic: str
    number: int
    end: int | None
    read_to: int
    rows: list[Row] = field(default_factory=list)
    prefixes: set[bytes] = field(default_factory=set)
    bytes: int = 0
    writer: SegmentWriter | None = None

    @property
    def done(self) -> bool:
        return self.end is not None and self.read_to >= self.end


def record(
    out: Path,
    *,
    topics: Sequence[str] = (),
    from_ms: int | None = None,
    to_ms: int | None = None,
    follow: bool = False,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, total: None,
) -> Recording:
    """Write what is on `topics` (declared names or doors; default: every declared topic that exists) into the directory `out`.

    Ends at the end offsets found at the start, or with `follow` when `stop` says so; stopped early it can be resumed. `from_ms` and
    `to_ms` select by topic timestamp, to_ms exclusive. Transactions that are open at the end are not part of it. Blocks.
    Raises CannotRecord, Damaged, RegistryUnavailable, KafkaException.
    """
    began = time.monotonic()
    consumer = kafka.consumer("archive", enable_partition_eof=True, queued_min_messages=500_000)
    registry = RegistryClient()
    try:
        log = _resumed(out, topics, from_ms, to_ms) if resume else _new(out, _existing(consumer, topics), from_ms, to_ms)
        partitions = _assign(consumer, log, follow)
        return _Run(consumer, registry, log, partitions, stop, progress).run(began)
    finally:
        registry.close()
        consumer.close()


def _new(out: Path, partitions: dict[str, int], from_ms: int | None, to_ms: int | None) -> RecordedLog:
    if out.exists():
        raise CannotRecord(f"{out} exists and is not written over: choose another name, or go on with an interrupted recording by --resume")
    out.mkdir(parents=True)
    log = RecordedLog(out, settings().namespace, {"from_ms": from_ms, "to_ms": to_ms, "ends": {}}, partitions)
    log.save()
    return log


def _resumed(out: Path, topics: Sequence[str], from_ms: int | None, to_ms: int | None) -> RecordedLog:
    try:
        log = RecordedLog.open(out)
    except FileNotFoundError as error:
        raise CannotRecord(f"nothing to resume: {error}") from None
    if log.complete:
        raise CannotRecord(f"{out} is complete: {log.rows()} records")
    if log.namespace != settings().namespace:
        raise CannotRecord(f"{out} was recorded in namespace {log.namespace!r}, this is {settings().namespace!r}")
    asked = {"topics": sorted(topics) or sorted(log.partitions), "from_ms": from_ms, "to_ms": to_ms}
    had = {"topics": sorted(log.partitions), "from_ms": log.selection["from_ms"], "to_ms": log.selection["to_ms"]}
    if asked != had:
        raise CannotRecord(f"{out} was begun with {had}, this asks for {asked}: resume with the same selection")
    log.sweep()
    return log


def _existing(consumer: Consumer, topics: Sequence[str]) -> dict[str, int]:
    """Partition counts of the topics to record. Raises CannotRecord where one that was asked for is not there."""
    doors = {t.door_name for t in catalogue().topics.values() if t.door}
    if unknown := set(topics) - set(catalogue().topics) - doors:
        raise CannotRecord(f"no topic {', '.join(sorted(unknown))} is declared; declared are: {', '.join(sorted(catalogue().topics))}")
    there = consumer.list_topics(timeout=30).topics
    found = {
        name: len(there[kafka_name].partitions) for name in topics or catalogue().topics if (kafka_name := settings().topic(name)) in there
    }
    if missing := set(topics) - set(found) or (set() if found else set(catalogue().topics)):
        raise CannotRecord(f"{', '.join(sorted(missing))}: not on {settings().kafka.bootstrap}; `headrace schema register` creates topics")
    return found


def _assign(consumer: Consumer, log: RecordedLog, follow: bool) -> dict[tuple[str, int], _Partition]:
    """Point the consumer at where each partition goes on; returns partitions by Kafka name and number."""
    partitions: dict[tuple[str, int], _Partition] = {}
    starts = []
    from_ms = log.selection["from_ms"]
    for topic, count in log.partitions.items():
        name = settings().topic(topic)
        ends = log.selection["ends"].setdefault(topic, {})
        for number in range(count):
            low, high = consumer.get_watermark_offsets(TopicPartition(name, number), timeout=30)
            start = log.read_to.get(topic, {}).get(number)
            if start is None and from_ms is not None:
                (found,) = consumer.offsets_for_times([TopicPartition(name, number, from_ms)], timeout=30)
                start = found.offset if found.offset >= 0 else high
            elif start is None:
                start = low
            elif start < low:
                raise CannotRecord(
                    f"{name}, partition {number}: offsets {start} to {low - 1} have expired since the interruption; begin a new recording"
                )
            end = None if follow else int(ends.setdefault(str(number), high))
            partitions[name, number] = _Partition(topic, number, end, start)
            log.read_to.setdefault(topic, {})[number] = start
            starts.append(TopicPartition(name, number, start if start > 0 else OFFSET_BEGINNING))
    log.save()
    consumer.assign([s for s in starts if not partitions[s.topic, s.partition].done])
    return partitions


class _Run:
    """One recording under way."""

    def __init__(
        self,
        consumer: Consumer,
        registry: RegistryClient,
        log: RecordedLog,
        partitions: dict[tuple[str, int], _Partition],
        stop: Callable[[], bool],
        progress: Progress,
    ) -> None:
        self._consumer, self._log, self._partitions = consumer, log, partitions
        self._stop, self._progress = stop, progress
        self._registry = registry
        self._from_ms = log.selection["from_ms"] or 0
        self._to_ms = log.selection["to_ms"] or 2**63
        self._open = {key for key, p in partitions.items() if not p.done}
        self._read = 0
        self._total = sum(p.end - p.read_to for p in partitions.values() if p.end is not None and not p.done)

    def run(self, began: float) -> Recording:
        cut = time.monotonic()
        while self._open and not self._stop():
            for message in self._consumer.consume(10_000, timeout=0.5):
                if (error := message.error()) is None:
                    self._take(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._reached(message.topic(), message.partition(), message.offset())
                elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:
                    raise KafkaException(error)
            self._progress(self._read, self._total)
            if time.monotonic() - cut > SEGMENT_S:
                self._finish_segments()
                cut = time.monotonic()
        self._finish_segments()
        following = any(p.end is None for p in self._partitions.values())
        self._log.complete = following or not self._open
        self._log.save()
        return Recording(self._log.rows(), self._read, len(self._log.partitions), self._log.complete, time.monotonic() - began)

    def _take(self, message: Message) -> None:
        key = (message.topic(), message.partition())
        partition = self._partitions[key]
        offset = message.offset()
        if partition.done:
            return  # a record that came after the end was read
        timestamp_ms = message.timestamp()[1]
        self._read += offset + 1 - partition.read_to
        partition.read_to = offset + 1
        if self._from_ms <= timestamp_ms < self._to_ms:
            payload = message.value()
            if payload is not None:
                partition.prefixes.add(payload[:5])
                partition.bytes += len(payload)
            partition.rows.append(Row(offset, timestamp_ms, message.key(), message.headers(), payload))
            if len(partition.rows) >= GROUP_ROWS or partition.bytes >= GROUP_BYTES:
                self._write(partition)
                if partition.writer and partition.writer.rows >= SEGMENT_ROWS:
                    self._finish_segments([partition])
        if partition.done:
            self._open.discard(key)

    def _reached(self, name: str, number: int, offset: int) -> None:
        """The partition's committed end: what is missing up to the end asked for are markers and open transactions."""
        partition = self._partitions[name, number]
        self._read += max(0, offset - partition.read_to)
        partition.read_to = max(partition.read_to, offset)
        if partition.end is not None:
            self._open.discard((name, number))

    def _write(self, partition: _Partition) -> None:
        if partition.rows:
            partition.writer = partition.writer or SegmentWriter(self._log.path, partition.topic, partition.number)
            partition.writer.write(partition.rows)
            partition.rows, partition.bytes = [], 0

    def _finish_segments(self, partitions: Sequence[_Partition] = ()) -> None:
        """Make everything read so far of some partitions, or of all, part of the log."""
        for partition in partitions or self._partitions.values():
            self._write(partition)
            if partition.writer is not None:
                self._log.segments.append(partition.writer.finish())
                partition.writer = None
            self._log.read_to[partition.topic][partition.number] = partition.read_to
            self._learn_schemas(partition)
        self._log.save()

    def _learn_schemas(self, partition: _Partition) -> None:
        ids = self._log.ids.setdefault(partition.topic, [])
        for prefix in partition.prefixes:
            try:
                schema_id = schema_id_of(prefix)
            except BadFraming:
                continue  # a record without schema is kept as it is
            if schema_id not in ids:
                ids.append(schema_id)
            if schema_id not in self._log.schemas:
                self._log.schemas[schema_id] = self._schema(schema_id)
        partition.prefixes.clear()

    def _schema(self, schema_id: int) -> dict[str, Any] | None:
        try:
            return self._registry.schema(schema_id)
        except RegistryError as error:
            if error.code == 404:
                return None
            raise
