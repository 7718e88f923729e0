"""The recorded log on disk: a directory that any Parquet reader can open.

    LOG/log.json                                             what is here; a segment exists when this file names it
    LOG/<topic>/<partition>-<first offset>.parquet           segments: rows of one partition in offset order, zstd

A segment's columns are `topic, partition, offset, timestamp_ms, key, headers, payload`; payloads are the bytes of the wire, framing
included. `log.json` holds the namespace, each topic's partition count, the segments with their ranges, and every schema by its id.
Both kinds of file appear by rename, a segment before the `log.json` that names it, so a reader never sees half of one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

FORMAT = 1
MANIFEST = "log.json"
SCHEMA = pa.schema(
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


class Damaged(Exception):
    """A recorded log cannot be read; the message names the file and what is wrong with it."""


class Row(NamedTuple):
    """One record of one partition. `payload` is None for a tombstone."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    headers: list[tuple[str, bytes | None]] | None
    payload: bytes | None


@dataclass(frozen=True)
class Segment:
    """One Parquet file: a contiguous piece of one partition. Offsets within it may have gaps, its neighbours leave none."""

    topic: str
    partition: int
    first: int
    last: int
    rows: int
    from_ms: int
    to_ms: int

    @property
    def file(self) -> str:
        """Path below the log's directory."""
        return f"{self.topic}/{self.partition}-{self.first:019d}.parquet"


@dataclass
class RecordedLog:
    """A recorded log's `log.json`, in memory.

    `read_to` is the offset up to which each partition has been read, whether or not records were left there to keep. `selection`
    repeats what was asked for, so that a resumed recording cannot silently become another one. `schemas` maps a schema id to the
    schema, or to None where the registry did not know the id; `ids` says which ids occur on which topic.
    """

    path: Path
    namespace: str
    selection: dict[str, Any]
    partitions: dict[str, int] = field(default_factory=dict)
    schemas: dict[int, dict[str, Any] | None] = field(default_factory=dict)
    ids: dict[str, list[int]] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    read_to: dict[str, dict[int, int]] = field(default_factory=dict)
    complete: bool = False

    @classmethod
    def open(cls, path: Path) -> RecordedLog:
        """Read `path`/log.json and check that every segment it names is there. Raises Damaged, or FileNotFoundError in words."""
        manifest = path / MANIFEST
        if not manifest.is_file():
            raise FileNotFoundError(f"{path} is not a recorded log: it has no {MANIFEST}; `headrace record {path}` makes one")
        try:
            found = json.loads(manifest.read_text())
            if found["format"] != FORMAT:
                raise Damaged(f"{manifest}: format {found['format']}; this installation reads format {FORMAT}")
            log = cls(
                path,
                found["namespace"],
                found["selection"],
                found["partitions"],
                {int(i): schema for i, schema in found["schemas"].items()},
                found["ids"],
                [Segment(**segment) for segment in found["segments"]],
                {topic: {int(p): offset for p, offset in offsets.items()} for topic, offsets in found["read_to"].items()},
                found["complete"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"{manifest}: not a description of a recorded log ({type(error).__name__}: {error})") from None
        for segment in log.segments:
            if not (path / segment.file).is_file():
                raise Damaged(f"{path / segment.file} is missing: {segment.rows} records of {segment.topic} are gone")
        return log

    def save(self) -> None:
        """Write `log.json` in one step."""
        content = asdict(self)
        del content["path"]
        scratch = self.path / f".{MANIFEST}"
        scratch.write_text(json.dumps({"format": FORMAT, **content}, indent=1))
        scratch.rename(self.path / MANIFEST)

    def sweep(self) -> None:
        """Delete what an interrupted recording left and this log does not name."""
        named = {self.path / segment.file for segment in self.segments}
        for file in self.path.glob("*/*"):
            if file not in named:
                file.unlink()

    def of(self, topic: str, partition: int) -> list[Segment]:
        """The segments of one partition, in offset order."""
        return sorted((s for s in self.segments if (s.topic, s.partition) == (topic, partition)), key=lambda s: s.first)

    def rows(self, topics: list[str] | None = None) -> int:
        """How many records there are, of some topics or of all."""
        return sum(s.rows for s in self.segments if topics is None or s.topic in topics)

    def batches(self, topic: str, partition: int, rows: int) -> Iterator[pa.RecordBatch]:
        """One partition in offset order, `rows` records at a time at most. Raises Damaged."""
        for segment in self.of(topic, partition):
            file = self.path / segment.file
            seen = 0
            try:
                with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
                    if parquet.schema_arrow.names != SCHEMA.names:
                        raise Damaged(f"{file}: columns are {', '.join(parquet.schema_arrow.names)}, not {', '.join(SCHEMA.names)}")
                    for batch in parquet.iter_batches(batch_size=rows, columns=["offset", "timestamp_ms", "key", "headers", "payload"]):
                        seen += len(batch)
                        yield batch
            except (pa.ArrowException, OSError) as error:
                raise Damaged(f"{file}: damaged after {seen} of {segment.rows} records: {error}") from None
            if seen != segment.rows:
                raise Damaged(f"{file}: holds {seen} records, {MANIFEST} says {segment.rows}")

    def read(self, topic: str, partition: int) -> Iterator[Row]:
        """One partition as rows. Raises Damaged."""
        for batch in self.batches(topic, partition, 10_000):
            for offset, timestamp_ms, key, headers, payload in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield Row(offset, timestamp_ms, key, plain_headers(headers), payload)


def plain_headers(stored: list[dict[str, Any]] | None) -> list[tuple[str, bytes | None]] | None:
    """Headers as Kafka clients take them."""
    return [(header["name"], header["value"]) for header in stored] if stored else None


class SegmentWriter:
    """Writes one segment under a scratch name; `finish` gives it its own. Not thread-safe."""

    def __init__(self, root: Path, topic: str, partition: int) -> None:
        self.topic, self.partition, self.rows = topic, partition, 0
        self._root = root
        (root / topic).mkdir(exist_ok=True)
        self._scratch = root / topic / f".{partition}.writing"
        self._writer = pq.ParquetWriter(
            self._scratch, SCHEMA, compression="zstd", write_page_checksum=True, use_dictionary=["topic", "key"]
        )
        self._first = self._last = self._from_ms = self._to_ms = 0

    def write(self, rows: list[Row]) -> None:
        """Append rows, in offset order, as one row group."""
        offsets, timestamps, keys, headers, payloads = zip(*rows, strict=True)
        stored = [None if h is None else [{"name": name, "value": value} for name, value in h] for h in headers]
        topic = pa.DictionaryArray.from_arrays(pa.array([0] * len(rows), pa.int32()), [self.topic])
        partition = pa.array([self.partition] * len(rows), pa.int32())
        arrays = [
            pa.array(column, kind) for column, kind in zip((offsets, timestamps, keys, stored, payloads), SCHEMA.types[2:], strict=True)
        ]
        self._writer.write_table(pa.Table.from_arrays([topic, partition, *arrays], schema=SCHEMA))
        if not self.rows:
            self._first, self._from_ms, self._to_ms = offsets[0], timestamps[0], timestamps[0]
        self._last = offsets[-1]
        self._from_ms, self._to_ms = min(self._from_ms, *timestamps), max(self._to_ms, *timestamps)
        self.rows += len(rows)

    def finish(self) -> Segment:
        """Close the file and put it in its place."""
        self._writer.close()
        segment = Segment(self.topic, self.partition, self._first, self._last, self.rows, self._from_ms, self._to_ms)
        self._scratch.rename(self._root / segment.file)
        return segment
