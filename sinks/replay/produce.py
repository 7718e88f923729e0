"""Put a recorded log back onto topics: same keys, partitions, timestamps, headers and bodies; order kept within each partition.

The log is played in slices of log time, so partitions and topics advance together: in step with the clock at a chosen speed, or
as fast as Kafka takes them. Only the schema id in the framing changes, to that of the same schema in the target's registry.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from infra.base import kafka
from infra.base.clock import Clock, WallClock
from infra.base.registry import RegistryClient, RegistryError
from infra.base.settings import Settings, settings
from schemas.catalogue import Catalogue, Topic, catalogue
from schemas.codec import HEADER
from schemas.envelope import fingerprint
from sinks.archive.layout import RecordedLog, plain_headers

SLICE_RECORDS = 20_000
"""As fast as it goes, a slice of log time holds about so many records: partitions never run further apart."""
SLICE_MS = 50
"""At a chosen speed, a slice is so much wall-clock time."""
BATCH_ROWS = 20_000
POLL_EVERY = 5_000
DAY_MS = 86_400_000

Progress = Callable[[int, int], None]
"""Called with records sent or skipped, and records in the selection."""


class CannotReplay(Exception):
    """The replay cannot begin or go on; the message says why and what to do."""


@dataclass(frozen=True)
class Replayed:
    """What a replay did. `skipped` records were there already from an interrupted one; `unknown_schema` went on unchanged."""

    namespace: str
    records: int
    skipped: int
    seconds: float
    complete: bool
    unknown_schema: int
    topics: dict[str, int] = field(default_factory=dict)

    @property
    def events_per_s(self) -> float:
        """Records acknowledged per second of replay."""
        return self.records / self.seconds if self.seconds else 0.0


def source_topics(known: Catalogue, names: Sequence[str]) -> list[str]:
    """Those of `names` that sources write: what jobs, guard and loader write comes into being again when they run on the sources."""
    return [
        name for name in names
        if name in known.topics and not any(p.startswith(("streams.", "sinks.")) for p in known.topics[name].producers)
    ]  # fmt: skip


def replay(
    path: Path,
    *,
    namespace: str | None,
    speed: float | None = None,
    topics: Sequence[str] = (),
    from_ms: int | None = None,
    to_ms: int | None = None,
    begin_ms: int | None = None,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, total: None,
    read: Callable[[], object] = lambda: None,
    clock: Clock | None = None,
) -> Replayed:
    """Replay the log at `path` into `namespace`, or into this process's own topics where that is None.

    `speed` is log seconds per second, None as fast as it goes; `topics` defaults to the recorded source topics; `from_ms` and `to_ms`
    select by topic timestamp. With a speed no record goes before it is due; the first is due at `begin_ms` by the clock, or now, and
    what is overdue goes at once. `read` is called, with everything acknowledged, before each further UTC day of the log: where it waits
    until all of it was read, nobody reads one partition more than a day before another. Target topics must be empty, or with `resume` hold
    the beginning of this same selection. Blocks until everything is acknowledged. Raises CannotReplay, Damaged, FileNotFoundError,
    RegistryUnavailable, KafkaException.
    """
    if namespace is not None and not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", namespace):
        raise CannotReplay(f"namespace {namespace!r}: use lower-case letters, digits and underscores: it becomes part of a database's name")
    if speed is not None and speed <= 0:
        raise CannotReplay(f"speed {speed:g}: a speed is greater than 0; `max` is as fast as it goes")
    log = RecordedLog.open(path)
    chosen = _chosen(log, topics)
    target = settings() if namespace is None else settings().within(namespace)
    ids = _prepare(log, chosen, target, own=namespace is not None)
    cursors = [_Cursor(log, topic, p, from_ms or 0, to_ms or 2**62) for topic in chosen for p in range(log.partitions[topic])]
    there = _already_there(cursors, target, resume)
    return _Run(log, cursors, there, target, ids, stop, progress, read, clock or WallClock()).run(speed, begin_ms)


def _chosen(log: RecordedLog, topics: Sequence[str]) -> list[str]:
    if missing := set(topics) - set(log.partitions):
        raise CannotReplay(f"{log.path} holds no {', '.join(sorted(missing))}; it holds {', '.join(sorted(log.partitions)) or 'nothing'}")
    chosen = list(topics) or source_topics(catalogue(), sorted(log.partitions))
    if undeclared := [name for name in chosen if _declared(name) is None]:
        raise CannotReplay(f"{', '.join(undeclared)}: not declared in this installation; choose others with --topics")
    if not chosen:
        raise CannotReplay(
            f"{log.path} holds no source topic, only {', '.join(sorted(log.partitions)) or 'nothing'}; name some with --topics"
        )
    return chosen


def _declared(name: str) -> Topic | None:
    """The declaration of a topic or of the topic behind a door."""
    return catalogue().topics.get(name.removesuffix(".in"))


def _prepare(log: RecordedLog, chosen: Sequence[str], target: Settings, own: bool) -> dict[bytes, bytes]:
    """Create the target's topics and register the recorded schemas there; returns old framing → new framing."""
    declared = {name: topic for name in chosen if (topic := _declared(name)) is not None}
    if own:
        replication = target.kafka.replication
        kafka.ensure_topics([NewTopic(target.topic(n), log.partitions[n], replication, config=t.config(True)) for n, t in declared.items()])
    there = kafka.admin().list_topics(timeout=30).topics
    for name in declared:
        partitions = len(there[target.topic(name)].partitions) if target.topic(name) in there else 0
        if partitions < log.partitions[name]:
            raise CannotReplay(
                f"{target.topic(name)} has {partitions} partitions, the log {log.partitions[name]}: replay into a namespace of its own"
            )
    if not own:
        _refuse_expiring(log, declared, target)
    with RegistryClient() as registry:
        return _register(log, declared, target, registry)


