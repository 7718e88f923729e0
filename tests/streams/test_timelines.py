"""What the state of the jobs in Java holds of sessions that are over: nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from infra.base.settings import Settings
from streams.cluster import Cluster
from streams.environment import jobs
from tests.kit import checkpoints, eventually
from tests.playback.cases import CASES, START, events
from tests.world import world

PLAYED = next(case for case in CASES if case["case"] == "one rebuffering")
SESSIONS = 1_000
ROOM_BYTES = 20_000
"""A fraction of what the numbers of so many sessions take, without their reports."""


JOBS = ("qoe_sessions", "qoe_minute")


def state_bytes(job: str) -> int:
    """The size of a job's newest complete checkpoint."""
    job_id = Cluster().jobs()[jobs()[job].flink_name].job_id
    newest = checkpoints(job_id)["completed"]
    assert newest, "no checkpoint yet"
    return int(newest["state_size"])


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_a_session_that_is_over_leaves_nothing(stack: Settings) -> None:
    with world("timelines") as there:
        there.headrace("jobs", "deploy", *JOBS)
        empty = {job: eventually(lambda job=job: state_bytes(job), within=60) for job in JOBS}  # type: ignore[misc]
        there.put(
            "playback.report", [event for n in range(SESSIONS) for event in events(PLAYED, f"session {n}")], round(START.timestamp() * 1000)
        )
        eventually(lambda: len(there.found("playback.qoe_session")) == SESSIONS, within=60, every=1)
        eventually(lambda: all(state_bytes(job) > empty[job] + SESSIONS * 100 for job in JOBS), within=30)
        there.mark("playback.report", round((START + timedelta(hours=1)).timestamp() * 1000))
        eventually(lambda: all(state_bytes(job) < empty[job] + ROOM_BYTES for job in JOBS), within=60)
