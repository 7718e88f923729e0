"""What the state of qoe_sessions holds of sessions that are over: nothing."""

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


def state_bytes() -> int:
    """The size of the newest complete checkpoint."""
    job_id = Cluster().jobs()[jobs()["qoe_sessions"].flink_name].job_id
    newest = checkpoints(job_id)["completed"]
    assert newest, "no checkpoint yet"
    return int(newest["state_size"])


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_a_session_that_is_over_leaves_nothing(stack: Settings) -> None:
    with world("timelines") as there:
        there.headrace("jobs", "deploy", "qoe_sessions")
        empty = eventually(state_bytes, within=60)
        there.put("playback.report", [event for n in range(SESSIONS) for event in events(PLAYED, f"session {n}")])
        eventually(lambda: len(there.found("playback.qoe_session")) == SESSIONS, within=60, every=1)
        eventually(lambda: state_bytes() > empty + SESSIONS * 100, within=30)
        there.mark("playback.report", round((START + timedelta(hours=1)).timestamp() * 1000))
        eventually(lambda: state_bytes() < empty + ROOM_BYTES, within=60)
