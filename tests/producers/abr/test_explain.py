"""What explains a session: its player's states come back from its reports, and regret is measured against every plan there is."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from producers.abr import explain as module
from producers.abr.environment import decided, play
from producers.abr.explain import Unexplained, explain, told_ladder
from producers.abr.policy import load
from producers.abr.prior import Prior
from producers.players.player import Action
from tests.producers.abr.told import rows, session

LADDER = (300.0, 1000.0, 2500.0)
PRIOR = Prior(8.0, 0.5, 2.0)


def test_what_the_player_saw_comes_back_from_its_reports() -> None:
    reports, asked = session(prior=PRIOR)
    found = explain(rows(reports), LADDER, load())
    assert (found.sid, found.cid, found.abr, found.prior) == ("sid-1", "t", "headrace", PRIOR)
    assert len(found.segments) == len(asked) == 24
    for number, (segment, situation) in enumerate(zip(found.segments, asked, strict=True)):
        assert segment.buffer_s == pytest.approx(situation.state.buffer_s, abs=0.051), "rounded as CMCD rounds it"
        assert found.segments[number - 1].level == situation.state.previous or not number
        if number + 1 < len(asked):
            assert asked[number + 1].state.throughputs_kbps[-1] == pytest.approx(segment.throughput_kbps)
            assert asked[number + 1].state.delays_s[-1] == pytest.approx(segment.took_s)
        assert segment.expected_kbps == pytest.approx(load().explain(situation.state, PRIOR).throughput_kbps)
    same = sum(segment.level == segment.policy_level for segment in found.segments)
    assert same >= 20, "sizes and buffers are known to it a little less well than to the player"
    assert len({segment.level for segment in found.segments}) > 1


def test_regret_is_what_the_best_of_all_plans_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    reports, _ = session(segments=8, abr="bola")
    found = explain(rows(reports), LADDER, load())
    assert found.abr == "bola"
    assert found.regret == pytest.approx(found.plan_reward - found.reward)
    assert found.regret >= 0
    gains = sum(segment.plan_reward - segment.reward for segment in found.segments) / 7
    assert gains == pytest.approx(found.regret)
    assert found.segments[0].plan_level == found.segments[0].level
    seen: list[Any] = []
    both = module._both
    monkeypatch.setattr(module, "_both", lambda *given: seen.append(given) or both(*given))
    explain(rows(reports), LADDER, load())
    trace, video, levels, buffer_max_s = seen[0]
    every = (
        play(decided((levels[0], *rest)), trace, video, first_level=levels[0], buffer_max_s=buffer_max_s).reward
        for rest in product(range(3), repeat=7)
    )
    assert found.plan_reward == pytest.approx(max(every), abs=0.02)


def test_without_what_the_player_told_the_ladder_is_given_and_nothing_was_expected() -> None:
    reports = rows(session()[0])
    assert told_ladder(reports) == LADDER
    for row in reports:
        row["custom"] = {}
    assert told_ladder(reports) == ()
    found = explain(reports, LADDER, load())
    assert found.prior is None
    assert (found.segments[0].by, found.segments[0].expected_kbps) == ("start", (0.0, 0.0, 0.0))
    assert {segment.by for segment in found.segments[1:]} == {"plan"}


def test_a_session_that_seeks_and_quits_is_explained_by_the_segments_that_it_fetched() -> None:
    reports, asked = session(segments=60, actions=[Action(6_000, "seek", to_ms=80_000), Action(28_000, "quit")])
    told: list[tuple[int, int]] = []
    found = explain(rows(reports), LADDER, load(), lambda done, of: told.append((done, of)))
    assert len(asked) - 1 <= len(found.segments) <= len(asked), "the last one was on its way"
    assert told == [(number, len(found.segments)) for number in range(1, len(found.segments) + 1)]


def test_what_cannot_be_explained_says_why() -> None:
    reports = rows(session()[0])
    with pytest.raises(Unexplained, match=r"another ladder: it fetched 2500 kbit/s, its ladder is 300, 1000"):
        explain(reports, LADDER[:2], load())
    with pytest.raises(Unexplained, match=r"0 segments of video are told of; 8 that say"):
        explain([row for row in reports if row["e"] != "rr"], LADDER, load())
    segments = [row for row in reports if row["ot"] == "v"]
    with pytest.raises(Unexplained, match=r"7 segments of video are told of"):
        explain(segments[:7], LADDER, load())
    for value, words in (("1000 300", "does not ascend"), ("fast", "is not numbers: 'fast'")):
        with pytest.raises(Unexplained, match=words):
            told_ladder(telling(reports, "ladder", value))
    for value in ("8 0.5", "8 -1 2"):
        with pytest.raises(Unexplained, match="is no prior"):
            explain(telling(reports, "prior", value), LADDER, load())


def telling(reports: list[dict[str, Any]], name: str, value: str) -> list[dict[str, Any]]:
    """The same, but that the player tells something else with its first frame."""
    return [{**row, "custom": {**row["custom"], f"com.headrace-{name}": value} if row["custom"] else {}} for row in reports]


def test_what_cache_servers_heard_and_what_failed_is_no_segment_of_the_player() -> None:
    reports = rows(session()[0])
    more = [
        {**row, "target": "request:oca-1"} if number % 2 else {**row, "rc": 503, "bytes": 2}
        for number, row in enumerate(reports)
        if row["ot"] == "v"
    ]
    assert explain(sorted([*reports, *more], key=lambda row: row["event_time"]), LADDER, load()) == explain(reports, LADDER, load())
