"""The agent on the real stack: a server that stops is down though its process lives, and an equal choice again when it goes on."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from infra.base import warehouse
from infra.base.settings import Settings
from infra.stack.local import LocalStack
from tests.kit import eventually

OCA = "oca-3"
NEWEST = "SELECT oca_id, argMax(state, event_time), argMax(reason, event_time) FROM delivery_oca_health WHERE NOT marker GROUP BY oca_id"


def newest() -> dict[str, tuple[str, str]]:
    """The last verdict on each server."""
    return {oca_id: (state, reason) for oca_id, state, reason in warehouse.reader().query(NEWEST).result_rows}


def is_state(state: str) -> Any:
    """The reason, once the server is in this state."""
    said, reason = newest().get(OCA, ("", ""))
    return reason if said == state else None


@pytest.mark.stack
def test_a_server_that_hangs_is_down_and_comes_back(stack: Settings) -> None:
    eventually(lambda: {state for state, _ in newest().values()} == {"UP"} and OCA in newest())
    pid = next(service["pid"] for service in LocalStack(stack.state_dir).status()["services"] if service["name"] == OCA)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert eventually(lambda: is_state("DOWN")).startswith("silent for")
        assert {state for oca_id, (state, _) in newest().items() if oca_id != OCA} == {"UP"}
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: is_state("UP"))
