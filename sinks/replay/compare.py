"""Are the tables of two databases equal, row for row? Order-free, and blind to where in Kafka a row came from.

Both databases lie in one warehouse, so the comparison runs there: rows become 128-bit hashes, and their counts and sums must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from clickhouse_connect.driver.client import Client
from confluent_kafka import TopicPartition

from infra.base import kafka, warehouse
from infra.base.settings import settings
from schemas.project import POSITION_COLUMNS
from sinks.archive.layout import RecordedLog

FINAL_VIEWS = ("qoe_sessions", "experiment_statistics")
"""What a replay is judged by: views that hold the newest row of each session, however often it was written, and what sums have come to."""
DAY_MS = 86_400_000
FIRST_DIFFERENCES = 5
SILENCE_MS = 80_000
"""A session that falls silent is known to have ended a minute later; with the watermark's delay and some room."""
CLOSING_MS = 30_000
"""One that says it has ended is settled sooner: when it is let go, ten seconds later; with the same delay and room."""


class CannotCompare(Exception):
    """The tables cannot be compared; the message says which column or table is missing."""


@dataclass(frozen=True)
class TableComparison:
    """One table in both databases. `differences` are the first rows that one has and the other has not (or has more often)."""

    table: str
    rows_a: int
    rows_b: int
    different: int
    differences: list[dict[str, Any]] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """As many rows, and the same ones."""
        return self.different == 0


@dataclass(frozen=True)
class Comparison:
    """All tables of two databases."""

    database_a: str
    database_b: str
    tables: list[TableComparison]

    @property
    def equal(self) -> bool:
        """Every table is."""
        return all(table.equal for table in self.tables)

    @property
    def rows(self) -> int:
        """Rows that were compared."""
        return sum(table.rows_a for table in self.tables)

    def __str__(self) -> str:
        if self.equal:
            return f"{self.rows:,} rows equal ({', '.join(table.table for table in self.tables)})"
        lines = []
        for table in self.tables:
            rows = f"{table.rows_a:,} rows in {self.database_a}, {table.rows_b:,} in {self.database_b}"
            lines.append(f"{table.table}: {rows}, {table.different:,} different")
            lines += [f"  {difference}" for difference in table.differences]
        return "\n".join(lines)


def compare(database_a: str, database_b: str, tables: Sequence[str] = FINAL_VIEWS, *, until_ms: int | None = None) -> Comparison:
    """Compare `tables` (or views) of two databases of the warehouse; time markers and position columns are left out.

    `until_ms` leaves out rows whose event_time is later, for a database that is still being written; of sessions, those that it
    cannot have settled by then, and of days, those that were not over. Raises CannotCompare.
    """
    with warehouse.reader("default") as client:  # neither of the two, nor our own database, need exist
        return Comparison(database_a, database_b, [_table(client, database_a, database_b, table, until_ms) for table in tables])


def recorded_until_ms(log: RecordedLog) -> int | None:
    """Up to which event_time `log` holds what the recorded world knows: None where that world has stood still since.

    Where it went on, sessions that were open when the recording ended have ended there, and not in the replay.
    """
    consumer = kafka.consumer("compare")
    recorded = settings().within(log.namespace)
    try:
        for topic, read_to in log.read_to.items():
            for partition, offset in read_to.items():
                _, end = consumer.get_watermark_offsets(TopicPartition(recorded.topic(topic), partition), timeout=30)
                if end > offset:
                    return max((segment.to_ms for segment in log.segments), default=0)
    finally:
        consumer.close()
    return None


def _table(client: Client, a: str, b: str, table: str, until_ms: int | None) -> TableComparison:
    columns_a, columns_b = (_columns(client, database, table) for database in (a, b))
    if columns_a != columns_b:
        only = sorted(set(columns_a) ^ set(columns_b))
        raise CannotCompare(f"{table} has different columns in {a} and {b}: {', '.join(only)}; `headrace up` brings tables up to date")
    wanted = [name for name in columns_a if name not in POSITION_COLUMNS]
    condition = "NOT marker" if "marker" in columns_a else "1"
    if until_ms is not None and "event_time" in columns_a:
        settling_ms = f"if(end_reason = 'silence', {SILENCE_MS}, {CLOSING_MS})" if "end_reason" in columns_a else "0"
        condition += f" AND toUnixTimestamp64Milli(event_time) + {settling_ms} <= {int(until_ms)}"
    if until_ms is not None and "event_time" not in columns_a and "day" in columns_a:
        condition += f" AND (toInt64(toInt32(day)) + 1) * {DAY_MS} + {SILENCE_MS} <= {int(until_ms)}"
    row = ", ".join(f"`{name}`" for name in wanted)
    row_hash = f"sipHash128(tuple({row}))"  # of a tuple: the hash of several columns is NULL as soon as one of them is

    def hashes(database: str, sign: int) -> str:
        return f"SELECT {row_hash} AS hash, {sign} AS sign FROM `{database}`.`{table}` WHERE {condition}"

    both = f"{hashes(a, 1)} UNION ALL {hashes(b, -1)}"
    balance = f"SELECT hash, sum(sign) AS surplus FROM ({both}) GROUP BY hash HAVING surplus != 0"
    rows_a, rows_b = client.query(f"SELECT countIf(sign = 1), countIf(sign = -1) FROM ({both})").result_rows[0]
    different = client.query(f"SELECT sum(abs(surplus)) FROM ({balance})").result_rows[0][0]
    differences = []
    if different:
        for database, comparison in ((a, ">"), (b, "<")):
            answer = client.query(
                f"SELECT DISTINCT {row} FROM `{database}`.`{table}` WHERE {condition} AND {row_hash} IN "
                f"(SELECT hash FROM ({balance}) WHERE surplus {comparison} 0) ORDER BY {row} LIMIT {FIRST_DIFFERENCES}"
            )
            differences += [{"only_in": database, **dict(zip(wanted, found, strict=True))} for found in answer.result_rows]
    return TableComparison(table, rows_a, rows_b, int(different), differences)


def _columns(client: Client, database: str, table: str) -> dict[str, str]:
    """Column name → type, in the table's order."""
    answer = client.query(
        "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String} ORDER BY position",
        parameters={"database": database, "table": table},
    )
    if not answer.result_rows:
        raise CannotCompare(f"there is no {database}.{table}")
    return dict(answer.result_rows)