def _register(log: RecordedLog, declared: dict[str, Topic], target: Settings, registry: RegistryClient) -> dict[bytes, bytes]:
    ids: dict[bytes, bytes] = {}
    for name, topic in declared.items():
        subject, contract = target.topic(topic.subject), topic.event.schema
        registry.set_level(subject, topic.compatibility)
        try:
            for old in sorted(log.ids.get(name, [])):
                if (schema := log.schemas[old]) is not None:
                    new = registry.register(subject, contract if schema == contract else schema)
                    ids[HEADER.pack(0, old)] = HEADER.pack(0, new)
            registry.register(subject, contract)
        except RegistryError as error:
            raise CannotReplay(f"{subject}: the registry refuses a recorded schema beside today's contract: {error}") from None
    return ids


def _refuse_expiring(log: RecordedLog, declared: dict[str, Topic], target: Settings) -> None:
    """Records older than a topic's retention would be deleted minutes after they were replayed."""
    now_ms = WallClock().now_ms()
    for name, topic in declared.items():
        oldest = min((s.from_ms for s in log.segments if s.topic == name), default=now_ms)
        if topic.cleanup == "delete" and not target.namespace and oldest < now_ms - topic.retention_days * 86_400_000:
            raise CannotReplay(
                f"{target.topic(name)} keeps {topic.retention_days:g} days and the log goes back {(now_ms - oldest) / 86_400_000:.1f}: "
                "Kafka would delete it at once; replay into a namespace, where nothing expires: --namespace NAME"
            )


