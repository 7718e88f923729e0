"""The quality of a session: cases written by hand, and that neither order nor repetition matters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import catalogue
from streams.playback import qoe, timeline
from tests.playback.cases import CASES, reports


def pack(many: list[dict[str, Any]]) -> str:
    """What the SQL expression PACKED makes of reports; the golden cases of the job hold that expression itself."""
    known = map(qoe.Report.of, many)
    return timeline.BETWEEN_REPORTS.join(timeline.BETWEEN_FIELDS.join("" if v is None else str(v) for v in report) for report in known)


def session(many: list[dict[str, Any]]) -> dict[str, Any] | None:
    return qoe.session(map(qoe.Report.of, many))


def test_there_are_thirty_cases_with_different_names() -> None:
    assert len({case["case"] for case in CASES}) == len(CASES) >= 30


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['clause']}: {case['case']}")
def test_a_session_has_the_metrics_written_by_hand(case: dict[str, Any]) -> None:
    found = session(reports(case))
    assert found is not None
    assert {name: found[name] for name in case["expect"]} == case["expect"]


@given(st.data(), st.sampled_from(CASES))
def test_order_and_repetition_change_nothing(data: st.DataObject, case: dict[str, Any]) -> None:
    once = reports(case)
    shuffled = data.draw(st.permutations(once + data.draw(st.lists(st.sampled_from(once), max_size=20))))
    assert session(shuffled) == session(once)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_a_packed_timeline_says_the_same(case: dict[str, Any]) -> None:
    assert qoe.session(timeline.unpack(pack(reports(case)))) == session(reports(case))


def test_a_timeline_with_a_torn_piece_loses_only_that_piece() -> None:
    whole = pack(reports(CASES[0]))
    assert qoe.session(timeline.unpack(whole + timeline.BETWEEN_REPORTS + "torn")) == session(reports(CASES[0]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_a_segment_that_says_nothing_of_the_playback_may_be_packed_short(case: dict[str, Any]) -> None:
    whole = pack(reports(case)).split(timeline.BETWEEN_REPORTS)
    kept = len(timeline.IN_SHORT)
    short = [timeline.BETWEEN_FIELDS.join(f[:kept] if not any(f[kept:]) else f) for f in (r.split(timeline.BETWEEN_FIELDS) for r in whole)]
    assert timeline.unpack(timeline.BETWEEN_REPORTS.join(short)) == timeline.unpack(timeline.BETWEEN_REPORTS.join(whole))


def test_segments_alone_are_no_session() -> None:
    assert session([{"event_id": "r0", "event_time": 0, "sn": 0, "e": "rr", "ot": "v"}]) is None
    assert session([]) is None


def test_reports_beyond_the_bound_are_not_looked_at() -> None:
    beyond = {"event_id": "far", "event_time": 999, "sn": qoe.MOST_REPORTS, "e": "ps", "sta": "p"}
    assert session([*reports(CASES[0]), beyond]) == session(reports(CASES[0]))


def test_the_columns_of_the_table_function_are_those_of_the_contract() -> None:
    quality = pytest.importorskip("streams.playback.quality", reason="PyFlink is not installed")
    own = [f["name"] for f in catalogue().events["playback.qoe_session"].fields]
    assert list(quality.TYPES) == own[own.index("sid") + 1 :]
