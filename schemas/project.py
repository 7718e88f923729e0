"""What is derived from a contract: the Flink table, the ClickHouse landing table. Pure functions from topic to text.

The type table is the one that was tried end to end (fastavro → registry → Flink SQL → ClickHouse):

    Avro              Flink             ClickHouse
    string            STRING            String, LowCardinality(String) with `symbols` or `low_cardinality`
    int / long        INT / BIGINT      Int32 / Int64
    float / double    FLOAT / DOUBLE    Float32 / Float64
    boolean           BOOLEAN           Bool
    bytes             BYTES             String
    date              DATE              Date32
    timestamp-millis  TIMESTAMP(3)      DateTime64(3, 'UTC')
    decimal(p, s)     DECIMAL(p, s)     Decimal(p, s)
    array<T>          ARRAY<T>          Array(T)
    map<T>            MAP<STRING, T>    Map(String, T)
    record            ROW<...>          Tuple(...)
    ["null", T]       T                 Nullable(T)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from schemas.catalogue import Topic

FLINK = {"string": "STRING", "int": "INT", "long": "BIGINT", "float": "FLOAT", "double": "DOUBLE", "boolean": "BOOLEAN", "bytes": "BYTES"}
CLICKHOUSE = {
    "string": "String", "int": "Int32", "long": "Int64", "float": "Float32", "double": "Float64", "boolean": "Bool", "bytes": "String",
}  # fmt: skip

POSITION_COLUMNS = {
    "topic_partition": "Int32",
    "topic_offset": "Int64",
    "topic_time": "DateTime64(3, 'UTC')",
    "ingested_at": "DateTime64(3, 'UTC')",
}
"""Columns of every landing table that say where in Kafka a row came from and when it was stored."""


def flink_type(kind: Any) -> str:
    """Flink SQL type of an Avro type; everything but ["null", T] is NOT NULL, inside ROW, ARRAY and MAP too."""
    if isinstance(kind, list):
        return _flink_bare(kind[1])
    return _flink_bare(kind) + " NOT NULL"


def _flink_bare(kind: Any) -> str:
    if isinstance(kind, str):
        return FLINK[kind]
    logical = kind.get("logicalType")
    if logical == "timestamp-millis":
        return "TIMESTAMP(3)"
    if logical == "date":
        return "DATE"
    if logical == "decimal":
        return f"DECIMAL({kind['precision']}, {kind.get('scale', 0)})"
    if kind["type"] == "array":
        return f"ARRAY<{flink_type(kind['items'])}>"
    if kind["type"] == "map":
        return f"MAP<STRING NOT NULL, {flink_type(kind['values'])}>"
    if kind["type"] == "record":
        return "ROW<" + ", ".join(f"`{f['name']}` {flink_type(f['type'])}" for f in kind["fields"]) + ">"
    return _flink_bare(kind["type"])


def clickhouse_type(item: Mapping[str, Any]) -> str:
    """ClickHouse type of an Avro field (the field, not its type: `symbols` and `low_cardinality` count)."""
    return _clickhouse(item["type"], low=bool(item.get("symbols") or item.get("low_cardinality")))


def _clickhouse(kind: Any, low: bool = False) -> str:
    if isinstance(kind, list):
        inner = _clickhouse(kind[1])
        return f"LowCardinality(Nullable({inner}))" if low and inner == "String" else f"Nullable({inner})"
    if isinstance(kind, str):
        return f"LowCardinality({CLICKHOUSE[kind]})" if low and kind == "string" else CLICKHOUSE[kind]
    logical = kind.get("logicalType")
    if logical == "timestamp-millis":
        return "DateTime64(3, 'UTC')"
    if logical == "date":
        return "Date32"
    if logical == "decimal":
        return f"Decimal({kind['precision']}, {kind.get('scale', 0)})"
    if kind["type"] == "array":
        return f"Array({_clickhouse(kind['items'])})"
    if kind["type"] == "map":
        return f"Map(String, {_clickhouse(kind['values'])})"
    if kind["type"] == "record":
        return "Tuple(" + ", ".join(f"{f['name']} {_clickhouse(f['type'])}" for f in kind["fields"]) + ")"  # as system.columns shows it
    return _clickhouse(kind["type"])


def flink_table(
    topic: Topic,
    connector: Mapping[str, str],
    name: str | None = None,
    watermark: bool = True,
    upsert_key: bool = False,
    arrival: bool = False,
) -> str:
    """CREATE TABLE of a topic for Flink: columns, watermark, and `connector` as its WITH options.

    `arrival`: also when and where in its partition Kafka took it, as the read-only columns `arrived_at` and `topic_offset`.

    `name` is the table's name in the job (default: the topic's), `connector` comes from settings (see streams.environment).
    """
    columns = [f"  `{f['name']}` {flink_type(f['type'])}" for f in topic.event.fields]
    if arrival:
        columns.append("  `arrived_at` TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL")
        columns.append("  `topic_offset` BIGINT METADATA FROM 'offset' VIRTUAL")
    if watermark and topic.watermark_s is not None:
        columns.append(f"  WATERMARK FOR `event_time` AS `event_time` - INTERVAL '{topic.watermark_s:g}' SECOND")
    if upsert_key:
        columns.append(f"  PRIMARY KEY (`{topic.key}`) NOT ENFORCED")
    options = ",\n".join(f"  '{k}' = '{_quote(v)}'" for k, v in connector.items())
    return f"CREATE TABLE `{name or topic.name}` (\n" + ",\n".join(columns) + f"\n) WITH (\n{options}\n)"


def avro_schema_text(topic: Topic) -> str:
    """The registered schema as one line of JSON, for 'avro-confluent.schema' and the registry."""
    return json.dumps(topic.event.schema, separators=(",", ":"))


def landing_columns(topic: Topic) -> dict[str, str]:
    """Column name → ClickHouse type of a topic's landing table: position first, then the contract's fields."""
    return POSITION_COLUMNS | {f["name"]: clickhouse_type(f) for f in topic.event.fields}


def landing_table(topic: Topic, database: str, ttl_days: int, engine: str = "MergeTree", name: str = "") -> str:
    """CREATE TABLE of a topic's landing table.

    Partitioned by Kafka timestamp, never by event_time: what an insert may span is bounded, and event_time is the producer's word.
    The deduplication window covers far more blocks than are ever in flight. `name`: another than the topic's.
    """
    columns = ",\n".join(
        f"  `{name}` {kind}" + (f" COMMENT '{_escape(doc)}'" if (doc := _doc(topic, name)) else "")
        for name, kind in landing_columns(topic).items()
    )
    ttl = f"\nTTL toDateTime(topic_time) + INTERVAL {ttl_days} DAY" if ttl_days else ""
    order = ", ".join(f"`{name}`" for name in dict.fromkeys((*topic.order_by, "topic_partition", "topic_offset")))
    return (
        f"CREATE TABLE IF NOT EXISTS `{database}`.`{name or topic.table}` (\n{columns}\n) ENGINE = {engine}\n"
        f"PARTITION BY toYYYYMM(topic_time)\nORDER BY ({order}){ttl}\n"
        f"SETTINGS non_replicated_deduplication_window = 10000\nCOMMENT '{_escape(topic.description)}'"
    )


def _doc(topic: Topic, name: str) -> str:
    return next((f["doc"] for f in topic.event.fields if f["name"] == name), "")


def _quote(text: str) -> str:
    """For a Flink string literal, where a backslash is a backslash."""
    return text.replace("'", "''")


def _escape(text: str) -> str:
    """For a ClickHouse string literal, where a backslash escapes."""
    return text.replace("\\", "\\\\").replace("'", "\\'")
