"""Minutes: the error of their histograms, and that they are of the same sessions as the rest. Golden cases hold the job itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from producers.simulator.schedule import Plan
from streams.playback import minute, qoe
from tests.playback import minutes
from tests.producers.test_simulator import START_MS, by_session, eventful, flow


@given(st.integers(0, 2**40))
def test_a_value_is_read_back_within_the_stated_error(value: int) -> None:
    assert abs(minute.middle(minute.bucket(value)) - value) <= value * minute.RELATIVE_ERROR


@given(st.lists(st.integers(0, 2**40), min_size=2, max_size=2).map(sorted))
def test_buckets_are_in_the_order_of_values(two: list[int]) -> None:
    assert minute.bucket(two[0]) <= minute.bucket(two[1])


def test_minutes_add_up_to_sessions() -> None:
    """What a session comes to by its minutes is what it comes to as a whole."""
    arrivals, truths = flow(Plan(START_MS, sessions=40, duplicates=0.05, out_of_order=0.1), eventful())
    by_sid = by_session(arrivals)
    for true in truths:
        sid = true["sid"]
        sums: Counter[Any] = sum(minutes.minutes((r["event_time"], r) for r in by_sid[sid]).values(), Counter())
        session = qoe.session(map(qoe.Report.of, by_sid[sid]))
        assert session is not None
        assert sums["playing_ms"] == session["playing_ms"], sid
        assert (sums["failed_starts"], sums["exits_before_start"], sums["in_play_failures"]) == (
            session["failed_start"], session["exit_before_video_start"], session["in_play_failure"],
        )  # fmt: skip
