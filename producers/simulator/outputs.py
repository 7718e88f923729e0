"""Where simulated reports go: onto the backbone, into a recorded log, or into lines of JSON for golden tests.

All three write the same events; only who carries them differs. `mark` writes a time marker to every partition.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from producers.emit import Backpressure, Emitter
from producers.simulator.doings import TOPICS as DOINGS
from producers.simulator.experiments import TOPIC as EXPOSURE
from producers.simulator.experiments import Effects, Exposed
from producers.simulator.reports import Columns
from producers.simulator.world import World
from schemas.catalogue import Topic, catalogue
from schemas.codec import Decoder, Encoder
from schemas.columnar import ColumnEncoder
from schemas.envelope import Stamp, marker

TOPIC = "playback.report"
PRODUCER_ID = "simulator"
FILES = {EXPOSURE: "exposures", **{name: name.partition(".")[2] for name in DOINGS}}


def beside(exposes: bool, does: bool) -> tuple[str, ...]:
    """What an output writes to beside reports: of experiments, and of what members do."""
    return (*((EXPOSURE,) if exposes else ()), *(DOINGS if does else ()))


class ArrivalClock:
    """The simulated time of arrival, which becomes the Kafka timestamp; whoever emits sets it."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        """The arrival under way."""
        return self.at_ms

    def sleep(self, seconds: float) -> None:
        """Waiting moves simulated time only."""
        self.at_ms += round(seconds * 1000)


class Output(Protocol):
    """A place for reports. Closing it is part of its use: what it holds back is written then."""

    def put(self, rows: NDArray[Any], sessions: NDArray[Any]) -> None:
        """Write reports (reports.REPORT); `sessions` (audience.SESSION) has the session of each."""
        ...

    def expose(self, exposures: Sequence[Exposed]) -> None:
        """Write exposures and what members do, of topics that the output was made to write."""
        ...

    def mark(self, at_ms: int, event_time_ms: int) -> None:
        """At `at_ms`, say on every partition that the simulated clock has reached `event_time_ms`."""
        ...

    def __enter__(self) -> Output: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Writer:
    """Reports as framed events."""

    def __init__(self, world: World, schema_id: int) -> None:
        self._columns = Columns(world)
        self._encode = ColumnEncoder(catalogue().topic(TOPIC).event, schema_id)

    def __call__(self, rows: NDArray[Any], sessions: NDArray[Any], producer_id: str, epoch: int, first_seq: int) -> list[bytes]:
        """One event a report, with seqs from `first_seq` on."""
        if not len(rows):
            return []
        seqs: dict[str, Any] = {"seq": first_seq + np.arange(len(rows))}
        constants = self._columns.CONSTANTS | {"producer_id": producer_id, "epoch": epoch}
        return self._encode(len(rows), self._columns(rows, sessions) | seqs, constants)


def keys_of(sessions: NDArray[Any]) -> list[bytes]:
    """The key of each report: its sid."""
    keys: list[bytes] = np.ascontiguousarray(sessions["sid"]).view("S32").ravel().tolist()
    return keys


class ToKafka:
    """Onto the topic of this namespace. Waits when Kafka is slower than the simulation."""

    TILE = 4_096
    """Reports that are encoded together: they stay within a core's cache."""

    def __init__(self, world: World, emitter: Emitter, clock: ArrivalClock, more: Sequence[str] = ()) -> None:
        self.emitter = emitter
        self._clock = clock
        self._topics = (TOPIC, *more)
        self._write = Writer(world, emitter.schema_id(TOPIC))

    def put(self, rows: NDArray[Any], sessions: NDArray[Any]) -> None:
        """Queue reports. Raises what `Emitter.send_all` raises."""
        for at in range(0, len(rows), self.TILE):
            tile, of = rows[at : at + self.TILE], sessions[at : at + self.TILE]

            def write(epoch: int, first_seq: int, tile: NDArray[Any] = tile, of: NDArray[Any] = of) -> list[bytes]:
                return self._write(tile, of, self.emitter.producer_id, epoch, first_seq)

            self.emitter.send_all(TOPIC, keys_of(of), tile["at_ms"].tolist(), write)
            self.emitter.poll()

    def expose(self, exposures: Sequence[Exposed]) -> None:
        for one in exposures:
            self._clock.at_ms = one.at_ms
            while True:
                try:
                    self.emitter.send(
                        one.topic, one.event, event_time_ms=one.event_time, event_id=one.event_id, correlation_id=one.correlation_id
                    )
                    break
                except Backpressure:
                    self.emitter.poll(0.05)

    def mark(self, at_ms: int, event_time_ms: int) -> None:
        self._clock.at_ms = at_ms
        for topic in self._topics:
            self.emitter.mark(topic, event_time_ms, wait=True)
        self.emitter.poll()

    def __enter__(self) -> ToKafka:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.emitter.close(timeout_s=120)


