"""The recorded log on disk, without a backbone: what is written is read, and damage is named."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sinks.archive import Damaged, RecordedLog
from sinks.archive.layout import SegmentWriter
from tests.sinks.recorded import PARTITIONS, TOPIC, by_partition, kept, rows_of


@pytest.fixture
def log(tmp_path: Path) -> RecordedLog:
    """A log of 50 rows."""
    log = RecordedLog(tmp_path, "", {}, {TOPIC: PARTITIONS})
    for partition in range(PARTITIONS):
        writer = SegmentWriter(tmp_path, TOPIC, partition)
        rows = [row for p, row in rows_of(50, 1) if p == partition]
        writer.write(rows[:10])
        writer.write(rows[10:])
        log.segments.append(writer.finish())
    log.save()
    return log


def first_segment(log: RecordedLog) -> Path:
    return log.path / log.segments[0].file


def test_what_is_written_is_read(log: RecordedLog) -> None:
    assert kept(log.path) == by_partition(rows_of(50, 1))
    assert RecordedLog.open(log.path) == log


def test_any_parquet_reader_can_open_it(log: RecordedLog) -> None:
    table = pq.read_table(log.path / TOPIC)
    assert table.num_rows == 50
    assert set(table["topic"].to_pylist()) == {TOPIC}
    assert sorted(set(table["partition"].to_pylist())) == [0, 1]


def test_a_flipped_byte_is_named(log: RecordedLog) -> None:
    segment = first_segment(log)
    content = bytearray(segment.read_bytes())
    content[len(content) // 4] ^= 0xFF
    segment.write_bytes(content)
    with pytest.raises(Damaged, match=r"0-0+\.parquet: damaged after \d+ of 25 records"):
        kept(log.path)


def test_half_a_segment_is_named(log: RecordedLog) -> None:
    segment = first_segment(log)
    segment.write_bytes(segment.read_bytes()[:500])
    with pytest.raises(Damaged, match="damaged after 0 of 25 records"):
        kept(log.path)


def test_a_segment_of_another_log_is_named(log: RecordedLog) -> None:
    writer = SegmentWriter(log.path, TOPIC, 0)
    writer.write([row for p, row in rows_of(8, 1) if p == 0])
    writer.finish()
    with pytest.raises(Damaged, match=r"holds 4 records, log\.json says 25"):
        kept(log.path)


def test_a_missing_segment_is_named(log: RecordedLog) -> None:
    first_segment(log).unlink()
    with pytest.raises(Damaged, match=rf"is missing: 25 records of {TOPIC} are gone"):
        RecordedLog.open(log.path)


@pytest.mark.parametrize("text", ['{"format": 1', "[]", '{"format": 1}', '{"format": 99}'])
def test_a_damaged_description_is_named(log: RecordedLog, text: str) -> None:
    (log.path / "log.json").write_text(text)
    with pytest.raises(Damaged, match=r"log\.json: (not a description|format 99)"):
        RecordedLog.open(log.path)


def test_a_directory_that_is_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a recorded log"):
        RecordedLog.open(tmp_path)


def test_sweeping_keeps_what_the_log_names(log: RecordedLog) -> None:
    (log.path / TOPIC / ".0.writing").write_bytes(b"half a segment")
    log.sweep()
    assert kept(log.path) == by_partition(rows_of(50, 1))
    assert len(list((log.path / TOPIC).iterdir())) == 2
