"""The effects on one landing table: insert undecoded messages, count what is stored, mend view targets, add columns."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from infra.base import warehouse
from infra.base.registry import RegistryClient, RegistryError
from infra.base.settings import settings
from infra.base.warehouse import BulkWriter, WarehouseError
from schemas import project
from schemas.catalogue import Event, Topic
from schemas.codec import BadFraming, BadPayload, Decoder, Encoder, schema_id_of
from schemas.envelope import marker
from sinks import migrate
from sinks.loader import frames
from sinks.loader.lane import Answer, Refusal
from sinks.loader.ranges import Range
from sinks.loader.recovery import Found

REFUSED_BY_CONTENT = frozenset(
    {6, 25, 26, 27, 32, 33, 38, 41, 43, 53, 69, 70, 72, 117, 128, 131, 321, 349, 395, 407, 441, 467, 474, 524, 634, 691, 748}
)
"""ClickHouse's codes for data that cannot be parsed, converted or told apart. Every other code is an outage: it is tried again."""

MONTHS = 1_200
"""That one insert may span, of Kafka's time, which tables are partitioned by: a past of decades is replayed in one go."""
SCHEMA_ASKED_FOR = re.compile(r"while fetching schema id = (\d+)")
"""A schema that no message of the block names: the store has read a frame where none begins, whatever the registry made of it."""

LOW_CARDINALITY = re.compile(r"LowCardinality\(((?:[^()]|\([^()]*\))*)\)")
"""Messages are read into plain columns and cast by block: filling dictionaries row by row takes three times as long as all the rest."""


@dataclass(frozen=True)
class Block:
    """Messages of one partition in order: offset, Kafka timestamp in ms, bytes; three lists of equal length."""

    offsets: Sequence[int]
    times_ms: Sequence[int]
    messages: Sequence[bytes]

    @cached_property
    def size(self) -> int:
        """Bytes of all messages."""
        return sum(map(len, self.messages))

    def split(self, count: int) -> tuple[Block, Block]:
        """The first `count` messages, and the rest."""
        if count == len(self.offsets):
            return self, Block([], [], [])
        return (
            Block(self.offsets[:count], self.times_ms[:count], self.messages[:count]),
            Block(self.offsets[count:], self.times_ms[count:], self.messages[count:]),
        )

    def at(self, offsets: Sequence[int]) -> Block:
        """The messages at `offsets`, which is an ordered part of ours."""
        if len(offsets) == len(self.offsets):
            return self
        index = {offset: i for i, offset in enumerate(self.offsets)}
        places = [index[o] for o in offsets]
        return Block(offsets, [self.times_ms[i] for i in places], [self.messages[i] for i in places])


@dataclass(frozen=True)
class View:
    """A materialized view that the table feeds: where to, and by which query."""

    target: str
    query: str
    columns: tuple[str, ...]


