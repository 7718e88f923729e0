"""The sessions written by hand in qoe_cases.jsonl."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

CASES: list[dict[str, Any]] = [json.loads(line) for line in Path(__file__).with_name("qoe_cases.jsonl").read_text().splitlines()]
START = datetime(2026, 1, 1, tzinfo=UTC)
"""When sessions begin, where somebody needs a whole time."""


def reports(case: dict[str, Any]) -> list[dict[str, Any]]:
    """A case's reports, [ms, e, the rest]; `sn` and `event_id` follow from their place."""
    return [{"event_id": f"r{sn}", "event_time": at, "sn": sn, "e": e, **rest} for sn, (at, e, rest) in enumerate(case["reports"])]


def events(case: dict[str, Any], sid: str) -> list[dict[str, Any]]:
    """The same as events of playback.report, of the session `sid`."""
    own = {"producer_id": "cases", "epoch": 0, "sid": sid}
    return [
        {**report, **own, "event_id": f"{sid}-{n}", "seq": n, "event_time": at(report["event_time"])}
        for n, report in enumerate(reports(case))
    ]


def at(ms: int) -> datetime:
    """A time within a session."""
    return START + timedelta(milliseconds=ms)
