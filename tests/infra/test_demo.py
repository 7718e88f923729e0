"""What makes the demo's end a failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.cli.demo import free_state_dir, judge
from infra.stack.supervisor import locked

LINE = {"topic": "playback.report", "acknowledged": 9, "stored": 9, "lost": 0, "duplicated": 0, "problems": []}
GOOD: dict[str, Any] = {
    "services": [{"name": "kafka", "state": "ready", "said": ""}, {"name": "topics", "state": "done", "said": ""}],
    "jobs": [{"name": "qoe_sessions", "state": "RUNNING"}],
    "panels": [{"name": "pipeline/events_now", "rows": 1}],
    "audit": [LINE],
}


def test_a_clean_run_has_no_faults() -> None:
    assert judge(GOOD) == []


def test_each_fault_is_named() -> None:
    bad = {
        "services": [{"name": "loader", "state": "backoff", "said": "ended with code 1"}],
        "jobs": [{"name": "qoe_sessions", "state": "RESTARTING"}],
        "panels": [{"name": "pipeline/events_now", "rows": 0}],
        "audit": [{**LINE, "stored": 8, "lost": 1, "problems": ["seq 7 is not stored"]}],
    }
    assert judge(bad) == [
        "service loader is backoff: ended with code 1",
        "job qoe_sessions is RESTARTING",
        "panel pipeline/events_now is empty",
        "audit of playback.report: seq 7 is not stored",
        "audit of playback.report: 1 lost, 0 duplicated of 9",
    ]


def test_a_run_without_panels_or_audit_is_no_clean_run() -> None:
    assert len(judge({**GOOD, "panels": [], "audit": [], "jobs": []})) == 3


def test_a_second_demo_takes_the_next_directory(tmp_path: Path) -> None:
    assert free_state_dir(tmp_path) == tmp_path / "demo"
    with locked(tmp_path / "demo"):
        assert free_state_dir(tmp_path) == tmp_path / "demo-2"
