"""The whole suite's last line, from those of its halves."""

from __future__ import annotations

from tests.whole import together


def test_the_last_lines_of_both_halves_are_one() -> None:
    both = together(["2 failed, 34 passed, 1 warning in 61.69s (0:01:01)", "5000 passed, 3 skipped in 3.10s"], 62.0)
    assert both == "2 failed, 5034 passed, 3 skipped, 1 warning in 62.00s"
    assert together(["", "34 passed in 3.10s"], 4.0) == "34 passed in 4.00s"
