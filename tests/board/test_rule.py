"""On the whole stack: a session that Headrace's own adaptation plays is in ClickHouse, played as Python's evaluator would have."""

from __future__ import annotations

from typing import Any

import pytest

from infra.base import warehouse as clients
from tests.board.browser import page
from tests.board.watching import (
    acknowledged,
    assert_agree,
    assert_decided_alike,
    assert_played_as_decided,
    decisions,
    press_play,
    quality,
    seen,
    to_the_end,
)
from tests.kit import eventually

pytestmark = [pytest.mark.browser, pytest.mark.stack]

REPORTS = """
SELECT event_id, e, any(ot) AS ot, any(sn) AS sn, any(br_kbps) AS br_kbps, any(abr) AS abr FROM playback_report
WHERE sid = {sid:String} AND NOT marker AND target = 'event:default' GROUP BY event_id, e
"""


def reported(sid: str) -> list[dict[str, Any]]:
    return list(clients.reader().query(REPORTS, parameters={"sid": sid}).named_results())


def test_a_session_with_the_rule_is_in_clickhouse_as_it_was_decided(chrome: Any, published_board: str) -> None:
    with page(chrome) as tab:
        sid = press_play(tab, published_board, "bbb", abr="headrace")
        to_the_end(tab, within=120)
        acknowledged(tab)
        witness, told = seen(tab), decisions(tab)
    row = quality(sid)
    assert_agree(row, witness)
    assert (row["rebuffer_count"], row["end_reason"]) == (0, "ended")
    assert_decided_alike(told)
    reports = eventually(lambda: (found := reported(sid)) and sum(r["ot"] == "v" for r in found) == 20 and found)
    assert {r["abr"] for r in reports} == {"headrace"}
    assert_played_as_decided(told, reports)
