"""What `abr_features` counts: the plain functions come to what the job is held against, and to what one can reckon by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from streams.playback.features import Session, cells, counted, rows, segment_log, sessions
from tests.streams.test_golden import lines, milliseconds

GOLDEN = sorted((Path(__file__).parent / "golden" / "abr_features").iterdir())
MINUTE_MS = 60_000
EVENING_MS = 1_772_395_200_000  # 2026-03-01 20:00
WEEK_MS = 604_800_000
SEGMENT = {"e": "rr", "ot": "v", "rc": 200, "bytes": 1_000_000, "ttlb_ms": 2_000}


def session(**told: Any) -> Session:
    plain = {"began_ms": EVENING_MS, "over_ms": EVENING_MS + 1, "prefix": "192.0.2.0/24", "isp_asn": 64500, "region": "eu-1"}
    used = {"device_type": "tv", "network_type": "fibre", "mean": 80_000, "freedom": 0, "scatter": 0, "start_mean": None, "stalled": False}
    return Session(**{**plain, **used, **told})


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case.name)
def test_plain_functions_come_to_what_the_job_must(case: Path) -> None:
    def told(topic: str) -> list[dict[str, Any]]:
        own = {"sid": case.name}
        return [{**own, **line, "event_time": milliseconds(line["event_time"])} for line in lines(case / f"in.{topic}.jsonl")]

    expected = [{**line, "event_time": milliseconds(line["event_time"])} for line in lines(case / "expect.playback.abr_features.jsonl")]
    assert list(rows(sessions(told("playback.report"), told("delivery.steering")))) == expected


def test_by_hand() -> None:
    """Two sessions of a minute, and one a week later that weighs twice as much as they do then."""
    found = list(
        rows(
            [
                session(mean=70_000, start_mean=60_000, freedom=1, scatter=200_000_000),
                session(mean=90_000, stalled=True),
                session(over_ms=EVENING_MS + 1 + WEEK_MS, mean=100_000, freedom=2, scatter=100_000_000, start_mean=90_000),
            ]
        )
    )
    first, last = ([row for row in found if row["level"] == "PREFIX"][n] for n in (0, -1))
    assert (first["event_time"], first["hour"]) == (EVENING_MS + MINUTE_MS, 18)
    assert (first["sessions"], first["mean_log_throughput"], first["var_log_throughput"], first["within_log_throughput"]) == (2, 8, 1, 2)
    assert (first["starts"], first["start_mean_log_throughput"], first["start_var_log_throughput"], first["stalled"]) == (1, 6, 0, 0.5)
    assert (last["sessions"], last["mean_log_throughput"], last["stalled"]) == (2, 9, 0.25)
    assert last["var_log_throughput"] == pytest.approx((0.5 * 49 + 0.5 * 81 + 100) / 2 - 81)
    assert last["within_log_throughput"] == pytest.approx((0.5 * 2 + 1) / (0.5 * 1 + 2))
    assert (last["starts"], last["start_mean_log_throughput"]) == (1.5, 8)


def test_of_segments() -> None:
    mean, freedom, scatter, start_mean = counted([(8.0, True), (8.0, True), (9.5, False)])
    assert (mean, freedom, scatter, start_mean) == (85_000, 2, 150_000_000, 80_000)


@pytest.mark.parametrize(
    "lacking",
    [{"bytes": 65_535}, {"bytes": None}, {"ttlb_ms": 0}, {"ttlb_ms": None}, {"rc": 404}, {"ot": "a"}, {"e": "t"}],
    ids=str,
)
def test_what_is_no_segment_is_left_out(lacking: dict[str, Any]) -> None:
    assert segment_log(SEGMENT) == pytest.approx(math.log(4_000_000))
    assert segment_log({**SEGMENT, **lacking}) is None


def test_whatever_is_unknown_of_a_session_has_no_cell() -> None:
    unknown = session(prefix="", isp_asn=None, region="")
    assert {cell.level for cell in cells(unknown)} == {"GLOBAL"}
    assert len(cells(session())) == len({cell.item for cell in cells(session())}) == 7


@pytest.mark.parametrize("year_ms", [0, 4_102_444_800_000], ids=["1970", "2100"])
def test_times_far_away_are_counted_too(year_ms: int) -> None:
    found = list(rows([session(began_ms=year_ms, over_ms=year_ms + WEEK_MS * week) for week in range(3)]))
    assert [row["sessions"] for row in found if row["level"] == "PREFIX"] == [1, 2, 3]
