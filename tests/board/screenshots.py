"""Pictures of each step of the tour, the player and the boards, dark and light, from a running stack: `python -m tests.board.screenshots`.

    HEADRACE_STATE_DIR=.headrace/demo .venv/bin/python -m tests.board.screenshots        # beside `make demo`

The tour is taken for real: it plays, throttles, kills the loader, tries to break a contract and replays. `--still` leaves it out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from PIL import Image

from infra.base.settings import settings
from tests.board import touring, watching
from tests.board.browser import browser, page, until

OUT = Path(__file__).parents[2] / "docs" / "pictures"
WIDE = {"width": 1360, "height": 850}
PHONE = {"width": 390, "height": 844}
THEMES = ("light", "dark")
ON_A_PHONE = {"quality": "quality_of_experience-startup_time", "tables": "quality_of_experience-by_player", "pipeline": "pipeline-lag"}
"""What is shown of the long page of a phone, and the panel each picture begins with."""
SPAN_S = 300
"""The range shown: a demo's pictures are taken minutes after its start."""
EXPERIMENT = "fast_start"
TITLE = "bbb"
"""What the player shows: the demo's one film."""
TOPIC = "playback.qoe_session"
"""What the catalogue shows: a topic that a job writes, with a table and panels behind it."""
COLOURS = 128
"""A page has few; a palette makes its picture a third as large."""


def shoot(tab: Any, name: str, of: str = "", **options: Any) -> None:
    """Keep a picture of the page, or of the part that the selector `of` names, in each theme, as `<name>-<theme>.png`."""
    for theme in THEMES:
        tab.emulate_media(color_scheme=theme)
        tab.wait_for_timeout(600)  # the charts' first frames in the new colours
        path = OUT / f"{name}-{theme}.png"
        (tab.locator(of) if of else tab).screenshot(path=path, **options)
        Image.open(path).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def settled(tab: Any, board: str) -> None:
    """Open the board; every panel has been answered."""
    tab.goto(f"{board}/?span_s={SPAN_S}")
    until(tab, "document.querySelectorAll('.panel').length > 30 && !document.body.innerText.match(/asking the |under way/)")


def boards(running: Any, board: str) -> None:
    """Both boards on a screen and on a phone, one session's timeline, one panel's SQL, one topic of the catalogue."""
    with page(running, viewport=WIDE) as tab:
        settled(tab, board)
        shoot(tab, "board")
        tab.evaluate("document.querySelector('.top').style.position = 'static'")  # or it lies on what is taller than the screen
        shoot(tab, "quality", of="section.board.quality_of_experience")
        shoot(tab, "pipeline", of="section.board.pipeline")
        tab.hover("#quality_of_experience-rebuffer_ratio")
        tab.click("#quality_of_experience-rebuffer_ratio button")
        shoot(tab, "sql")
        tab.keyboard.press("Escape")
        tab.locator("tr:has([data-status=closed]) [data-opens]").first.click()
        tab.wait_for_selector(".lanes rect")
        shoot(tab, "session")
        tab.goto(f"{board}/catalogue?topic={TOPIC}")
        tab.wait_for_selector("text=Lineage")
        shoot(tab, "catalogue")
        experiments(tab, board)
    with page(running, viewport=PHONE) as tab:
        settled(tab, board)
        shoot(tab, "phone")
        for name, first in ON_A_PHONE.items():
            tab.evaluate(f"scrollTo(0, document.getElementById('{first}').getBoundingClientRect().top + scrollY - 70)")
            shoot(tab, f"phone-{name}")


def experiments(tab: Any, board: str) -> None:
    """One read-out, on a page as long as its charts reach."""
    tab.set_viewport_size({**WIDE, "height": 1180})
    tab.goto(f"{board}/experiments?experiment={EXPERIMENT}")
    until(tab, "document.querySelector('#readout header.readout')")
    shoot(tab, "experiments")
    tab.set_viewport_size(WIDE)


def player(running: Any, board: str) -> None:
    """The player while it plays."""
    with page(running, viewport=WIDE) as tab:
        watching.press_play(tab, board, TITLE)
        until(tab, "document.querySelectorAll('.reports [data-status=\"202\"]').length > 5")
        shoot(tab, "watch", full_page=True)


def tour(running: Any, board: str) -> None:
    """Each step when it has come true. Raises SystemExit naming the step that has not."""
    with page(running, viewport=WIDE) as tab:
        touring.start(tab, f"{board}/?span_s={SPAN_S}")
        for number, step in enumerate(touring.STEPS, 1):
            verdict, said = touring.take(tab, step)
            tab.locator(f"#step-{step}").scroll_into_view_if_needed()
            tab.wait_for_timeout(2_500)  # one more update of the board
            shoot(tab, f"tour-{number}-{step}")
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
        if not arguments.still:
            player(running, arguments.board)
            tour(running, arguments.board)
        boards(running, arguments.board)
    print(f"pictures are in {OUT}")


if __name__ == "__main__":
    main()
