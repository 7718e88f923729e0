"""The board's features: what each costs, what made a member's, in a real browser and as JSON."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx
import pytest

from schemas.recommendations.definition import features
from tests.board.browser import page, until
from tests.board.rows import Evening
from tests.board.test_page import STICKS_OUT


def test_features_and_a_member_as_json(board: str, warehouse: Evening) -> None:
    told = {one["name"]: one for one in httpx.get(f"{board}/api/features").json()["features"]}
    assert told.keys() == {one.name for one in features()}
    assert told["member_plays"]["costs"]["member_plays_1d"]["value_bytes"] == 100
    assert told["title_heat"]["costs"] == {}
    mine = httpx.get(f"{board}/api/features/member/member-3").json()
    plays = [row for row in warehouse.rows["recommendations.interaction"] if row["member_id"] == "member-3"]
    assert mine["values"]["member_plays_30d"] == mine["events"] == len(plays)
    assert mine["steps"][-1]["what"] == {name: plays[-1][name] for name in ("kind", "cid", "genres", "region")}
    assert httpx.get(f"{board}/api/features/member/nobody").json()["events"] == 0


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390])
def test_the_page_says_which_event_changed_what(chrome: Any, board: str, warehouse: Evening, width: int) -> None:
    with page(chrome, viewport={"width": width, "height": 900}) as tab:
        tab.goto(f"{board}/features?feature=member_plays&member=member-3")
        until(tab, "document.querySelectorAll('.story tbody tr').length > 10")
        assert "member_plays_1d" in tab.inner_text("#feature table")
        assert tab.evaluate(STICKS_OUT) == []
        tab.locator("#features a", has_text="member_last_title").click()
        until(tab, "document.querySelector('#feature h1').textContent === 'member_last_title'")
        tab.fill(".ask input", "nobody")
        tab.locator(".ask button").click()
        until(tab, "document.querySelector('#feature').textContent.includes('Nothing that features count is stored')")
        assert "member=nobody" in tab.url
