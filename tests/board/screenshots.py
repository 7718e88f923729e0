"""Screenshots of the board, the player and each step of the tour, from a running stack: `python -m tests.board.screenshots`.

    HEADRACE_STATE_DIR=.headrace/demo .venv/bin/python -m tests.board.screenshots        # beside `make demo`

The tour is taken for real: it plays, throttles, kills the loader, tries to break a contract and replays. `--still` leaves it out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from infra.base.settings import settings
from tests.board import touring, watching
from tests.board.browser import browser, page, until

OUT = Path(__file__).parents[2] / "docs" / "screenshots"
WIDE = {"width": 1440, "height": 900}


def settled(tab: Any, board: str) -> None:
    """Every panel has been answered and drawn."""
    tab.goto(board)
    until(tab, "document.querySelectorAll('.panel').length > 20 && !document.body.innerText.includes('asking the warehouse')")
    tab.wait_for_timeout(1_000)  # the charts' first frames


def boards(running: Any, board: str) -> None:
    """The whole board in both themes and on a phone, one session's timeline, one panel's SQL."""
    for theme in ("light", "dark"):
        with page(running, viewport=WIDE, color_scheme=theme) as tab:
            settled(tab, board)
            tab.screenshot(path=OUT / f"board-{theme}.png", full_page=True)
    with page(running, viewport={"width": 390, "height": 844}) as tab:
        settled(tab, board)
        tab.screenshot(path=OUT / "board-phone.png")
    with page(running, viewport=WIDE) as tab:
        settled(tab, board)
        tab.locator("tr:has([data-status=closed]) [data-opens]").first.click()
        tab.wait_for_selector(".lanes rect")
        tab.screenshot(path=OUT / "session.png")
        tab.keyboard.press("Escape")
        tab.hover("#quality_of_experience-rebuffer_ratio")
        tab.click("#quality_of_experience-rebuffer_ratio button")
        tab.screenshot(path=OUT / "sql.png")


def player(running: Any, board: str) -> None:
    """The player while it plays."""
    with page(running, viewport=WIDE) as tab:
        tab.goto(f"{board}/watch")
        tab.wait_for_selector("button.primary:enabled")
        watching.press_play(tab, board, tab.input_value("select[aria-label=Title]"))
        until(tab, "document.querySelectorAll('.reports [data-status=\"202\"]').length > 5")
        tab.screenshot(path=OUT / "watch.png", full_page=True)


def tour(running: Any, board: str) -> None:
    """Each step when it has come true. Raises SystemExit naming the step that has not."""
    with page(running, viewport={"width": 1600, "height": 1200}) as tab:
        touring.start(tab, board)
        for number, step in enumerate(touring.STEPS, 1):
            verdict, said = touring.take(tab, step)
            tab.locator(f"#step-{step}").scroll_into_view_if_needed()
            tab.wait_for_timeout(2_500)  # one more update of the board
            tab.screenshot(path=OUT / f"tour-{number}-{step}.png")
            print(f"tour {number} {step}: {verdict}: {said[-1]}")
            if verdict != "done":
                raise SystemExit(f"step {step} did not come true: " + "; ".join(said))


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(prog="python -m tests.board.screenshots", description=__doc__.splitlines()[0])
    parser.add_argument("--board", default=settings().edge.board_url, help="address of the page; default: of the running stack")
    parser.add_argument("--still", action="store_true", help="leave the player and the tour out")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    with browser() as running:
        boards(running, arguments.board)
        if not arguments.still:
            player(running, arguments.board)
            tour(running, arguments.board)
    print(f"screenshots are in {OUT}")


if __name__ == "__main__":
    main()