def murmur2(keys: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Kafka's default hash of keys of one length, one a row (MurmurHash2, 32 bits, seed 0x9747b28c), as its Java client computes it, made
    non-negative."""
    size, m = keys.shape[1], np.uint32(0x5BD1E995)
    h = np.full(len(keys), 0x9747B28C ^ size, np.uint32)
    for at in range(0, size - 3, 4):
        k = np.ascontiguousarray(keys[:, at : at + 4]).view("<u4").ravel() * m
        h = (h * m) ^ ((k ^ (k >> np.uint32(24))) * m)
    if tail := size % 4:
        rest = np.zeros((len(keys), 4), np.uint8)
        rest[:, :tail] = keys[:, size - tail :]
        h = (h ^ rest.view("<u4").ravel()) * m
    h = (h ^ (h >> np.uint32(13))) * m
    return ((h ^ (h >> np.uint32(15))) & np.uint32(0x7FFFFFFF)).astype(np.int64)


@dataclass
class _Partition:
    """One partition of a recorded log that is being written."""

    topic: str
    number: int
    writer: pq.ParquetWriter
    scratch: Path
    rows: list[tuple[int, bytes | None, bytes]] = field(default_factory=list)  # timestamp, key, payload
    written: int = 0
    from_ms: int = 1 << 62
    to_ms: int = 0


class ToLog:
    """Into a recorded log that `headrace replay` reads: a directory of Parquet files and a `log.json` that names them.

    Refuses a directory that exists. A run that is cut short leaves no `log.json`, and so no log.
    """

    SCHEMA_ID = 1
    """Of reports; other topics have the next ones."""
    ROW_GROUP = 20_000
    COLUMNS = pa.schema(
        [
            pa.field("topic", pa.dictionary(pa.int32(), pa.string()), nullable=False),
            pa.field("partition", pa.int32(), nullable=False),
            pa.field("offset", pa.int64(), nullable=False),
            pa.field("timestamp_ms", pa.int64(), nullable=False),
            pa.field("key", pa.binary()),
            pa.field("headers", pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))),
            pa.field("payload", pa.binary()),
        ]
    )

    def __init__(self, world: World, path: Path, namespace: str, more: Sequence[str] = ()) -> None:
        self._path = path
        self._namespace = namespace
        self._topics: dict[str, Topic] = {name: catalogue().topic(name) for name in (TOPIC, *more)}
        self._ids = {name: self.SCHEMA_ID + at for at, name in enumerate(self._topics)}
        self._encoders = {name: Encoder(topic.event, self._ids[name]) for name, topic in self._topics.items()}
        self._write_all = Writer(world, self.SCHEMA_ID)
        self._stamp = Stamp(PRODUCER_ID, 1)
        try:
            for name in self._topics:
                (path / name).mkdir(parents=True)
        except FileExistsError:
            raise SystemExit(f"{path} holds something already: a log is never written over") from None
        self._partitions = {name: [self._open(name, number) for number in range(topic.partitions)] for name, topic in self._topics.items()}

    def _open(self, topic: str, number: int) -> _Partition:
        scratch = self._path / topic / f".{number}.writing"
        options = {"compression": "zstd", "write_page_checksum": True, "use_dictionary": ["topic", "key"]}
        return _Partition(topic, number, pq.ParquetWriter(scratch, self.COLUMNS, **options), scratch)

    def put(self, rows: NDArray[Any], sessions: NDArray[Any]) -> None:
        payloads = self._write_all(rows, sessions, PRODUCER_ID, self._stamp.epoch, self._stamp.next_seq(TOPIC))
        self._stamp.used(TOPIC, len(rows))
        partitions = self._partitions[TOPIC]
        numbers = (murmur2(sessions["sid"]) % len(partitions)).tolist()
        for number, at_ms, key, payload in zip(numbers, rows["at_ms"].tolist(), keys_of(sessions), payloads, strict=True):
            self._row(partitions[number], at_ms, key, payload)

    def expose(self, exposures: Sequence[Exposed]) -> None:
        for one in exposures:
            event = self._stamp(one.topic, one.event, one.event_time, one.event_id, one.correlation_id)
            key, partitions = str(event[self._topics[one.topic].key]).encode(), self._partitions[one.topic]
            place = int(murmur2(np.frombuffer(key, np.uint8)[None, :])[0]) % len(partitions)
            self._row(partitions[place], one.at_ms, key, self._encoders[one.topic](event))
            self._stamp.used(one.topic)

    def mark(self, at_ms: int, event_time_ms: int) -> None:
        for name, partitions in self._partitions.items():
            for partition in partitions:
                event = self._stamp(name, marker(self._topics[name].event), event_time_ms)
                self._row(partition, at_ms, str(event[self._topics[name].key]).encode(), self._encoders[name](event))
                self._stamp.used(name)

    def _row(self, partition: _Partition, timestamp_ms: int, key: bytes, payload: bytes) -> None:
        partition.rows.append((timestamp_ms, key, payload))
        if len(partition.rows) == self.ROW_GROUP:
            self._write(partition)

    def _write(self, partition: _Partition) -> None:
        rows, partition.rows = partition.rows, []
        if not rows:
            return
        timestamps, keys, payloads = zip(*rows, strict=True)
        size = len(rows)
        columns = [
            pa.DictionaryArray.from_arrays(pa.array([0] * size, pa.int32()), [partition.topic]),
            pa.array([partition.number] * size, pa.int32()),
            pa.array(range(partition.written, partition.written + size), pa.int64()),
            pa.array(timestamps, pa.int64()),
            pa.array(keys, pa.binary()),
            pa.nulls(size, self.COLUMNS.field("headers").type),
            pa.array(payloads, pa.binary()),
        ]
        partition.writer.write_table(pa.Table.from_arrays(columns, schema=self.COLUMNS))
        partition.written += size
        partition.from_ms, partition.to_ms = min(partition.from_ms, *timestamps), max(partition.to_ms, *timestamps)

    def __enter__(self) -> ToLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        segments = []
        for partition in (one for partitions in self._partitions.values() for one in partitions):
            self._write(partition)
            partition.writer.close()
            if not partition.written:
                partition.scratch.unlink()
                continue
            partition.scratch.rename(partition.scratch.with_name(f"{partition.number}-{0:019d}.parquet"))
            segments.append({
                "topic": partition.topic, "partition": partition.number, "first": 0, "last": partition.written - 1,
                "rows": partition.written,
                "from_ms": partition.from_ms, "to_ms": partition.to_ms,
            })  # fmt: skip
        if error is None:
            (self._path / "log.json").write_text(json.dumps(self._manifest(segments), indent=1))

    def _manifest(self, segments: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "format": 1,
            "namespace": self._namespace,
            "selection": {"topics": list(self._topics), "from_ms": None, "to_ms": None},
            "partitions": {name: len(partitions) for name, partitions in self._partitions.items()},
            "schemas": {str(self._ids[name]): topic.event.schema for name, topic in self._topics.items()},
            "ids": {name: [number] for name, number in self._ids.items()},
            "segments": segments,
            "read_to": {
                name: {str(partition.number): partition.written for partition in partitions}
                for name, partitions in self._partitions.items()
            },
            "complete": True,
        }


class ToLines:
    """Into a file of JSON lines, one event a line, absent fields left out; markers too, once rather than per partition.

    Exposures go into `<name>.exposures.jsonl` beside it, what members do into `<name>.impression.jsonl`, `interaction` and `search`.
    """

    def __init__(self, world: World, path: Path, more: Sequence[str] = ()) -> None:
        try:
            self._files = {TOPIC: path.open("x")}
            self._files |= {name: path.with_suffix(f".{FILES[name]}.jsonl").open("x") for name in more}
        except FileExistsError as error:
            raise SystemExit(f"{error.filename} exists already: it is not written over") from None
        self._stamp = Stamp(PRODUCER_ID, 1)
        self._topic: Topic = catalogue().topic(TOPIC)
        self._write = Writer(world, 0)
        self._decode = Decoder(lambda _: self._topic.event.schema)

    def put(self, rows: NDArray[Any], sessions: NDArray[Any]) -> None:
        for framed in self._write(rows, sessions, PRODUCER_ID, self._stamp.epoch, self._stamp.next_seq(TOPIC)):
            event = self._decode(framed)
            event["event_time"] = round(event["event_time"].timestamp() * 1000)
            self._line(TOPIC, {name: value for name, value in event.items() if value is not None and value not in ([], {})})

    def expose(self, exposures: Sequence[Exposed]) -> None:
        for one in exposures:
            self._line(one.topic, self._stamp(one.topic, one.event, one.event_time, one.event_id, one.correlation_id))

    def mark(self, at_ms: int, event_time_ms: int) -> None:
        for name in self._files:
            self._line(name, self._stamp(name, marker(catalogue().topic(name).event), event_time_ms))

    def _line(self, topic: str, event: Mapping[str, Any]) -> None:
        self._files[topic].write(json.dumps(event, separators=(",", ":")) + "\n")
        self._stamp.used(topic)

    def __enter__(self) -> ToLines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in self._files.values():
            file.close()


class Truths:
    """The true figures of each session, in a file that no job sees: Parquet where its name says so, else JSON lines.

    What was wrong with the world, and when, stands beside it in `<name>.faults.json`, in ms since 1970; what experiments truly did, in
    `<name>.effects.json`: means over the sessions in the experiment if all of them had its first variation, and if all had this one.
    """

    def __init__(self, path: Path, world: World, start_ms: int) -> None:
        self._path = path
        self._parquet: pq.ParquetWriter | None = None
        self._lines = None if path.suffix == ".parquet" else path.open("w")
        faults = [
            fault.model_dump(exclude={"start_s", "duration_s"})
            | {"from_ms": start_ms + round(1000 * fault.start_s), "to_ms": start_ms + round(1000 * (fault.start_s + fault.duration_s))}
            for fault in world.faults
        ]
        self._effects = Effects()
        path.with_suffix(".faults.json").write_text(json.dumps(faults, indent=1) + "\n")

    def write(self, truths: pa.Table) -> None:
        """One row a session."""
        if self._lines is not None:
            self._lines.writelines(json.dumps(true) + "\n" for true in truths.to_pylist())
            return
        self._parquet = self._parquet or pq.ParquetWriter(self._path, truths.schema, compression="zstd")
        self._parquet.write_table(truths)

    def learn(self, effects: Effects) -> None:
        """What further sessions would have had."""
        self._effects.merge(effects.sums)

    def __enter__(self) -> Truths:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in (self._lines, self._parquet):
            if file is not None:
                file.close()
        if self._effects.sums:
            self._path.with_suffix(".effects.json").write_text(json.dumps(self._effects.told(), indent=1) + "\n")