class _Cursor:
    """One recorded partition, read forward. Records are ordered by offset; a record's time is the latest timestamp up to it."""

    def __init__(self, log: RecordedLog, topic: str, partition: int, from_ms: int, to_ms: int) -> None:
        self.topic, self.partition = topic, partition
        self._from_ms, self._to_ms = from_ms, to_ms
        self._batches = log.batches(topic, partition, BATCH_ROWS)
        self._latest = 0
        self._at = 0
        self._times = np.empty(0, np.int64)
        self._columns: list[list[Any]] = []
        self.ended = False
        self._next_batch()

    @property
    def next_ms(self) -> int:
        """Time of the next record; only while not `ended`."""
        return int(self._times[self._at])

    def until(self, end_ms: int) -> Iterator[list[list[Any]]]:
        """Records whose time is before `end_ms`, as columns: timestamps, keys, headers, payloads."""
        while not self.ended and self._times[self._at] < end_ms:
            stop = int(np.searchsorted(self._times, end_ms))
            yield [column[self._at : stop] for column in self._columns]
            self._move(stop)

    def skip(self, records: int) -> tuple[Any, Any] | None:
        """Pass over the first `records`; returns (key, payload) of the last of them, None where there are fewer."""
        last = None
        while records and not self.ended:
            stop = min(self._at + records, len(self._times))
            records -= stop - self._at
            last = (self._columns[1][stop - 1], self._columns[3][stop - 1])
            self._move(stop)
        return None if records else last

    def _move(self, to: int) -> None:
        self._at = to
        if to == len(self._times):
            self._next_batch()

    def _next_batch(self) -> None:
        for batch in self._batches:
            stamps = batch.column("timestamp_ms").to_numpy()
            wanted = np.flatnonzero((stamps >= self._from_ms) & (stamps < self._to_ms))
            if len(wanted):
                batch = batch if len(wanted) == len(batch) else batch.take(wanted)
                self._times = np.maximum(np.maximum.accumulate(stamps[wanted]), self._latest)
                self._latest = int(self._times[-1])
                self._columns = [_as_list(batch.column(name)) for name in ("timestamp_ms", "key", "headers", "payload")]
                self._at = 0
                return
        self.ended = True


def _as_list(column: pa.Array) -> list[Any]:
    """A column as Python objects. By way of numpy: pyarrow's own conversion costs a microsecond for each value."""
    if column.null_count == len(column):
        return [None] * len(column)
    if pa.types.is_nested(column.type):
        return [plain_headers(value) for value in column.to_pylist()]
    return column.to_numpy(zero_copy_only=False).tolist()  # type: ignore[no-any-return]


def _already_there(cursors: Sequence[_Cursor], target: Settings, resume: bool) -> int:
    """Pass over what an interrupted replay wrote; returns how much that was. Raises CannotReplay where something else is there."""
    consumer = kafka.consumer("replay", enable_partition_eof=True)
    try:
        total = 0
        for cursor in cursors:
            at = TopicPartition(target.topic(cursor.topic), cursor.partition)
            low, high = consumer.get_watermark_offsets(at, timeout=30)
            if high == 0:
                continue
            if not resume:
                raise CannotReplay(
                    f"{at.topic} is not empty ({high - low} records in partition {at.partition}): choose another namespace, "
                    "or --resume if they come from an interrupted replay of this log"
                )
            last = _record_at(consumer, at, high - 1)
            if low or not (recorded := cursor.skip(high)) or not _same(recorded, last):
                raise CannotReplay(
                    f"{at.topic}, partition {at.partition}, holds something else than the beginning of this log: choose another namespace"
                )
            total += high
        return total
    finally:
        consumer.close()


def _record_at(consumer: Consumer, at: TopicPartition, offset: int) -> Message | None:
    consumer.assign([TopicPartition(at.topic, at.partition, offset)])
    message = consumer.poll(30)
    return None if message is None or message.error() else message


def _same(recorded: tuple[Any, Any], found: Message | None) -> bool:
    """Key and body equal; the framing may have been rewritten."""
    key, payload = recorded
    if found is None or found.key() != key or (payload is None) != (found.value() is None):
        return False
    return payload is None or fingerprint(payload) == fingerprint(found.value())


