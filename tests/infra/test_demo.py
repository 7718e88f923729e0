"""What makes the demo's end a failure, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.cli.demo import free_state_dir, judge
from infra.stack.local import LocalStack
from infra.stack.supervisor import locked
from tests.kit import eventually

LINE = {"topic": "playback.report", "acknowledged": 9, "stored": 9, "lost": 0, "duplicated": 0, "problems": []}
GOOD: dict[str, Any] = {
    "services": [{"name": "kafka", "state": "ready", "said": ""}, {"name": "topics", "state": "done", "said": ""}],
    "jobs": [{"name": "qoe_sessions", "state": "RUNNING"}],
    "panels": [{"name": "pipeline/events_now", "rows": 1, "faults": False}, {"name": "features/skewed", "rows": 0, "faults": True}],
    "audit": [LINE],
}


def test_a_clean_run_has_no_faults() -> None:
    assert judge(GOOD) == []


def test_each_fault_is_named() -> None:
    bad = {
        "services": [{"name": "loader", "state": "backoff", "said": "ended with code 1"}],
        "jobs": [{"name": "qoe_sessions", "state": "RESTARTING"}],
        "panels": [{"name": "pipeline/events_now", "rows": 0, "faults": False}, {"name": "features/skewed", "rows": 2, "faults": True}],
        "audit": [{**LINE, "stored": 8, "lost": 1, "problems": ["seq 7 is not stored"]}],
    }
    assert judge(bad) == [
        "service loader is backoff: ended with code 1",
        "job qoe_sessions is RESTARTING",
        "panel pipeline/events_now is empty",
        "panel features/skewed has 2 faults",
        "audit of playback.report: seq 7 is not stored",
        "audit of playback.report: 1 lost, 0 duplicated of 9",
    ]


def test_a_run_without_panels_or_audit_is_no_clean_run() -> None:
    assert len(judge({**GOOD, "panels": [], "audit": [], "jobs": []})) == 3


def test_a_second_demo_takes_the_next_directory(tmp_path: Path) -> None:
    assert free_state_dir(tmp_path) == tmp_path / "demo"
    with locked(tmp_path / "demo"):
        assert free_state_dir(tmp_path) == tmp_path / "demo-2"


@pytest.mark.stack
def test_ctrl_c_during_the_start_leaves_nothing_behind(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path / "demo")
    command = [str(Path(sys.executable).with_name("headrace")), "demo"]
    demo = subprocess.Popen(command, env={**os.environ, "HEADRACE_STATE_DIR": str(tmp_path)}, stderr=subprocess.PIPE, text=True)
    eventually(lambda: sum(service["pid"] is not None for service in stack.status()["services"]) > 2, within=60)
    assert len(of_state_below(tmp_path)) > 3
    demo.send_signal(signal.SIGINT)
    complaint = demo.communicate(timeout=60)[1]
    assert demo.returncode == 0, complaint
    assert of_state_below(tmp_path) == []


def of_state_below(folder: Path) -> list[int]:
    """Pids of all processes whose state directory is this one or one below it."""
    mark = f"HEADRACE_STATE_DIR={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(entry.startswith(mark) for entry in (process / "environ").read_bytes().split(b"\0")):
                found.append(int(process.name))
        except OSError:
            continue
    return found
