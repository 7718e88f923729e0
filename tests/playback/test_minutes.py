"""Minutes: the job against a plain function over all reports, and the histograms' error."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.base.settings import Settings
from producers.simulator.outputs import TOPIC
from producers.simulator.schedule import Plan
from streams.playback import minute, qoe
from tests.kit import eventually
from tests.playback import minutes
from tests.producers.test_simulator import START_MS, by_session, eventful, flow
from tests.streams.test_golden import has_taken
from tests.streams.test_timelines import ROOM_BYTES, state_bytes
from tests.world import World, world

PARTS = 2
"""The log is written in parts, so that what overtakes the end of one is late for minutes that have come out."""
LATER_MS = 3_600_000


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


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_the_job_counts_what_the_plain_function_counts(stack: Settings) -> None:
    """Sessions in which much goes wrong, with reports that are late, out of order and repeated: rows add up whatever was known when."""
    plan = Plan(START_MS, sessions=120, per_second=500, duplicates=0.1, out_of_order=0.2, late=0.05)
    arrivals, _ = flow(plan, eventful(), seed=4)
    names = arrivals[0].keys() - {"at_ms", "made_ms"}
    expected = minutes.minutes((arrival["at_ms"], arrival) for arrival in arrivals)
    with world("minutes") as there:
        there.headrace("jobs", "deploy", "qoe_minute")
        empty = eventually(lambda: state_bytes("qoe_minute"), within=60)
        size = len(arrivals) // PARTS + 1
        for part in (arrivals[i : i + size] for i in range(0, len(arrivals), size)):
            there.arrive(TOPIC, ((arrival["at_ms"], {name: arrival[name] for name in names}) for arrival in part))
            there.mark(TOPIC, part[-1]["at_ms"])
            eventually(lambda: has_taken("qoe_minute", TOPIC), within=60)
        there.mark(TOPIC, arrivals[-1]["at_ms"] + LATER_MS)
        eventually(lambda: counted(there) == expected, within=60, every=1)
        rows = there.found("playback.qoe_minute")
        assert any(row["playing_ms"] < 0 for row in rows), "nothing was late for a minute that had come out"
        starts = Counter[Any]()
        for row in there.found("playback.playback_starts"):
            starts.update({(row["minute"], row["cid"], row["region"], name): row[name] for name in ("attempts", "starts", "failed_starts")})
        assert starts == demand(rows)
        eventually(lambda: state_bytes("qoe_minute") < empty + ROOM_BYTES, within=60)  # sessions that are over leave nothing


def counted(there: World) -> dict[minutes.Cell, Counter[Any]]:
    """What the job's rows add up to, without what came to nothing."""
    found: dict[minutes.Cell, Counter[Any]] = defaultdict(Counter)
    for row in there.found("playback.qoe_minute"):
        cell, sums = minutes.of_row({**row, "minute": round(row["minute"].timestamp() * 1000)})
        found[cell].update(sums)
    return {cell: kept for cell, sums in found.items() if (kept := Counter({name: value for name, value in sums.items() if value}))}


def demand(rows: list[dict[str, Any]]) -> Counter[Any]:
    """The same numbers as playback.playback_starts, from rows of playback.qoe_minute."""
    sums = Counter[Any]()
    for row in rows:
        sums.update({(row["minute"], row["cid"], row["region"], name): row[name] for name in ("attempts", "starts", "failed_starts")})
    return Counter({key: value for key, value in sums.items() if value})
