"""A crowd in virtual time: sessions after sessions, injected faults, an orderly end."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from pathlib import Path

import pytest

from producers.players.__main__ import main
from producers.players.clock import LoopClock, run_virtual
from producers.players.crowd import Crowd, Summary
from producers.players.network import BadTrace
from producers.players.transport import Answer, NoAnswer
from tests.producers.fake_edge import FakeEdge

EPOCH_MS = 1_700_000_000_000


class Faulty(FakeEdge):
    """Its first cache server refuses while it was told to fail, and nobody has a withdrawn manifest."""

    def __init__(self) -> None:
        super().__init__(status=self.judge)
        self.told: list[str] = []

    def judge(self, url: str) -> int:
        if "withdrawn" in url:
            return 404
        return 503 if "oca-1" in url and self.told and self.told[-1].endswith("fail") else 200

    async def post(self, url: str, content: bytes, content_type: str, address: str = "") -> Answer:
        if "/admin/" in url:
            self.told.append(url)
            return Answer(200)
        return await super().post(url, content, content_type)


def watch(
    edge: FakeEdge,
    seconds: float | None = 120,
    count: int = 6,
    inject: bool = False,
    traces: tuple[Path, ...] = (),
    abr: str | None = None,
    members: int = 0,
) -> Summary:
    async def run() -> Summary:
        ocas = ["http://oca-1", "http://oca-2"]
        crowd = Crowd(count, 1, "http://gateway", ["a", "b"], edge, LoopClock(EPOCH_MS), ocas, inject, traces, abr, members)
        return await crowd.run(seconds)

    return run_virtual(run())


def test_members_press_play_again_and_every_session_ends_with_a_report() -> None:
    edge = FakeEdge()
    summary = watch(edge)
    assert len(summary.outcomes) > 12
    assert {outcome.state for outcome in summary.outcomes} <= set("eqf")
    closing = [r.fields["sid"] for r in edge.reports if r.fields["e"] == "ps" and r.fields["sta"] in "eqf"]
    assert sorted(closing) == sorted(outcome.sid for outcome in summary.outcomes)
    assert summary.reports.made == summary.reports.taken
    assert f"{len(summary.outcomes)} sessions" in str(summary)


def test_members_take_turns_where_there_are_more_than_watch_at_once() -> None:
    class Counting(FakeEdge):
        async def post(self, url: str, content: bytes, content_type: str, address: str = "") -> Answer:
            if url.endswith("/play"):
                pressed.append(json.loads(content)["member"])
            return await super().post(url, content, content_type, address)

    seen = []
    for members in (0, 40):
        pressed: list[str] = []
        watch(Counting(), seconds=90, count=4, members=members)
        seen.append(pressed)
    assert len(set(seen[0])) == 4
    assert 4 < len(set(seen[1])) <= 40
    assert len(seen[1]) > 8
    assert all(earlier != later for earlier, later in pairwise(seen[1]))


def test_injected_faults_are_one_failed_start_and_one_failover() -> None:
    edge = Faulty()
    summary = watch(edge, seconds=40, inject=True)
    assert [outcome.startup_ms for outcome in summary.outcomes if outcome.state == "f"] == [None]
    assert edge.told == ["http://oca-1/admin/fail", "http://oca-1/admin/heal"]
    assert any(outcome.failovers for outcome in summary.outcomes if outcome.state != "f")


def test_a_server_that_was_told_to_fail_is_healed_even_if_the_crowd_goes_home() -> None:
    edge = Faulty()
    watch(edge, seconds=12, inject=True)
    assert edge.told == ["http://oca-1/admin/fail", "http://oca-1/admin/heal"]


def test_a_gateway_that_does_not_answer_is_asked_again() -> None:
    class Late(FakeEdge):
        refusals = 0

        async def post(self, url: str, content: bytes, content_type: str, address: str = "") -> Answer:
            if url.endswith("/play") and self.refusals < 8:
                self.refusals += 1
                raise NoAnswer("connection refused")
            return await super().post(url, content, content_type)

    summary = watch(Late(), seconds=30)
    assert summary.refused == 8
    assert any(outcome.startup_ms for outcome in summary.outcomes)


def test_told_to_stop_it_sends_what_it_has_first() -> None:
    edge = FakeEdge()

    async def run() -> Summary:
        watching = asyncio.create_task(Crowd(4, 1, "http://gateway", ["a"], edge, LoopClock(EPOCH_MS)).run())
        await asyncio.sleep(20)
        watching.cancel()
        return await watching

    summary = run_virtual(run())
    assert {outcome.state for outcome in summary.outcomes} <= set("eq")
    assert summary.reports.made == summary.reports.taken == len(edge.reports)


def test_recorded_networks_replace_the_models(tmp_path: Path) -> None:
    (slow := tmp_path / "slow").write_text("0 0\n1 0.33\n")
    summary = watch(FakeEdge(), traces=(slow,))
    assert sum(outcome.rebuffer_count for outcome in summary.outcomes) > 5
    (bad := tmp_path / "bad").write_text("nothing")
    with pytest.raises(BadTrace):
        watch(FakeEdge(), traces=(bad,))


def test_all_members_may_be_told_what_to_adapt_by() -> None:
    for abr, called in ((None, "headrace"), ("bola", "bola")):
        edge = FakeEdge()
        watch(edge, seconds=20, count=2, abr=abr)
        assert {report.fields["abr"] for report in edge.reports} == {called}
    with pytest.raises(ValueError, match="no adaptation is called 'guess': there are policy, bola"):
        watch(FakeEdge(), abr="guess")
    with pytest.raises(SystemExit, match="no adaptation is called 'guess'"):
        main(count=1, abr="guess")
