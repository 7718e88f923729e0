"""Stored rows as the audit reads them: where each one lies, and the fingerprint of the bytes it was made from.

ClickHouse writes the rows back as Avro, column by contract field, into a container file that holds one row a block; the body of
each block is then byte for byte what the producer sent, and its fingerprint is the producer's. Nothing is decoded here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
from clickhouse_connect.driver.client import Client
from numpy.typing import NDArray

from schemas.catalogue import Topic
from schemas.project import landing_columns

ROW = np.dtype(
    [
        ("partition", "<i4"), ("offset", "<i8"), ("time_ms", "<i8"), ("epoch", "<i4"), ("seq", "<i8"), ("producer", "<u8"),
        ("digest", "<u8"), ("checked", "?"),
    ]
)  # fmt: skip
"""A stored row. `producer` is cityHash64 of its id; `digest` means something only where `checked`."""

POSITION = np.dtype(ROW.descr[:6])
POSITION_SQL = {
    "partition": "topic_partition",
    "offset": "topic_offset",
    "time_ms": "toUnixTimestamp64Milli(topic_time)",
    "epoch": "epoch",
    "seq": "seq",
    "producer": "cityHash64(producer_id)",
}
ONE_ROW_A_BLOCK = {
    "output_format_avro_codec": "null",
    "output_format_avro_sync_interval": 32,
    "output_format_avro_string_column_pattern": ".*",
}
EMPTY_BLOCK = b"\0\0"
CHUNK_ROWS = 200_000
CHUNK_BYTES = 64 << 20
"""Rows in one answer, and about their bytes: well below what a reader may ask for, also where a few rows are huge, as dead letters are."""
SAMPLE_OF = 16
"""`sample` looks at one body in so many."""

Ranges = dict[int, tuple[int, int]]
"""Partition → offsets to look at, the last one included. A partition that is not named is looked at whole."""
NOTHING = (1, 0)


class Stored:
    """The rows of one topic's landing table. Reading only."""

    def __init__(self, client: Client, database: str, topic: Topic) -> None:
        for name in ONE_ROW_A_BLOCK:  # the client takes every setting of a reader for refused and would not even send these
            client.server_settings.pop(name, None)
        self._client = client
        self._table = f"`{database}`.`{topic.table}`"
        self._database = database
        self._topic = topic
        self._fields = [item["name"] for item in topic.event.fields]

    def count(self) -> int:
        """Rows in the table."""
        return int(self._client.query(f"SELECT count() FROM {self._table}").result_rows[0][0])

    def ends(self) -> dict[int, int]:
        """Partition → highest offset stored."""
        rows = self._client.query(f"SELECT topic_partition, max(topic_offset) FROM {self._table} GROUP BY 1").result_rows
        return {int(partition): int(offset) for partition, offset in rows}

    def ranges(self, from_ms: int | None, to_ms: int | None) -> Ranges:
        """Offsets that arrived in a span of time, per partition: from the first at or after `from_ms` to the last before `to_ms`."""
        if from_ms is None and to_ms is None:
            return {}
        conditions = [("topic_time >=", from_ms), ("topic_time <", to_ms)]
        inside = " AND ".join(f"{sign} fromUnixTimestamp64Milli({int(ms)})" for sign, ms in conditions if ms is not None)
        low = "0" if from_ms is None else f"minIf(topic_offset, {inside})"
        high = str(2**62) if to_ms is None else f"maxIf(topic_offset, {inside})"
        rows = self._client.query(
            f"SELECT topic_partition, {low}, {high}, countIf({inside}) FROM {self._table} GROUP BY topic_partition"
        ).result_rows
        return {int(partition): (int(first), int(last)) if count else NOTHING for partition, first, last, count in rows}

    def producers(self) -> dict[int, str]:
        """cityHash64 → producer id."""
        rows = self._client.query(f"SELECT cityHash64(producer_id), any(producer_id) FROM {self._table} GROUP BY 1").result_rows
        return {int(number): str(name) for number, name in rows}

    def dead_lettered(self, dead_letter_table: str, names: Sequence[str]) -> NDArray[Any]:
        """(partition, offset) of what the loader set aside of this topic."""
        rows = self._client.query(
            f"SELECT DISTINCT source_partition, source_offset FROM {dead_letter_table} "
            "WHERE component = 'loader' AND topic IN {names:Array(String)} AND source_offset IS NOT NULL",
            parameters={"names": list(names)},
        ).result_rows
        return np.array(rows, np.int64).reshape(-1, 2)

    def rows(self, content: str, ranges: Ranges) -> NDArray[Any]:
        """All rows (ROW) within `ranges`, bodies fingerprinted in full, by sample or not at all."""
        within = _within(ranges)
        sampled = f"cityHash64(topic_partition, topic_offset) % {SAMPLE_OF} = 0"
        match content:
            case "full":
                parts = [*self._fingerprinted(within)]
            case "sample":
                parts = [*self._fingerprinted(f"({within}) AND {sampled}"), *self._positions(f"({within}) AND NOT {sampled}")]
            case _:
                parts = [*self._positions(within)]
        return np.concatenate(parts) if parts else np.empty(0, ROW)

    def rows_as(self, fields: Sequence[str], at: NDArray[Any]) -> NDArray[Any]:
        """The rows at some positions (ROW), fingerprinted as if written by a contract with these fields, in this order."""
        if len(at) <= 10_000:
            places = ", ".join(f"({row['partition']}, {row['offset']})" for row in at)
            parts = [*self._fingerprinted(f"(topic_partition, topic_offset) IN ({places})", fields)]
        else:
            parts = [*self._fingerprinted("1", fields)]
        return np.concatenate(parts) if parts else np.empty(0, ROW)

    def holds(self, fields: Sequence[str]) -> bool:
        """Whether there is a column for each of these fields."""
        return set(fields) <= set(self._fields)

    def _positions(self, condition: str) -> Iterator[NDArray[Any]]:
        columns = ", ".join(POSITION_SQL.values())
        for chunk in self._chunks(condition):
            answer = self._client.raw_query(f"SELECT {columns} FROM {self._table} WHERE {chunk}", fmt="RowBinary")
            yield _with_digests(np.frombuffer(answer, POSITION), None)

    def _fingerprinted(self, condition: str, fields: Sequence[str] = ()) -> Iterator[NDArray[Any]]:
        # The position goes in front as fixed-size strings: they take 40 bytes in every row, so a row fills its block.
        position = ", ".join(f"reinterpretAsFixedString({sql}) AS `_{name}`" for name, sql in POSITION_SQL.items())
        body = ", ".join(f"`{name}`" for name in fields or self._fields)
        for chunk in self._chunks(condition):
            answer = self._client.raw_query(
                f"SELECT {position}, {body} FROM {self._table} WHERE {chunk}",
                fmt="Avro",
                settings=ONE_ROW_A_BLOCK,
            )
            positions, digests = fingerprints(answer)
            yield _with_digests(np.frombuffer(positions, POSITION), np.frombuffer(digests, ">u8"))

    def _chunks(self, condition: str) -> Iterator[str]:
        """`condition` cut along the sorting key into pieces of about CHUNK_ROWS, or CHUNK_BYTES; each reads its own granules only."""
        count = int(self._client.query(f"SELECT count() FROM {self._table} WHERE {condition}").result_rows[0][0])
        pieces = ceil(count * max(1 / CHUNK_ROWS, self._row_bytes() / CHUNK_BYTES))
        if pieces <= 1:
            yield from [condition] * pieces
            return
        keys = list(dict.fromkeys((*self._topic.order_by, "topic_partition", "topic_offset")))[:2]
        types = landing_columns(self._topic)
        key, kind = f"({', '.join(keys)})", f"Tuple({', '.join(types[k] for k in keys)})"
        sample = f"SELECT arraySort(groupArraySample({64 * pieces}, 1)({key})) AS keys FROM {self._table} WHERE {condition}"
        quantile = f"toString(keys[greatest(1, intDiv(i * length(keys), {pieces}))])"
        rows = self._client.query(f"SELECT arrayMap(i -> {quantile}, range(1, {pieces})) FROM ({sample})").result_rows
        cuts = [f"CAST('{_escaped(cut)}' AS {kind})" for cut in dict.fromkeys(rows[0][0])]
        bounds = ["", *cuts, ""]
        for low, high in pairwise(bounds):
            yield " AND ".join([f"({condition})", *([f"{key} >= {low}"] if low else []), *([f"{key} < {high}"] if high else [])])

    def _row_bytes(self) -> float:
        """Bytes that a row takes on average."""
        rows = self._client.query(
            "SELECT total_bytes_uncompressed / greatest(total_rows, 1) FROM system.tables "
            "WHERE database = {database:String} AND name = {table:String}",
            parameters={"database": self._database, "table": self._topic.table},
        ).result_rows
        return float(rows[0][0])


