"""Projections: every contract type as Flink and ClickHouse have it, and every landing table of the installation is taken by ClickHouse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from schemas.catalogue import catalogue
from schemas.project import avro_schema_text, flink_table, landing_table
from tests.schemas.contracts import every_type, topic

FLINK = """CREATE TABLE `lab.thing` (
  `event_id` STRING NOT NULL,
  `event_time` TIMESTAMP(3) NOT NULL,
  `producer_id` STRING NOT NULL,
  `epoch` INT NOT NULL,
  `seq` BIGINT NOT NULL,
  `correlation_id` STRING NOT NULL,
  `marker` BOOLEAN NOT NULL,
  `id` STRING NOT NULL,
  `a_string` STRING NOT NULL,
  `an_int` INT NOT NULL,
  `a_long` BIGINT NOT NULL,
  `a_float` FLOAT NOT NULL,
  `a_double` DOUBLE NOT NULL,
  `a_boolean` BOOLEAN NOT NULL,
  `a_bytes` BYTES NOT NULL,
  `a_date` DATE NOT NULL,
  `an_instant` TIMESTAMP(3) NOT NULL,
  `a_decimal` DECIMAL(9, 2) NOT NULL,
  `a_map` MAP<STRING NOT NULL, BIGINT NOT NULL> NOT NULL,
  `an_array` ARRAY<STRING NOT NULL> NOT NULL,
  `optionals` ARRAY<INT> NOT NULL,
  `a_record` ROW<`depth` INT NOT NULL, `state` STRING> NOT NULL,
  `an_optional` BIGINT,
  `an_optional_instant` TIMESTAMP(3),
  `a_symbol` STRING NOT NULL,
  `an_optional_symbol` STRING,
  `a_label` STRING NOT NULL,
  `value` DOUBLE NOT NULL,
  `order` STRING NOT NULL,
  `m` BOOLEAN NOT NULL,
  WATERMARK FOR `event_time` AS `event_time` - INTERVAL '1.5' SECOND,
  PRIMARY KEY (`id`) NOT ENFORCED
) WITH (
  'connector' = 'kafka',
  'topic' = 'it''s'
)"""

CLICKHOUSE = """CREATE TABLE IF NOT EXISTS `headrace`.`lab_thing` (
  `topic_partition` Int32,
  `topic_offset` Int64,
  `topic_time` DateTime64(3, 'UTC'),
  `ingested_at` DateTime64(3, 'UTC'),
  `event_id` String,
  `event_time` DateTime64(3, 'UTC'),
  `producer_id` LowCardinality(String),
  `epoch` Int32,
  `seq` Int64,
  `correlation_id` String,
  `marker` Bool,
  `id` String,
  `a_string` String,
  `an_int` Int32,
  `a_long` Int64,
  `a_float` Float32,
  `a_double` Float64,
  `a_boolean` Bool,
  `a_bytes` String,
  `a_date` Date32,
  `an_instant` DateTime64(3, 'UTC'),
  `a_decimal` Decimal(9, 2),
  `a_map` Map(String, Int64),
  `an_array` Array(String),
  `optionals` Array(Nullable(Int32)),
  `a_record` Tuple(depth Int32, state Nullable(String)),
  `an_optional` Nullable(Int64),
  `an_optional_instant` Nullable(DateTime64(3, 'UTC')),
  `a_symbol` LowCardinality(String),
  `an_optional_symbol` LowCardinality(Nullable(String)),
  `a_label` LowCardinality(String),
  `value` Float64,
  `order` String,
  `m` Bool
) ENGINE = MergeTree
PARTITION BY toYYYYMM(topic_time)
ORDER BY (`order`, `topic_partition`, `topic_offset`)
TTL toDateTime(topic_time) + INTERVAL 30 DAY
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'It\\'s a test.'"""


def test_the_flink_table_of_every_type(tmp_path: Path) -> None:
    thing = topic(tmp_path, *every_type(), watermark_s=1.5)
    assert flink_table(thing, {"connector": "kafka", "topic": "it's"}, upsert_key=True) == FLINK
    assert "WATERMARK" not in flink_table(thing, {}, watermark=False)
    assert flink_table(thing, {}, name="late").startswith("CREATE TABLE `late`")


def test_the_landing_table_of_every_type(tmp_path: Path) -> None:
    thing = topic(tmp_path, *every_type(), order_by=["order"], description="It's a test.")
    without_comments = "\n".join(line.split(" COMMENT '")[0].rstrip(",") for line in landing_table(thing, "headrace", 30).split("\n")[1:-5])
    expected = "\n".join(line.rstrip(",") for line in CLICKHOUSE.split("\n")[1:-5])
    assert without_comments == expected
    assert landing_table(thing, "headrace", 30).split("\n")[-5:] == CLICKHOUSE.split("\n")[-5:]
    assert "TTL" not in landing_table(thing, "headrace", 0)


def test_clickhouse_takes_every_landing_table(tmp_path: Path) -> None:
    thing = topic(tmp_path, *every_type(), description="It's a \\ test.")
    statements = [landing_table(t, "default", 30) for t in (*catalogue().landed(), thing)]
    comments = "SELECT comment FROM system.tables WHERE name = 'lab_thing'"
    program = "import chdb.session, sys\ns = chdb.session.Session()\nfor q in sys.stdin.read().split('\\0'): print(s.query(q))"
    asked = subprocess.run(  # a process of its own: there is one embedded ClickHouse a process
        [sys.executable, "-c", program],
        input="\0".join([*statements, comments]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (asked.returncode, asked.stdout.strip()) == (0, '"It\'s a \\ test."'), asked.stderr


def test_the_schema_text_is_one_line() -> None:
    for declared in catalogue().topics.values():
        assert "\n" not in avro_schema_text(declared)