class LandingTable:
    """One topic's landing table, seen from the loader. Safe to share between threads: each has a connection of its own.

    `name` is that of a table in its place, such as a backfill fills.

    Raises WarehouseUnavailable, WarehouseError and RegistryUnavailable for outages, which the caller waits out.
    """

    def __init__(self, topic: Topic, registry: RegistryClient, name: str = "") -> None:
        self.topic = topic
        self._table = name or topic.table
        self._registry = registry
        self._decode = Decoder(registry.schema)
        self._lock = threading.Lock()
        self._local = threading.local()
        self._writers: list[BulkWriter] = []
        self._columns: dict[str, str] = {}
        self._views: list[View] | None = None
        self._verdicts: dict[int, Refusal | None] = {}
        self._encoders: dict[int, Encoder] = {}

    def close(self) -> None:
        """Drop the connections; whatever still runs on them goes on in the store."""
        for writer in self._writers:
            writer.close()

    def insert(self, partition: int, block: Block, token: str) -> Answer | Refusal:
        """Store `block` under `token`. A refusal is by content and names the first thing that is wrong."""
        framed = frames.join(block.messages)
        good = framed.framed
        if not good.all():
            return Refusal("framing", f"offset {block.offsets[int(np.argmin(good))]} is not framed")
        schema_ids = np.unique(framed.schema_ids).tolist()
        for schema_id in schema_ids:
            if (refusal := self._judge(schema_id)) is not None:
                return refusal
        sentinel, tail = self._sentinel(schema_ids[-1])
        where = frames.positions(block.offsets, block.times_ms, np.append(framed.tails, tail))
        try:
            reply = self._writer.run(
                self._statement(partition, block.offsets, where),
                [framed.data, sentinel],
                query_id=self.query_id(partition),
                insert_deduplicate=1,
                insert_deduplication_token=token,
                deduplicate_blocks_in_dependent_materialized_views=1,
                format_avro_schema_registry_url=settings().registry.url,
                input_format_avro_allow_missing_fields=1,
                max_query_size=64 << 20,
                max_block_size=1 << 20,
                max_partitions_per_insert_block=MONTHS,
                wait_end_of_query=1,
                max_threads=1,  # rows keep the order of the messages, by which they get their offsets
            )
        except WarehouseError as error:
            asked = SCHEMA_ASKED_FOR.search(str(error))
            if error.code in REFUSED_BY_CONTENT or (asked and int(asked[1]) not in schema_ids):
                return Refusal("rejected_by_store", str(error)[:500])
            raise
        return Answer.STORED if reply.written_rows >= len(block.offsets) else Answer.UNKNOWN

    def screen(self, block: Block) -> dict[int, Refusal]:
        """Which messages nobody can read, by offset: bad framing, an unknown schema or that of something else, bytes that do not fit."""
        unread: dict[int, Refusal] = {}
        for offset, message in zip(block.offsets, block.messages, strict=True):
            try:
                if (refusal := self._judge(schema_id_of(message))) is not None:
                    unread[offset] = refusal
                else:
                    self._decode(message)
            except BadFraming as error:
                unread[offset] = Refusal("framing", str(error))
            except BadPayload as error:
                unread[offset] = Refusal("decode", str(error))
        return unread

    def highest(self, partition: int) -> int | None:
        """The highest offset of the partition that is stored."""
        answer = self._ask(f"SELECT max(topic_offset), count() FROM {self._name} WHERE topic_partition = {partition}", partition)
        highest, rows = np.frombuffer(answer, dtype="<i8").tolist()
        return int(highest) if rows else None

    def stored(self, partition: int, among: Range) -> Found:
        """What is stored of a range. The query has the id of the partition's inserts, so it is refused while one of them still runs."""
        within = f"topic_partition = {partition} AND topic_offset BETWEEN {among.first} AND {among.last}"
        offsets = self._offsets(f"SELECT topic_offset FROM {self._name} WHERE {within}", partition)
        lacking = {
            view.target: self._offsets(
                f"SELECT DISTINCT topic_offset FROM ({view.query}) WHERE {within} AND topic_offset NOT IN "
                f"(SELECT topic_offset FROM `{settings().database}`.`{view.target}` WHERE {within})",
                partition,
            )
            for view in self._fed_views()
        }
        return Found(offsets, lacking)

    def mend(self, partition: int, target: str, offsets: Sequence[int], token: str) -> None:
        """Bring rows of the landing table through the view of `target` into it."""
        view = next(v for v in self._fed_views() if v.target == target)
        names = ", ".join(f"`{name}`" for name in view.columns)
        self._writer.run(
            f"INSERT INTO `{settings().database}`.`{target}` ({names}) SELECT {names} FROM ({view.query}) "
            f"WHERE topic_partition = {partition} AND topic_offset IN ({', '.join(map(str, offsets))})",
            query_id=self.query_id(partition),
            insert_deduplicate=1,
            insert_deduplication_token=token,
            max_query_size=64 << 20,
            max_partitions_per_insert_block=MONTHS,
        )

    def query_id(self, partition: int) -> str:
        """One id for all statements of a partition, ours and any other loader's: ClickHouse runs one at a time of each id."""
        return f"loader-{settings().database}-{self._table}-{partition}"

    def views(self) -> list[View]:
        """The materialized views that the table feeds now."""
        client = warehouse.writer()
        feeding = client.query(
            "SELECT name, as_select FROM system.tables WHERE database = {database:String} AND engine = 'MaterializedView' AND has("
            "(SELECT dependencies_table FROM system.tables WHERE database = {database:String} AND name = {table:String}), name)",
            parameters={"database": settings().database, "table": self._table},
        ).result_rows
        targets = dict(migrate.view_targets(client))
        return [View(targets[name], query, _names(client.query(f"DESCRIBE TABLE ({query})").result_rows)) for name, query in feeding]

    @property
    def _name(self) -> str:
        return f"`{settings().database}`.`{self._table}`"

    @property
    def _writer(self) -> BulkWriter:
        if not hasattr(self._local, "writer"):
            self._local.writer = BulkWriter()
            self._writers.append(self._local.writer)
        writer: BulkWriter = self._local.writer
        return writer

    def _ask(self, sql: str, partition: int) -> bytes:
        return self._writer.run(f"{sql} FORMAT RowBinary", query_id=self.query_id(partition)).body

    def _offsets(self, sql: str, partition: int) -> list[int]:
        offsets: list[int] = np.frombuffer(self._ask(sql, partition), dtype="<i8").tolist()
        return offsets

    def _statement(self, partition: int, offsets: Sequence[int], where: str) -> str:
        first, rows = offsets[0], len(offsets)
        columns = self._known_columns()
        fields = ", ".join(f"`{name}`" for name in columns)
        plain = {name: LOW_CARDINALITY.sub(r"\1", kind) for name, kind in columns.items()}
        structure = ", ".join(f"`{name}` {kind}" for name, kind in plain.items())
        structure = structure.replace("\\", "\\\\").replace("'", "\\'")
        width = frames.POSITION.itemsize

        def part(name: str, kind: str) -> str:
            dtype, place = frames.POSITION.fields[name][:2]  # type: ignore[index]
            return f"reinterpretAs{kind}(substring(_positions, _row * {width} + {place + 1}, {dtype.itemsize}))"

        return (
            f"INSERT INTO {self._name} (topic_partition, topic_offset, topic_time, ingested_at, {fields}) "
            f"WITH base64Decode('{where}') AS _positions "
            f"SELECT {partition}, {first} + {'_row' if offsets[-1] - first + 1 == rows else part('offset', 'UInt32')}, "
            f"fromUnixTimestamp64Milli({part('time_ms', 'Int64')}, 'UTC'), now64(3, 'UTC'), {fields} "
            f"FROM (SELECT *, rowNumberInAllBlocks() AS _row FROM input('{structure}')) "
            f"WHERE NOT throwIf({part('tail', 'UInt32')} != reinterpretAsUInt32(right(event_id, 4)), "
            f"'a row is not the message at its place') AND _row < {rows} FORMAT AvroConfluent"
        )

    def _known_columns(self) -> dict[str, str]:
        with self._lock:
            if not self._columns:
                self._columns = self._landing_columns()
            return self._columns

    def _landing_columns(self) -> dict[str, str]:
        found = migrate.columns(warehouse.writer(), self._table)
        if not found:
            raise WarehouseError(f"{self._table} does not exist: `python -m sinks.migrate` creates it", 60)
        return {name: kind for name, kind in found.items() if name not in project.POSITION_COLUMNS}

    def _judge(self, schema_id: int) -> Refusal | None:
        """Whether messages of this schema belong here; new fields get their columns first. Verdicts are kept, outages are not."""
        with self._lock:
            if schema_id not in self._verdicts:
                self._verdicts[schema_id] = self._admit(schema_id)
            return self._verdicts[schema_id]

    def _admit(self, schema_id: int) -> Refusal | None:
        try:
            schema = self._registry.schema(schema_id)
        except RegistryError as error:
            if error.code != 404:
                raise
            return Refusal("unknown_schema", f"the registry does not know id {schema_id}: {error}")
        own = self.topic.event.schema
        if (schema.get("namespace"), schema.get("name")) != (own.get("namespace"), own["name"]):
            return Refusal("schema_mismatch", f"id {schema_id} is {schema.get('namespace')}.{schema.get('name')}")
        try:
            wanted = {f["name"]: project.clickhouse_type(f) for f in schema["fields"]}
            migrate.add_columns(warehouse.writer(), self._table, self._landing_columns(), wanted)
        except migrate.MigrationError as error:
            return Refusal("schema_mismatch", str(error))
        self._columns = self._landing_columns()
        self._views = None
        return None

    def _sentinel(self, schema_id: int) -> tuple[bytes, int]:
        """A message of random length to put behind a block, and its tail."""
        encode = self._encoders.get(schema_id)
        if encode is None:
            event = Event(self.topic.domain, self.topic.short_name, self._registry.schema(schema_id))
            encode = self._encoders[schema_id] = Encoder(event, schema_id)
        envelope = {
            "event_id": secrets.token_hex(16) + "." * secrets.randbelow(64),
            "event_time": 0, "producer_id": "loader", "epoch": 0, "seq": -1,
        }  # fmt: skip
        sentinel = encode({**envelope, **marker(encode.event)})
        return sentinel, int(frames.join([sentinel]).tails[0])

    def _fed_views(self) -> list[View]:
        with self._lock:
            if self._views is None:
                self._views = self.views()
            return self._views


def _names(description: Sequence[Sequence[Any]]) -> tuple[str, ...]:
    return tuple(str(row[0]) for row in description)
