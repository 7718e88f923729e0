"""What the warehouse makes of a statement before the engine sees it."""

from __future__ import annotations

import pytest

from sinks.warehouse.sql import Refused, check_read, check_sources, escaped, first_word, identifier, insert_with_data, literal

TABLE_FUNCTIONS = frozenset({"file", "url", "s3", "remote", "numbers", "values", "python", "input", "format"})


def test_an_insert_is_taken_apart_from_its_data() -> None:
    sql = b"INSERT INTO t (a, `FORMAT`) -- FORMAT CSV\n/* FORMAT */ FORMAT TSV \nFORMAT\tis data"
    insert = insert_with_data(sql)
    assert insert is not None
    assert insert.format == "TSV"
    assert sql[insert.data_start :] == b"FORMAT\tis data"
    assert insert.statement.endswith(b"/* FORMAT */ ")


def test_binary_data_may_begin_with_a_blank_line() -> None:
    sql = b"INSERT INTO t FORMAT RowBinary\n\n\x00 rest"
    insert = insert_with_data(sql)
    assert insert is not None
    assert sql[insert.data_start :] == b"\n\x00 rest"


def test_input_is_found_with_its_structure() -> None:
    sql = b"INSERT INTO t SELECT a FROM input('a String, b Enum8(\\'x\\' = 1)') FORMAT Avro\n..."
    insert = insert_with_data(sql)
    assert insert is not None
    assert insert.input_span is not None
    start, end = insert.input_span
    assert sql[start:end] == b"input('a String, b Enum8(\\'x\\' = 1)')"
    assert insert.structure == b"'a String, b Enum8(\\'x\\' = 1)'"


@pytest.mark.parametrize("sql", [b"SELECT 1 FORMAT CSV", b"INSERT INTO t VALUES (1)", b"INSERT INTO t SELECT 1", b"", b"-- nothing"])
def test_what_brings_no_data_is_left_whole(sql: bytes) -> None:
    assert insert_with_data(sql) is None


@pytest.mark.parametrize(
    "sql",
    [
        b"SELECT * FROM file('/etc/passwd')",
        b"SELECT * FROM FiLe ('/etc/passwd')",
        b"SELECT * FROM `file`('/etc/passwd')",
        b"SELECT * FROM \"url\"('http://x')",
        b"SELECT file('/etc/passwd')",
        b"DESCRIBE TABLE url('http://x')",
        b"SELECT 1 INTO OUTFILE '/tmp/x'",
        b"SELECT 1 INTO/**/OUTFILE '/tmp/x'",
        b"SELECT * FROM python('x')",
        b"SELECT 1 PARALLEL WITH SELECT 2",
    ],
)
def test_what_reaches_outside_is_refused(sql: bytes) -> None:
    with pytest.raises(Refused):
        check_sources(sql, TABLE_FUNCTIONS)


@pytest.mark.parametrize(
    "sql",
    [
        b"SELECT 'INTO OUTFILE', file FROM t",
        b"SELECT url, count() FROM playback_report GROUP BY url",
        b"SELECT * FROM numbers(3)",
        b"SELECT format('{}', 1)",
        b"WITH t AS (SELECT 1) SELECT * FROM t",
        b"SELECT name FROM system.settings WHERE name = 'x'",
    ],
)
def test_plain_reads_pass(sql: bytes) -> None:
    check_read(sql, TABLE_FUNCTIONS)


@pytest.mark.parametrize(
    "sql", [b"INSERT INTO t SELECT 1", b"DROP TABLE t", b"KILL QUERY WHERE 1 ASYNC", b"SET a = 1", b"USE x", b"", b"SYSTEM RELOAD"]
)
def test_what_is_no_read_is_refused(sql: bytes) -> None:
    with pytest.raises(Refused, match="is not a read"):
        check_read(sql, TABLE_FUNCTIONS)


def test_settings_in_a_read_are_refused() -> None:
    with pytest.raises(Refused, match="as URL parameters"):
        check_read(b"SELECT 1 SETTINGS max_threads = 4", TABLE_FUNCTIONS)


def test_words_and_quotes() -> None:
    assert first_word(b" /* x */ -- y\n sElEcT 1") == "SELECT"
    assert literal("it's \\") == "'it\\'s \\\\'"
    assert identifier("a`b") == "`a\\`b`"
    assert escaped("a\tb\n\\") == "a\\tb\\n\\\\"