class _Run:
    """One replay under way."""

    def __init__(
        self,
        log: RecordedLog,
        cursors: Sequence[_Cursor],
        skipped: int,
        target: Settings,
        ids: dict[bytes, bytes],
        stop: Callable[[], bool],
        progress: Progress,
        read: Callable[[], object],
        clock: Clock,
    ) -> None:
        self._cursors, self._skipped, self._target, self._ids = cursors, skipped, target, ids
        self._stop, self._progress, self._read, self._clock = stop, progress, read, clock
        self._rewrite = any(old != new for old, new in ids.items())
        self._unknown = {HEADER.pack(0, i) for i, schema in log.schemas.items() if schema is None}
        self._total = log.rows(sorted({c.topic for c in cursors}))
        self._last_ms = max((s.to_ms for s in log.segments), default=0)
        self._producer: Producer = kafka.producer(**{
            "delivery.report.only.error": True, "linger.ms": 20, "batch.size": 1 << 20, "batch.num.messages": 100_000,
            "queue.buffering.max.kbytes": 512 << 10,
        })  # fmt: skip
        self._failures: list[str] = []
        self._sent: Counter[str] = Counter()
        self._unknown_schema = 0

    def run(self, speed: float | None, begin_ms: int | None) -> Replayed:
        began = time.monotonic()
        started_ms = self._clock.now_ms() if begin_ms is None else begin_ms
        log_began = min((c.next_ms for c in self._cursors if not c.ended), default=0)
        width_ms = self._slice_ms(log_began) if speed is None else max(1, round(SLICE_MS * speed))
        day_over_ms = (log_began // DAY_MS + 1) * DAY_MS
        complete = True
        while live := [c for c in self._cursors if not c.ended]:
            first = min(c.next_ms for c in live)
            if first >= day_over_ms:
                self._acknowledged()
                self._read()
                day_over_ms = (first // DAY_MS + 1) * DAY_MS
            if speed is not None:
                self._wait(started_ms + (first + width_ms - log_began) / speed)
            if self._stop():
                complete = False
                break
            for cursor in live:
                for columns in cursor.until(min(first + width_ms, day_over_ms)):
                    self._send(cursor, columns)
            self._progress(self._skipped + self._sent.total(), self._total)
            self._check()
        self._acknowledged()
        return Replayed(
            self._target.namespace,
            self._sent.total(),
            self._skipped,
            time.monotonic() - began,
            complete,
            self._unknown_schema,
            dict(self._sent),
        )

    def _acknowledged(self) -> None:
        """Until everything that was sent is."""
        while left := self._producer.flush(1.0):
            self._check()
            self._progress(self._skipped + self._sent.total() - left, self._total)
        self._check()

    def _wait(self, due_ms: float) -> None:
        while (left_s := (due_ms - self._clock.now_ms()) / 1000) > 0 and not self._stop():
            self._producer.poll(0)
            self._clock.sleep(min(left_s, 0.5))

    def _slice_ms(self, log_began: int) -> int:
        return max(1, (self._last_ms - log_began) * SLICE_RECORDS // max(1, self._total))

    def _send(self, cursor: _Cursor, columns: list[list[Any]]) -> None:
        name, partition, produce = self._target.topic(cursor.topic), cursor.partition, self._producer.produce
        timestamps, keys, headers, payloads = columns
        if self._unknown:
            self._unknown_schema += sum(payload is not None and payload[:5] in self._unknown for payload in payloads)
        if self._rewrite:
            ids = self._ids
            payloads = [None if p is None else ids.get(p[:5], p[:5]) + p[5:] for p in payloads]
        failed = self._failed
        for number, (timestamp_ms, key, header, payload) in enumerate(zip(timestamps, keys, headers, payloads, strict=True)):
            while True:
                try:
                    produce(name, payload, key, partition, failed, timestamp=timestamp_ms, headers=header)
                    break
                except BufferError:
                    self._producer.poll(0.1)
                    self._check()
            if number % POLL_EVERY == 0:
                self._producer.poll(0)
        self._sent[cursor.topic] += len(payloads)

    def _failed(self, error: Any, message: Message) -> None:
        self._failures.append(f"{message.topic()}, partition {message.partition()}: {error}")

    def _check(self) -> None:
        if self._failures:
            raise CannotReplay(f"Kafka did not take {len(self._failures)} records, the first: {self._failures[0]}; continue with --resume")
