"""Where simulated reports go: onto the backbone, into a recorded log, or into lines of JSON for golden tests.

All three write the same events; only who carries them differs. `mark` writes a time marker to every partition.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from producers.emit import Backpressure, Emitter
from producers.simulator.reports import Made, event_id
from producers.simulator.schedule import Arrival
from schemas.catalogue import Topic, catalogue
from schemas.codec import Encoder
from schemas.envelope import Stamp, envelope_bytes, marker, own_bytes
from schemas.wire import string_bytes

TOPIC = "playback.report"
PRODUCER_ID = "simulator"


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

    def put(self, arrival: Arrival) -> None: ...

    def mark(self, at_ms: int, event_time_ms: int) -> None:
        """At `at_ms`, say on every partition that the simulated clock has reached `event_time_ms`."""
        ...

    def __enter__(self) -> Output: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def rest_of(made: Made, encoder: Encoder) -> bytes:
    """The own fields of a report behind `sid` in Avro, encoded once."""
    if not made.rest:
        made.rest = own_bytes(encoder, {"sid": "", **made.fields})[len(string_bytes("")) :]
    return made.rest


class ToKafka:
    """Onto the topic of this namespace. Waits when Kafka is slower than the simulation."""

    def __init__(self, emitter: Emitter, clock: ArrivalClock) -> None:
        self.emitter = emitter
        self._clock = clock
        self._encoder = Encoder(catalogue().topic(TOPIC).event, 0)
        self._since_poll = 0

    def put(self, arrival: Arrival) -> None:
        """Queue one report. Raises what `Emitter.send_bytes` raises, but for Backpressure, which it waits out."""
        self._clock.at_ms = arrival.at_ms
        own = string_bytes(arrival.sid) + rest_of(arrival.made, self._encoder)
        identity = event_id(arrival.sid, arrival.made.fields["sn"])
        while True:
            try:
                self.emitter.send_bytes(
                    TOPIC, arrival.sid, own, event_time_ms=arrival.event_time_ms, event_id=identity, correlation_id=arrival.correlation_id
                )
                break
            except Backpressure:
                self.emitter.poll(0.05)
        self._since_poll += 1
        if self._since_poll == 2_000:
            self._since_poll = 0
            self.emitter.poll()

    def mark(self, at_ms: int, event_time_ms: int) -> None:
        self._clock.at_ms = at_ms
        self.emitter.mark(TOPIC, event_time_ms)
        self.emitter.poll()

    def __enter__(self) -> ToKafka:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.emitter.close(timeout_s=120)


def murmur2(data: bytes) -> int:
    """Kafka's default hash of a key (MurmurHash2, 32 bits, seed 0x9747b28c), as its Java client computes it, made non-negative."""
    size, mask, m = len(data), 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ size) & mask
    for i in range(0, size - 3, 4):
        k = (int.from_bytes(data[i : i + 4], "little") * m) & mask
        k = ((k ^ (k >> 24)) * m) & mask
        h = ((h * m) & mask) ^ k
    if tail := data[size & ~3 :]:
        h = ((h ^ int.from_bytes(tail, "little")) * m) & mask
    h = ((h ^ (h >> 13)) * m) & mask
    return (h ^ (h >> 15)) & 0x7FFFFFFF


