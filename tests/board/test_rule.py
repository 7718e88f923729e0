"""On the whole stack: a session that Headrace's own adaptation plays is in ClickHouse, played as Python's evaluator would have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.base import warehouse as clients
from infra.base.settings import Settings
from producers.emit import Emitter
from producers.encoders import encode, events
from tests.board.browser import browser, page
from tests.board.watching import (
    acknowledged,
    assert_agree,
    assert_decided_alike,
    assert_played_as_decided,
    decisions,
    press_play,
    seen,
    to_the_end,
)
from tests.kit import eventually

pytestmark = [pytest.mark.browser, pytest.mark.stack]

REPORTS = """
SELECT event_id, e, any(ot) AS ot, any(sn) AS sn, any(br_kbps) AS br_kbps, any(abr) AS abr FROM playback_report
WHERE sid = {sid:String} AND NOT marker AND target = 'event:default' GROUP BY event_id, e
"""
QUALITY = """
SELECT startup_ms, rebuffer_count, rebuffer_ms, end_reason, toUnixTimestamp64Milli(ended_at) AS ended_at
FROM qoe_sessions WHERE sid = {sid:String} AND end_reason != 'silence'
"""


@pytest.fixture(scope="module")
def board(stack: Settings) -> str:
    """The board of the running stack, with the demo's titles published."""
    if not (Path(__file__).parents[2] / "edge" / "board" / "node_modules").exists():
        pytest.skip("the page's libraries are not installed: run `headrace setup`")
    with Emitter("encoder") as emitter:
        events.emit(encode.prepare(), emitter)
    return stack.edge.board_url


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser() as launched:
        yield launched


def rows(sql: str, sid: str) -> list[dict[str, Any]]:
    answer = clients.reader().query(sql, parameters={"sid": sid})
    return [dict(zip(answer.column_names, row, strict=True)) for row in answer.result_rows]


def test_a_session_with_the_rule_is_in_clickhouse_as_it_was_decided(chrome: Any, board: str) -> None:
    with page(chrome) as tab:
        sid = press_play(tab, board, "bbb")
        to_the_end(tab, within=120)
        acknowledged(tab)
        witness, told = seen(tab), decisions(tab)
    quality = eventually(lambda: rows(QUALITY, sid), within=120)[0]
    assert_agree(quality, witness)
    assert (quality["rebuffer_count"], quality["end_reason"]) == (0, "ended")
    assert_decided_alike(told)
    reports = eventually(lambda: (found := rows(REPORTS, sid)) and sum(r["ot"] == "v" for r in found) == 20 and found)
    assert {r["abr"] for r in reports} == {"headrace"}
    assert_played_as_decided(told, reports)
