"""The page that members open tells what was seen of it, and what was done, at the door's own rules."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx
import pytest

from edge.pseudonym import pseudonym
from tests.board.browser import page, until
from tests.board.edge_double import ROWS
from tests.board.test_player import board, edge, titles
from tests.kit import eventually

__all__ = ["board", "edge", "titles"]
pytestmark = pytest.mark.browser
FIRST = "[data-kind=kind_0] .poster"
PLAYING = "(({ currentTime, paused }) => !paused && currentTime > 0.2 && currentTime < 8)(document.querySelector('video'))"


def told(edge: str, member: str) -> list[dict[str, Any]]:
    """What the door has of a member, in order, without what came again; none was refused."""
    answer = httpx.get(f"{edge}/done").json()
    assert answer["refused"] == []
    return [*{one["event_id"]: one for one in answer["done"] if one["member_id"] == pseudonym(member)}.values()]


def member(tab: Any) -> str:
    return str(tab.evaluate("localStorage.getItem('headrace.member')"))


def kinds(edge: str, who: str) -> list[str]:
    return [one["kind"] for one in told(edge, who) if "kind" in one]


def rows_seen(edge: str, who: str) -> list[int]:
    return [one["row"] for one in told(edge, who) if "row" in one]


def test_what_is_on_the_screen_for_a_second_is_an_impression_and_what_is_below_is_none(chrome: Any, board: str, edge: str) -> None:
    with page(chrome) as tab:
        tab.goto(f"{board}/browse")
        tab.wait_for_selector(FIRST)
        who = member(tab)
        above = eventually(lambda: rows_seen(edge, who))
        assert sorted(above) == list(range(len(above)))
        assert 2 <= len(above) < ROWS - 1
        tab.evaluate("document.querySelectorAll('section')[document.querySelectorAll('section').length - 1].scrollIntoView()")
        eventually(lambda: ROWS - 1 in rows_seen(edge, who))
        assert len(set(rows_seen(edge, who))) == len(rows_seen(edge, who))
        (one,) = (one for one in told(edge, who) if one.get("row") == 0)
    assert one.items() >= {
        "cid": "clip", "position": 0, "row_kind": "kind_0", "model_version": "test", "artwork_variant": "plain", "propensity": 0.5,
        "device_type": "web",
    }.items()  # fmt: skip


def test_a_title_is_opened_listed_rated_watched_and_watched_again(chrome: Any, board: str, edge: str) -> None:
    with page(chrome) as tab:
        tab.goto(f"{board}/browse")
        tab.wait_for_selector(FIRST)
        who = member(tab)
        (seen,) = eventually(lambda: [one["event_id"] for one in told(edge, who) if one.get("row") == 0])
        tab.click(FIRST)
        tab.click("#title >> text=+ My list")
        tab.click("[aria-label='4 of 5 stars']")
        tab.click("#title >> text=▶ Play")
        until(tab, PLAYING)
        tab.evaluate("document.querySelector('video').playbackRate = 4")
        eventually(lambda: "completion" in kinds(edge, who))
        tab.click("#title >> text=✓ On my list")
        tab.click("#title >> text=▶ Play")
        until(tab, PLAYING)
        tab.goto("about:blank")
        eventually(lambda: "skip" in kinds(edge, who))
        done = [one for one in told(edge, who) if "kind" in one]
    assert [one["kind"] for one in done] == ["click", "list_add", "rating", "play", "completion", "list_remove", "rewatch", "skip"]
    of = {one["kind"]: one for one in done}
    assert {of[kind].get("impression_id") for kind in ("click", "list_add", "rating", "play")} == {seen}
    assert of["rating"]["rating_halves"] == 8
    assert of["play"]["sid"] == of["completion"]["sid"] != of["rewatch"]["sid"] == of["skip"]["sid"]
    runtime_ms = 1_000 * 16
    assert 0.9 * runtime_ms < of["completion"]["watched_ms"] < 1.1 * runtime_ms
    assert 0 < of["skip"]["watched_ms"] < runtime_ms


def test_what_was_left_is_resumed_there_and_found_by_what_is_typed(chrome: Any, board: str, edge: str) -> None:
    with page(chrome) as tab:
        tab.goto(f"{board}/browse")
        tab.wait_for_selector(FIRST)
        who = member(tab)
        tab.fill("#query", "cl")
        tab.click("#found .poster")
        tab.click("#title >> text=▶ Play")
        until(tab, PLAYING)
        tab.evaluate("document.querySelector('video').playbackRate = 4")
        until(tab, "document.querySelector('video').currentTime > 5")
        tab.click("#title [aria-label=Close]")
        eventually(lambda: "skip" in kinds(edge, who))
        tab.click("#found .poster")
        tab.click("#title >> text=Resume at 0:0")
        until(tab, "document.querySelector('video').currentTime > 5")
        assert tab.evaluate("document.querySelector('video').played.start(0)") >= 4
        assert [(one["query"], one["results"]) for one in told(edge, who) if "query" in one] == [("cl", 1)]
        assert not any(one.get("impression_id") for one in told(edge, who) if "kind" in one)


@pytest.mark.parametrize("width", [390, 1920])
def test_nothing_sticks_out_at_any_width(chrome: Any, board: str, edge: str, width: int) -> None:
    with page(chrome, viewport={"width": width, "height": 844}) as tab:
        tab.goto(f"{board}/browse")
        tab.wait_for_selector(FIRST)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