def fingerprints(container: bytes) -> tuple[bytes, bytes]:
    """(positions, digests) of the rows in an Avro container file of one row a block: 40 and 8 bytes each."""
    sync = container[-16:]
    blocks = [block for block in container.split(sync)[1:-1] if block != EMPTY_BLOCK]
    if any(block[0] != 2 for block in blocks):
        raise ValueError("a block holds more than one row")
    size = POSITION.itemsize
    starts = [3 if 67 <= len(block) < 8195 else _prefix(len(block)) for block in blocks]
    positions = b"".join([block[start : start + size] for block, start in zip(blocks, starts, strict=True)])
    digests = b"".join([blake2b(block[start + size :], digest_size=8).digest() for block, start in zip(blocks, starts, strict=True)])
    return positions, digests


def _prefix(length: int) -> int:
    """Bytes in front of a block's data: one for the count, and those of the size, a zigzag varint."""
    return next(1 + digits for digits in range(1, 10) if length - 1 - digits < 1 << (7 * digits - 1))


def _with_digests(positions: NDArray[Any], digests: NDArray[Any] | None) -> NDArray[Any]:
    rows = np.empty(len(positions), ROW)
    for name in POSITION.names or ():
        rows[name] = positions[name]
    rows["checked"] = digests is not None
    rows["digest"] = 0 if digests is None else digests
    return rows


def _within(ranges: Ranges) -> str:
    if not ranges:
        return "1"
    named = [f"(topic_partition = {p} AND topic_offset BETWEEN {low} AND {high})" for p, (low, high) in sorted(ranges.items())]
    return " OR ".join([*named, f"topic_partition NOT IN ({', '.join(map(str, sorted(ranges)))})"])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
