"""The Faust worker on the real stack, killed with sessions in its table: it answers as before."""

from __future__ import annotations

import secrets
import time
from typing import Any

import httpx2 as httpx
import pytest

from infra.base.settings import Settings
from infra.stack.local import LocalStack
from schemas.catalogue import catalogue
from schemas.envelope import marker
from tests.kit import eventually, kill
from tests.world import World

TOPIC = catalogue().topic("playback.session_state")
AHEAD_MS = 60_000
"""By how much the sessions' clocks are ahead: what is silent for 90 s is forgotten, and that is not what is tested here."""


def state(sid: str, sta: str, at_ms: int) -> dict[str, Any]:
    own = {"event_id": f"{sid}-{sta}", "event_time": at_ms, "producer_id": "test", "epoch": 0, "seq": -1}
    return {**marker(TOPIC.event), **own, "marker": False, "sid": sid, "sta": sta, "cid": f"title of {sid}"}


@pytest.mark.stack
def test_a_killed_worker_answers_as_before(stack: Settings) -> None:
    there, local, mark = World(), LocalStack(stack.state_dir), secrets.token_hex(4)
    now_ms = time.time_ns() // 1_000_000 + AHEAD_MS
    playing, ended = [f"{mark}-playing-{n}" for n in range(40)], [f"{mark}-ended-{n}" for n in range(10)]

    def answers() -> dict[str, tuple[int, Any]]:
        with httpx.Client(base_url=stack.edge.live_sessions_url, timeout=10) as client:
            found = {sid: client.get(f"/sessions/{sid}") for sid in (*playing, *ended)}
        return {sid: (answer.status_code, answer.json()) for sid, answer in found.items()}

    def states() -> dict[str, Any]:
        return {sid: said.get("sta") for sid, (_, said) in answers().items()}

    there.put(TOPIC.name, [state(sid, "s", now_ms) for sid in (*playing, *ended)])
    there.put(TOPIC.name, [state(sid, "p", now_ms + 1) for sid in (*playing, *ended)])
    eventually(lambda: set(states().values()) == {"p"})
    there.put(TOPIC.name, [state(sid, "e", now_ms + 2) for sid in ended])
    eventually(lambda: states() == {**dict.fromkeys(playing, "p"), **dict.fromkeys(ended)})
    before = answers()

    kill(local, "live-sessions")
    assert answers() == before

    # What closed stays closed, though an older state of it comes again; what plays goes on.
    there.put(TOPIC.name, [state(sid, "r", now_ms + 1) for sid in ended])
    there.put(TOPIC.name, [state(sid, "r", now_ms + 3) for sid in playing])
    eventually(lambda: states() == {**dict.fromkeys(playing, "r"), **dict.fromkeys(ended)})
