"""Taking the tour in a browser, as a visitor would: press a step's button, wait for its verdict."""

from __future__ import annotations

from typing import Any

from tests.board.browser import until

STEPS = {"play": 40, "throttle": 150, "loader": 150, "schema": 60, "replay": 600}
"""The steps in order, and how many seconds each may take."""


def start(tab: Any, board: str) -> None:
    """Open the board with the tour beside it."""
    tab.goto(board)
    until(tab, "document.querySelectorAll('.panel').length > 20")
    tab.click("#open-tour")
    tab.wait_for_selector("#tour .presses button:enabled")


def take(tab: Any, step: str) -> tuple[str, list[str]]:
    """Press a step's button; returns its verdict, done or failed, and everything it said."""
    tab.click(f"#step-{step} button")
    verdict = f"document.querySelector('#step-{step} .said li:is([data-state=done], [data-state=failed])')?.dataset.state"
    found = until(tab, verdict, within=STEPS[step])
    return str(found), tab.locator(f"#step-{step} .said li").all_inner_texts()
