"""What tests share: waiting for a truth instead of sleeping, a look at checkpoints, and the outside vectors."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx2 as httpx
import pytest

from infra.base.settings import settings
from infra.stack.local import LocalStack

T = TypeVar("T")

ready_mb: list[float] = []
"""What the stack took when it had become ready and nothing had gone through it yet."""
vector_tests: set[str] = set()
"""Node ids of the tests that asked for outside vectors."""

VECTORS = Path(__file__).resolve().parents[2] / "shared" / "vectors"


def eventually(probe: Callable[[], T], within: float = 30.0, every: float = 0.1) -> T:
    """Call `probe` until it returns something truthy without raising, and return that; fail with its last word after `within` seconds."""
    deadline = time.monotonic() + within
    last: object = None
    while True:
        try:
            last = probe()
            if last:
                return last  # type: ignore[return-value]
        except Exception as error:  # the last error is the message when time is up
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {within} s; last seen: {last!r}")
        time.sleep(every)


def checkpoints(job_id: str) -> dict[str, Any]:
    """What Flink says of a job's latest checkpoints, by kind: "completed", "restored" and others, None where there was none."""
    return dict(httpx.get(f"{settings().flink.rest_url}/jobs/{job_id}/checkpoints").raise_for_status().json()["latest"])


def vectors(name: str) -> Path:
    """The folder of outside test data `name`; the test is skipped in words where a checkout has none."""
    vector_tests.add(os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0])
    folder = VECTORS / name
    if not folder.exists():
        pytest.skip(f"outside vectors are not beside this checkout: {name}")
    return folder


def json_of(command: Sequence[str], given: str = "", within: float | None = None) -> Any:
    """What a command writes as JSON, `given` this text on standard input; fails with its last words where it fails."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=within)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def kill(local: LocalStack, name: str) -> None:
    """Kill a service of a local stack, and wait until the supervisor has brought it back."""

    def service() -> dict[str, Any]:
        return next(service for service in local.status()["services"] if service["name"] == name)

    before = service()["restarts"]
    local.act(name, "kill")
    eventually(lambda: (s := service())["restarts"] > before and s["state"] == "ready", within=60)
