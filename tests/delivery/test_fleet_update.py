"""`headrace fleet update` on the real stack: a cache server is drained, ends, comes back and is UP, and each step is a row."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import httpx2 as httpx
import pytest

from infra.base import warehouse
from infra.base.settings import Settings
from tests.kit import eventually

HEADRACE = Path(sys.executable).with_name("headrace")


def update(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HEADRACE, "fleet", "update", *words], capture_output=True, text=True, timeout=240, env=dict(os.environ))


@pytest.mark.stack
def test_a_cache_server_is_restarted_and_what_was_done_can_be_asked_for(stack: Settings) -> None:
    def pid() -> int:
        services = httpx.get(f"{stack.edge.supervisor_url}/status").json()["services"]
        return next(int(service["pid"]) for service in services if service["name"] == "oca-2")

    before = pid()
    untouched = update("--oca", "oca-2")
    assert (untouched.returncode, "`--again` restarts them all the same" in untouched.stdout) == (0, True), untouched.stderr
    strange = update("--oca", "oca-99")
    assert (strange.returncode, "there is no cache server oca-99; there are oca-1, " in strange.stderr) == (1, True), strange.stderr
    done = update("--oca", "oca-2", "--again")
    assert (done.returncode, f"with {version('headrace')} now: oca-2" in done.stdout) == (0, True), done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("oca-2")][-1] == "oca-2  is UP"
    assert pid() != before
    steps = (
        "SELECT result, from_version, to_version FROM delivery_oca_update WHERE NOT marker AND oca_id = 'oca-2' ORDER BY event_time, seq"
    )
    expected = [(result, version("headrace"), version("headrace")) for result in ("STARTED", "DONE")]
    eventually(lambda: [tuple(row) for row in warehouse.reader().query(steps).result_rows] == expected, within=60)
