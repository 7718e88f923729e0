"""Comparing two databases: equal whatever the order and the positions, and the first differences named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from infra.base import warehouse
from sinks.replay import CannotCompare, compare

COLUMNS = """topic_partition Int32, topic_offset Int64, event_time DateTime64(3, 'UTC'), marker Bool, sid String, ratio Float64,
    cid Nullable(String)"""
ROWS = """number % 3, number, fromUnixTimestamp64Milli(toInt64(1700000000000 + number)), number % 10 = 9, toString(intDiv(number, 2)),
    number / 3, NULL"""


@pytest.fixture
def pair(place: str) -> Iterator[tuple[Client, str, str]]:
    """Two databases whose table `facts` holds the same 100 rows, a tenth of them markers, at different positions."""
    client, a, b = warehouse.writer("default"), f"{place}_a", f"{place}_b"
    for database in (a, b):
        client.command(f"CREATE DATABASE {database}")
        client.command(f"CREATE TABLE {database}.facts ({COLUMNS}) ENGINE = MergeTree ORDER BY sid")
    client.command(f"INSERT INTO {a}.facts SELECT {ROWS} FROM numbers(100)")
    client.command(
        f"INSERT INTO {b}.facts SELECT * REPLACE (topic_offset + 7 AS topic_offset) FROM (SELECT * FROM {a}.facts ORDER BY ratio DESC)"
    )
    yield client, a, b
    client.close()


def test_equal_tables_are_equal_in_whatever_order(pair: tuple[Client, str, str]) -> None:
    _, a, b = pair
    result = compare(a, b, ["facts"])
    assert result.equal
    assert str(result) == "90 rows equal (facts)"


def test_a_different_row_is_shown_from_both_sides(pair: tuple[Client, str, str]) -> None:
    client, a, b = pair
    client.command(f"ALTER TABLE {b}.facts UPDATE cid = 'title' WHERE ratio = 4 SETTINGS mutations_sync = 1")
    result = compare(a, b, ["facts"])
    (table,) = result.tables
    assert (table.rows_a, table.rows_b, table.different) == (90, 90, 2)
    assert [(row["only_in"], row["sid"], row["cid"]) for row in table.differences] == [(a, "6", None), (b, "6", "title")]
    assert "90 rows in" in str(result)


def test_a_row_too_many_is_a_difference(pair: tuple[Client, str, str]) -> None:
    client, a, b = pair
    client.command(f"INSERT INTO {b}.facts SELECT * FROM {b}.facts WHERE ratio = 4")
    (table,) = compare(a, b, ["facts"]).tables
    assert (table.rows_b, table.different) == (91, 1)
    assert [row["only_in"] for row in table.differences] == [b]


def test_two_differences_do_not_cancel_out(pair: tuple[Client, str, str]) -> None:
    client, a, b = pair
    client.command(f"INSERT INTO {b}.facts SELECT * FROM {b}.facts WHERE ratio = 4")
    client.command(f"ALTER TABLE {b}.facts DELETE WHERE ratio = 5 SETTINGS mutations_sync = 1")
    assert not compare(a, b, ["facts"]).equal


def test_rows_after_a_moment_are_left_out(pair: tuple[Client, str, str]) -> None:
    client, a, b = pair
    client.command(f"ALTER TABLE {b}.facts DELETE WHERE ratio >= 20 SETTINGS mutations_sync = 1")
    assert not compare(a, b, ["facts"]).equal
    assert compare(a, b, ["facts"], until_ms=1_700_000_000_059).rows == 54


def test_what_cannot_be_compared_is_named(pair: tuple[Client, str, str]) -> None:
    client, a, b = pair
    with pytest.raises(CannotCompare, match=r"there is no .*_a\.nothing"):
        compare(a, b, ["nothing"])
    client.command(f"ALTER TABLE {b}.facts ADD COLUMN more Int32")
    with pytest.raises(CannotCompare, match=r"different columns in .*: more"):
        compare(a, b, ["facts"])
