"""When a partition's rows are stored: not one by one, and no later than they have to."""

from __future__ import annotations

from typing import Any

import pytest

from sinks.loader.shell import Track
from sinks.loader.table import Block
from tests.sinks.reports import TOPIC

NOW = 1_000.0
MANY: dict[str, Any] = {"max_rows": 100, "max_bytes": 950, "linger_ms": lambda: 500.0}


def track(rows: int, since: float, taken_at: float) -> Track:
    """A partition with `rows` of ten bytes, of which the first came at `since`; the block before was taken at `taken_at`."""
    found = Track(TOPIC, 0, None, None)  # type: ignore[arg-type]  # neither the table nor the progress has a say in it
    if rows:
        found.add(Block(list(range(rows)), [0] * rows, [b"0123456789"] * rows))
    found.since, found.taken_at = since, taken_at
    return found


@pytest.mark.parametrize(
    ("rows", "waited_s", "taken_s_ago", "due"),
    [
        (0, 9.0, 9.0, False),  # nothing to store
        (1, 0.05, 9.0, False),  # after a pause: what comes at once shall go at once
        (1, 0.11, 9.0, True),
        (1, 0.3, 0.3, False),  # a steady stream: one block per linger
        (1, 0.3, 0.51, True),
        (1, 0.05, 0.51, False),  # just come, although it is time: its company is on the way
        (94, 0.0, 0.0, False),
        (95, 0.0, 0.0, True),  # a full block waits for nothing: this one is by bytes ...
        (100, 0.0, 0.0, True),  # ... and this one by rows too
    ],
)
def test_due(rows: int, waited_s: float, taken_s_ago: float, due: bool) -> None:
    assert track(rows, NOW - waited_s, NOW - taken_s_ago).due(NOW, **MANY) is due


def test_a_block_that_is_taken_starts_the_linger_anew() -> None:
    busy = track(50, NOW, NOW)
    busy.take(20, 1_000)
    assert busy.rows == 30
    assert not busy.due(busy.taken_at + 0.4, **MANY)
    assert busy.due(busy.taken_at + 0.5, **MANY)
