"""How fast do recorded playback events get from Kafka into their landing table, and how near is that to what the parts allow?

Peers, each at its best of three batch sizes, into the same table of the same warehouse: confluent-kafka's AvroDeserializer with
`client.insert` of rows, and fastavro with `client.insert_arrow`. They are given `PEER_EVENTS` events, a full batch of the largest size.
Bounds: the loader's consumer with nothing behind it, and the loader's inserts of the same blocks from memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx2 as httpx
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from infra.base import kafka, warehouse
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from infra.bench.harness import Figure, Options, cpu_seconds, ground, namespace, record, say
from infra.stack.local import LocalStack
from schemas.catalogue import catalogue
from schemas.codec import Decoder
from sinks import migrate
from sinks.loader.ranges import Range, token
from sinks.loader.table import Block, LandingTable
from sinks.replay import replay

FIGURES = {
    "rows_per_s": Figure("rows/s"),
    "row_insert_per_s": Figure("rows/s"),
    "arrow_insert_per_s": Figure("rows/s"),
    "consume_only_per_s": Figure("rows/s"),
    "insert_only_per_s": Figure("rows/s"),
    "cpu_s_per_million": Figure("CPU-s"),
    "row_insert_cpu_s_per_million": Figure("CPU-s"),
    "arrow_insert_cpu_s_per_million": Figure("CPU-s"),
    "x_row_insert": Figure("×", 8, 5),
    "x_arrow_insert": Figure("×", 2.5, 1.8),
    "of_bound": Figure("share", 0.75, 0.55),
}
EVENTS = 2_000_000
PEER_EVENTS = 200_000
BATCHES = (10_000, 50_000, 200_000)
TOPIC = catalogue().topic("playback.report")
UTC_MS = pa.timestamp("ms", tz="UTC")
ARROW = {"string": pa.string(), "int": pa.int32(), "long": pa.int64(), "double": pa.float64(), "boolean": pa.bool_()}

Insert = Callable[[Sequence[Message]], None]
_groups = count()


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures per run; all of it on one stack, each measurement into a fresh table."""
    events = options.events or EVENTS
    runs = []
    with ground("kafka,registry,warehouse") as stack, namespace("bench"):
        stored = replay(record(stack.state_dir / "log", events, options), namespace=settings().namespace).records
        for number in range(options.runs):
            figures = {"consume_only_per_s": _consume_only(stored), "insert_only_per_s": _insert_only(stored), **_loader(stack, stored)}
            for peer, make in (("row_insert", _row_insert), ("arrow_insert", _arrow_insert)):
                tried = {batch: _peer(stack, make(), batch, stored) for batch in BATCHES}
                best = max(tried, key=lambda batch: tried[batch]["rows_per_s"])
                figures[f"{peer}_per_s"] = tried[best].pop("rows_per_s")
                figures |= {f"{peer}_{name}": value for name, value in tried[best].items()} | {f"{peer}_batch": best}
            figures["x_row_insert"] = figures["rows_per_s"] / figures["row_insert_per_s"]
            figures["x_arrow_insert"] = figures["rows_per_s"] / figures["arrow_insert_per_s"]
            figures["of_bound"] = figures["rows_per_s"] / min(figures["consume_only_per_s"], figures["insert_only_per_s"])
            figures["events"] = stored
            say(f"run {number + 1} of {options.runs}: " + ", ".join(f"{name} {value:,.4g}" for name, value in figures.items()))
            runs.append(figures)
    return runs


def _consumer() -> Consumer:
    """The loader's consumer, at the beginning of all partitions."""
    reader = kafka.consumer(
        f"bench-{next(_groups)}", queued_min_messages=1_000_000, queued_max_messages_kbytes=128 << 10, fetch_wait_max_ms=100
    )
    reader.assign([TopicPartition(settings().topic(TOPIC.name), p, 0) for p in range(TOPIC.partitions)])
    return reader


def _batches(reader: Consumer, events: int, size: int) -> Iterator[list[Message]]:
    """Messages in batches of `size`, `events` in all."""
    left = events
    batch: list[Message] = []
    while left:
        batch += reader.consume(min(size - len(batch), left - len(batch)), 0.2)
        if len(batch) in (size, left):
            yield batch
            left, batch = left - len(batch), []


def _fresh_table() -> None:
    """The landing table, empty and without memory of tokens."""
    with warehouse.writer("default") as client:
        client.command(f"DROP TABLE IF EXISTS `{settings().database}`.`{TOPIC.table}` SYNC")
        migrate.migrate(client, [TOPIC], [])


def _rows(client: Client) -> int:
    return int(client.query(f"SELECT count() FROM {TOPIC.table}").result_rows[0][0])


def _check_rows(events: int) -> None:
    with warehouse.reader() as client:
        if (rows := _rows(client)) != events:
            raise AssertionError(f"{rows} of {events} rows are stored")


def _consume_only(events: int) -> float:
    reader = _consumer()
    started = time.monotonic()
    for _ in _batches(reader, events, 50_000):
        pass
    seconds = time.monotonic() - started
    reader.close()
    return events / seconds