@dataclass
class _Partition:
    """One partition of a recorded log that is being written."""

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

    def __init__(self, path: Path, namespace: str) -> None:
        self._path = path
        self._namespace = namespace
        self._topic: Topic = catalogue().topic(TOPIC)
        self._encoder = Encoder(self._topic.event, self.SCHEMA_ID)
        self._stamp = Stamp(PRODUCER_ID, 1)
        self._partition_of: dict[str, int] = {}
        try:
            (path / TOPIC).mkdir(parents=True)
        except FileExistsError:
            raise SystemExit(f"{path} holds something already: a log is never written over") from None
        self._partitions = [self._open(number) for number in range(self._topic.partitions)]

    def _open(self, number: int) -> _Partition:
        scratch = self._path / TOPIC / f".{number}.writing"
        options = {"compression": "zstd", "write_page_checksum": True, "use_dictionary": ["topic", "key"]}
        return _Partition(pq.ParquetWriter(scratch, self.COLUMNS, **options), scratch)

    def put(self, arrival: Arrival) -> None:
        """Write one report."""
        sid = arrival.sid
        number = self._partition_of.get(sid)
        if number is None:
            number = self._partition_of[sid] = murmur2(sid.encode()) % len(self._partitions)
        seq = self._stamp.next_seq(TOPIC)
        envelope = envelope_bytes(
            event_id(sid, arrival.made.fields["sn"]), arrival.event_time_ms, PRODUCER_ID, self._stamp.epoch, seq, arrival.correlation_id
        )
        payload = self._encoder.header + envelope + string_bytes(sid) + rest_of(arrival.made, self._encoder)
        self._row(number, arrival.at_ms, sid.encode(), payload)
        self._stamp.used(TOPIC)

    def mark(self, at_ms: int, event_time_ms: int) -> None:
        for number in range(len(self._partitions)):
            event = self._stamp(TOPIC, marker(self._topic.event), event_time_ms)
            self._row(number, at_ms, str(event[self._topic.key]).encode(), self._encoder(event))
            self._stamp.used(TOPIC)

    def _row(self, number: int, timestamp_ms: int, key: bytes, payload: bytes) -> None:
        partition = self._partitions[number]
        partition.rows.append((timestamp_ms, key, payload))
        if len(partition.rows) == self.ROW_GROUP:
            self._write(number)

    def _write(self, number: int) -> None:
        partition = self._partitions[number]
        rows, partition.rows = partition.rows, []
        if not rows:
            return
        timestamps, keys, payloads = zip(*rows, strict=True)
        size = len(rows)
        columns = [
            pa.DictionaryArray.from_arrays(pa.array([0] * size, pa.int32()), [TOPIC]),
            pa.array([number] * size, pa.int32()),
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
        for number, partition in enumerate(self._partitions):
            self._write(number)
            partition.writer.close()
            if not partition.written:
                partition.scratch.unlink()
                continue
            partition.scratch.rename(partition.scratch.with_name(f"{number}-{0:019d}.parquet"))
            segments.append({
                "topic": TOPIC, "partition": number, "first": 0, "last": partition.written - 1, "rows": partition.written,
                "from_ms": partition.from_ms, "to_ms": partition.to_ms,
            })  # fmt: skip
        if error is None:
            (self._path / "log.json").write_text(json.dumps(self._manifest(segments), indent=1))

    def _manifest(self, segments: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "format": 1,
            "namespace": self._namespace,
            "selection": {"topics": [TOPIC], "from_ms": None, "to_ms": None},
            "partitions": {TOPIC: len(self._partitions)},
            "schemas": {str(self.SCHEMA_ID): self._topic.event.schema},
            "ids": {TOPIC: [self.SCHEMA_ID]},
            "segments": segments,
            "read_to": {TOPIC: {str(number): partition.written for number, partition in enumerate(self._partitions)}},
            "complete": True,
        }


class ToLines:
    """Into a file of JSON lines, one event a line, absent fields left out; markers too, once rather than per partition."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("x")
        except FileExistsError:
            raise SystemExit(f"{path} exists already: it is not written over") from None
        self._stamp = Stamp(PRODUCER_ID, 1)
        self._topic: Topic = catalogue().topic(TOPIC)

    def put(self, arrival: Arrival) -> None:
        """Write one report."""
        fields = {"sid": arrival.sid, **{name: value for name, value in arrival.made.fields.items() if value is not None}}
        identity = event_id(arrival.sid, arrival.made.fields["sn"])
        self._line(self._stamp(TOPIC, fields, arrival.event_time_ms, identity, arrival.correlation_id))

    def mark(self, at_ms: int, event_time_ms: int) -> None:
        self._line(self._stamp(TOPIC, marker(self._topic.event), event_time_ms))

    def _line(self, event: dict[str, Any]) -> None:
        self._file.write(json.dumps(event, separators=(",", ":")) + "\n")
        self._stamp.used(TOPIC)

    def __enter__(self) -> ToLines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