def _insert_only(events: int) -> float:
    """The loader's inserts, one thread a partition as the loader has them, of blocks that lie in memory."""
    reader = _consumer()
    lists: dict[int, tuple[list[int], list[int], list[bytes]]] = {p: ([], [], []) for p in range(TOPIC.partitions)}
    for batch in _batches(reader, events, 50_000):
        for message in batch:
            offsets, times_ms, payloads = lists[message.partition()]
            offsets.append(message.offset())
            times_ms.append(message.timestamp()[1])
            payloads.append(message.value())
    reader.close()
    _fresh_table()
    table = LandingTable(TOPIC, RegistryClient())
    size = settings().loader.max_rows

    def insert(partition: int) -> None:
        offsets, times_ms, payloads = lists[partition]
        for i in range(0, len(offsets), size):
            block = Block(offsets[i : i + size], times_ms[i : i + size], payloads[i : i + size])
            table.insert(partition, block, token(TOPIC.name, partition, Range(block.offsets[0], block.offsets[-1])))

    started = time.monotonic()
    with ThreadPoolExecutor(TOPIC.partitions) as pool:
        list(pool.map(insert, lists))
    seconds = time.monotonic() - started
    _check_rows(events)
    return events / seconds


class Meter:
    """Wall-clock and CPU time, by process, from when it is made."""

    def __init__(self, stack: LocalStack, client: int) -> None:
        self._pids = {s["name"]: s["pid"] for s in stack.status()["services"]} | {"client": client}
        self._used = self._cpu()
        self._started = time.monotonic()

    def figures(self, rows: int) -> dict[str, float]:
        """Rows/s, and CPU-seconds per million rows of all processes together and of each."""
        seconds = time.monotonic() - self._started
        used = {name: (now - self._used[name]) / rows * 1e6 for name, now in self._cpu().items()}
        apart = {f"cpu_s_per_million_{name}": value for name, value in used.items()}
        return {"rows_per_s": rows / seconds, "cpu_s_per_million": sum(used.values()), **apart}

    def _cpu(self) -> dict[str, float]:
        return {name: cpu_seconds([pid]) for name, pid in self._pids.items()}


def _loader(stack: LocalStack, events: int) -> dict[str, float]:
    """The real loader process, from its first assignment to the last row."""
    _fresh_table()
    admin = kafka.admin()  # its futures end only while it lives
    for future in admin.delete_consumer_groups([settings().topic("loader")]).values():
        if (error := future.exception(30)) is not None and "GROUP_ID_NOT_FOUND" not in str(error):
            raise error
    process = subprocess.Popen([sys.executable, "-m", "sinks.loader"], stderr=subprocess.DEVNULL, env=os.environ.copy())
    try:
        with warehouse.reader() as client:
            while not _status().get("partitions"):
                if process.poll() is not None:
                    raise AssertionError(f"the loader ended with code {process.returncode}")
                time.sleep(0.02)
            meter = Meter(stack, process.pid)
            while (rows := _rows(client)) < events:
                time.sleep(0.05)
            figures = meter.figures(events)
    finally:
        process.terminate()
        process.wait(30)
    if rows != events:
        raise AssertionError(f"the loader stored {rows} of {events} rows")
    return figures


def _status() -> dict[str, Any]:
    try:
        return dict(httpx.get(settings().loader.status_url + "/status", timeout=2).json())
    except httpx.HTTPError:
        return {}


def _peer(stack: LocalStack, insert: Insert, batch: int, stored: int) -> dict[str, float]:
    """A peer in this process."""
    _fresh_table()
    events = min(PEER_EVENTS, stored)
    reader = _consumer()
    meter = Meter(stack, os.getpid())
    for messages in _batches(reader, events, batch):
        insert(messages)
    figures = meter.figures(events)
    reader.close()
    _check_rows(events)
    return figures


def _row_insert() -> Insert:
    """Peer (a): what the clients' documentation shows: AvroDeserializer, rows, `client.insert`."""
    registry = SchemaRegistryClient({"url": settings().registry.url})
    deserialize = AvroDeserializer(registry)
    context = SerializationContext(settings().topic(TOPIC.name), MessageField.VALUE)
    client = warehouse.writer()
    names = [f["name"] for f in TOPIC.event.fields]
    columns = ["topic_partition", "topic_offset", "topic_time", "ingested_at", *names]

    def insert(messages: Sequence[Message]) -> None:
        now = datetime.now(UTC)
        rows = []
        for message in messages:
            record = deserialize(message.value(), context)
            at = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
            rows.append([message.partition(), message.offset(), at, now, *(record[name] for name in names)])
        client.insert(TOPIC.table, rows, column_names=columns)

    return insert


def _arrow_insert() -> Insert:
    """Peer (b): fastavro and Arrow, column by column, with the contract's types."""
    decode = Decoder(RegistryClient().schema)
    client = warehouse.writer()
    position = pa.schema([
        ("topic_partition", pa.int32()), ("topic_offset", pa.int64()), ("topic_time", UTC_MS), ("ingested_at", UTC_MS),
    ])  # fmt: skip
    kinds = {f["name"]: _arrow_type(f["type"]) for f in TOPIC.event.fields}
    schema = pa.schema([*position, *kinds.items()])

    def insert(messages: Sequence[Message]) -> None:
        records = [decode(message.value()) for message in messages]
        now_ms = time.time_ns() // 1_000_000
        columns = [
            [m.partition() for m in messages],
            [m.offset() for m in messages],
            [m.timestamp()[1] for m in messages],
            [now_ms] * len(messages),
            *([record[name] for record in records] for name in kinds),
        ]
        arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
        client.insert_arrow(TOPIC.table, pa.Table.from_arrays(arrays, schema=schema))

    return insert


def _arrow_type(kind: Any) -> pa.DataType:
    """Arrow's type of an Avro type that playback reports have."""
    match kind:
        case ["null", inner]:
            return _arrow_type(inner)
        case {"type": "array", "items": items}:
            return pa.list_(_arrow_type(items))
        case {"type": "map", "values": values}:
            return pa.map_(pa.string(), _arrow_type(values))
        case {"logicalType": "timestamp-millis"}:
            return UTC_MS
        case _:
            return ARROW[kind]
