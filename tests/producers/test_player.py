"""A whole player against an edge in memory, in virtual time: what it fetches, shows and reports."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, repeat
from types import MappingProxyType
from typing import Any

import pytest

from producers.abr.bola_finite import Choice
from producers.abr.prior import Prior
from producers.abr.state import checked
from producers.players.adaptation import ALGORITHMS, Adaptation, Situation
from producers.players.clock import LoopClock, run_virtual
from producers.players.network import Link
from producers.players.player import Action, Device, Outcome, Player, PlayRefused, press_play
from producers.players.reports import Counts, Outbox
from producers.players.transport import Answer
from schemas.cmcd import Report
from tests.producers.fake_edge import FakeEdge

DEVICE = Device("member-1", "tv", "eu-west", 64497, max_height=720)
EPOCH_MS = 1_700_000_000_000


def play(
    edge: FakeEdge, kbps: float = 5_000, actions: Sequence[Action] = (), device: Device = DEVICE, cancel_after_s: float | None = None,
    prior: Prior | None = None, adapt: Adaptation | None = None, flags: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Outcome, Counts]:  # fmt: skip
    """One session in virtual time, and what became of its reports."""

    async def session() -> tuple[Outcome, Counts]:
        clock = LoopClock(EPOCH_MS)
        outbox = Outbox(edge, clock)
        sending = asyncio.create_task(outbox.run())
        ticket = replace(await press_play(edge, "http://gateway", "t", device.member), prior=prior, flags=flags)
        player = Player(ticket, device, edge, Link(repeat((1000.0, kbps)), EPOCH_MS), 20, outbox, clock, actions, adapt=adapt)
        running = asyncio.create_task(player.run())
        if cancel_after_s is not None:
            await asyncio.sleep(cancel_after_s)
            running.cancel()
        await asyncio.gather(running, return_exceptions=cancel_after_s is not None)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await outbox.drain()
        return player.outcome, outbox.counts

    return run_virtual(session())


def states(reports: Sequence[Report]) -> str:
    return "".join(r.fields["sta"] for r in reports if r.fields["e"] == "ps")


@pytest.mark.parametrize(
    ("told", "prior"),
    [
        ({"prior": {"mean_log_kbps": 8, "sd_log_kbps": 0.5, "weight": 2.0}}, Prior(8.0, 0.5, 2.0)),
        ({}, None),
        ({"prior": {"mean_log_kbps": 8}, "flags": "none"}, None),
        ({"prior": {"mean_log_kbps": 8, "sd_log_kbps": -1, "weight": 2.0}}, None),
        ({"prior": "fast"}, None),
    ],
    ids=str,
)
def test_a_ticket_has_the_prior_that_the_gateway_told_if_it_is_one(told: dict[str, Any], prior: Prior | None) -> None:
    class Gateway(FakeEdge):
        async def post(self, url: str, content: bytes, content_type: str, address: str = "") -> Answer:
            assert json.loads(content)["network_type"] == "fibre"
            answer = await super().post(url, content, content_type, address)
            return Answer(answer.status, answer.headers, json.dumps({**json.loads(answer.content), **told}).encode())

    ticket = run_virtual(press_play(Gateway(), "http://gateway", "t", "m", device_type="tv", network_type="fibre"))
    assert (ticket.prior, ticket.flags) == (prior, {})


@pytest.mark.parametrize(
    ("flags", "abr", "first"),
    [
        ({}, "headrace", 300),
        ({"abr_rule": "bola", "start_bitrate_kbps": 1_500}, "bola", 1000),
        ({"abr_rule": "policy", "start_bitrate_kbps": 2_500.0}, "headrace", 2500),
        ({"start_bitrate_kbps": 10}, "headrace", 300),
        ({"start_bitrate_kbps": 0}, "headrace", 300),
        ({"abr_rule": "guess", "start_bitrate_kbps": "2500"}, "headrace", 300),
        ({"abr_rule": 7, "start_bitrate_kbps": True}, "headrace", 300),
        ({"abr_rule": ["bola"], "start_bitrate_kbps": float("nan")}, "headrace", 300),
    ],
    ids=str,
)
def test_it_obeys_its_flags_as_far_as_it_can(flags: dict[str, Any], abr: str, first: int) -> None:
    edge = FakeEdge()
    play(edge, flags=flags)
    video = [r.fields for r in edge.reports if r.fields["e"] == "rr" and r.fields["ot"] == "v"]
    assert ({r.fields["abr"] for r in edge.reports}, video[0]["br_kbps"]) == ({abr}, first)


def test_what_a_device_says_goes_before_flags_and_what_is_given_before_both() -> None:
    edge = FakeEdge()
    play(edge, device=replace(DEVICE, abr="policy"), flags={"abr_rule": "bola"})
    assert {r.fields["abr"] for r in edge.reports} == {"headrace"}
    lowest: list[int] = []
    play(FakeEdge(), adapt=lambda _: lowest.append(0) or Choice(0, 0), flags={"abr_rule": "bola"})  # type: ignore[func-returns-value]
    assert len(lowest) == 10


def test_a_session_from_press_of_play_to_the_end() -> None:
    edge = FakeEdge()
    outcome, counts = play(edge)
    assert states(edge.reports) == "spe"
    assert (outcome.state, outcome.playing_ms, outcome.rebuffer_count, outcome.segments) == ("e", 20_000, 0, 10)
    assert counts.made == counts.taken == len(edge.reports)
    assert [r.fields["sn"] for r in edge.reports] == list(range(len(edge.reports)))
    [started] = [r for r in edge.reports if "msd_ms" in r.fields]
    assert started.fields["msd_ms"] == outcome.startup_ms == started.event_time_ms - EPOCH_MS
    assert {r.correlation_id for r in edge.reports} == {"play-1"}
    last = edge.reports[-1]
    assert last.event_time_ms - started.event_time_ms == 20_000
    assert {r.fields[k] for r in edge.reports for k in ("member_id", "device_type", "region")} == {"member-1", "tv", "eu-west"}


@pytest.mark.parametrize("abr", ALGORITHMS)
def test_it_climbs_and_every_segment_is_reported_with_what_it_cost(abr: str) -> None:
    edge = FakeEdge(segments=20)
    play(edge, device=replace(DEVICE, abr=abr))
    video = [r.fields for r in edge.reports if r.fields["e"] == "rr" and r.fields["ot"] == "v"]
    assert len(video) == 20
    assert video[0]["br_kbps"] == 300
    assert max(v["br_kbps"] for v in video) == 2500
    for fields in video:
        assert fields["rc"] == 200
        assert fields["bytes"] == fields["br_kbps"] * 250
        assert fields["ttlb_ms"] == pytest.approx(20 + fields["bytes"] * 8 / 5000, abs=2)
        assert 20 <= fields["ttfb_ms"] <= fields["ttlb_ms"]
    shown = [r.fields["br_kbps"] for r in edge.reports if r.fields["e"] == "bc"]
    assert shown
    assert all(a != b for a, b in pairwise(shown))


def watched(situations: list[Situation], by: str = "policy") -> Adaptation:
    """An algorithm, and what it is asked."""

    def choose(situation: Situation) -> Choice:
        situations.append(situation)
        return ALGORITHMS[by](situation)

    return choose


def test_the_algorithm_sees_what_the_player_knows() -> None:
    seen: list[Situation] = []
    prior = Prior(8.0, 0.5, 2.0)
    play(FakeEdge(segments=20, sums=True), prior=prior, adapt=watched(seen))
    first, asked = seen[0].state, {situation.state.left: situation.state for situation in seen}
    assert (first.previous, first.throughputs_kbps, first.buffer_s, first.buffer_max_s, first.left) == (-1, (), 0.0, 24.0, 20)
    assert first.bitrates_kbps == (300, 1000, 2500)
    assert [list(row) for row in first.sizes] == [[(kbps + 96) * 250 for kbps in (300, 1000, 2500)]] * 20
    assert sorted(asked, reverse=True) == list(range(20, 0, -1))
    for left, state in asked.items():
        assert len(state.throughputs_kbps) == len(state.delays_s) == 20 - left
        assert len(state.sizes) == left
        assert all(kbps < 5_000 for kbps in state.throughputs_kbps), "the round trip is in them"
        assert not state.throughputs_kbps or state.throughputs_kbps[-1] > 4_000
    assert {situation.prior for situation in seen} == {prior}
    assert {situation.penalty_s for situation in seen} == {0.0}
    assert all(checked(situation.state) for situation in seen)


def test_sizes_are_those_of_the_checksums_once_they_are_known() -> None:
    class Uneven(FakeEdge):
        def content(self, path: str) -> bytes | None:
            found = super().content(path)
            return found[: len(found) // 2] if found and path.endswith("004.m4s") else found

    seen: list[Situation] = []
    play(Uneven(segments=10, sums=True), adapt=watched(seen))
    of_four = {situation.state.left: situation.state.sizes[situation.state.left - 6] for situation in seen if situation.state.left >= 6}
    assert of_four[10] == [(kbps + 96) * 250 for kbps in (300, 1000, 2500)]
    assert of_four[6] == [(kbps + 96) * 125 for kbps in (300, 1000, 2500)]


def test_a_prior_decides_before_anything_is_measured() -> None:
    first: list[int] = []
    for prior in (None, Prior(12.0, 0.1, 8.0)):
        edge = FakeEdge()
        play(edge, kbps=50_000, prior=prior)
        first.append(next(r.fields["br_kbps"] for r in edge.reports if r.fields["e"] == "rr" and r.fields["ot"] == "v"))
    assert first == [300, 2500]


def test_a_server_that_slipped_is_suspected_for_a_while() -> None:
    slips = iter([503])
    edge = FakeEdge(segments=30)
    edge.status = lambda url: next(slips, 200) if "oca-1" in url and "/005" in url else 404 if "oca-2" in url else 200
    seen: list[Situation] = []
    outcome, _ = play(edge, adapt=watched(seen))
    assert (outcome.state, outcome.failovers) == ("e", 0)
    doubts = [situation.penalty_s > 0 for situation in seen]
    assert doubts.index(True) == next(at for at, situation in enumerate(seen) if situation.state.left == 24), "the one after the slip"
    assert not doubts[-1]
    assert all(0.3 <= situation.penalty_s <= 2.1 for situation in seen if situation.penalty_s)
    alone: list[Situation] = []
    slips = iter([503])
    edge.urls = edge.urls[:1]
    play(edge, adapt=watched(alone))
    assert {situation.penalty_s for situation in alone} == {0.0}, "there is no other server to go to"


def test_what_it_adapts_by_is_told_and_on_which_grounds_once() -> None:
    for abr, called in (("policy", "headrace"), ("bola", "bola")):
        edge = FakeEdge()
        play(edge, device=replace(DEVICE, abr=abr), prior=Prior(8.0, 0.5, 2.0))
        assert {r.fields["abr"] for r in edge.reports} == {called}
        [grounds] = [r.fields for r in edge.reports if "com.headrace-ladder" in r.fields.get("custom", {})]
        assert (grounds["e"], grounds["sta"], "msd_ms" in grounds) == ("ps", "p", True)
        assert grounds["custom"] == {
            "com.headrace-ladder": "300 1000 2500",
            "com.headrace-buffer-max": "24000",
            "com.headrace-prior": "8.0000 0.5000 2.0000",
        }


def test_an_algorithm_that_nobody_knows_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="no adaptation is called 'guess': there are policy, bola"):
        play(FakeEdge(), device=replace(DEVICE, abr="guess"))


def test_encodings_of_one_bitrate_are_one_rung() -> None:
    class Twice(FakeEdge):
        def content(self, path: str) -> bytes | None:
            found = super().content(path)
            return found.replace(b'bandwidth="1000000"', b'bandwidth="300000"') if found and path.endswith(".mpd") else found

    seen: list[Situation] = []
    outcome, _ = play(Twice(), adapt=watched(seen))
    assert outcome.state == "e"
    assert seen[0].state.bitrates_kbps == (300, 2500)


def test_a_phone_stays_below_its_ceiling() -> None:
    edge = FakeEdge(segments=20)
    play(edge, device=Device("m", "phone", "eu-west", 64499, max_height=480))
    assert max(r.fields["br_kbps"] for r in edge.reports if r.fields["e"] == "rr" and r.fields["ot"] == "v") == 1000
    assert {r.fields["tb_kbps"] for r in edge.reports if r.fields["e"] == "bc"} == {1000}


def test_a_slow_network_rebuffers_and_says_so() -> None:
    edge = FakeEdge()
    outcome, _ = play(edge, kbps=330)
    assert outcome.rebuffer_count > 0
    assert states(edge.reports) == "sp" + "rp" * outcome.rebuffer_count + "e"
    changes = [r for r in edge.reports if r.fields["e"] == "ps"]
    told_ms = sum(b.event_time_ms - a.event_time_ms for a, b in pairwise(changes) if a.fields["sta"] == "r")
    assert told_ms == outcome.rebuffer_ms
    assert outcome.playing_ms == 20_000
    assert changes[-1].fields["bsa"] == outcome.rebuffer_count
    assert changes[-1].fields["bsda_ms"] == outcome.rebuffer_ms
    assert any(r.fields.get("bs") for r in edge.reports)


def test_pause_seek_and_quit_are_done_when_they_are_due() -> None:
    edge = FakeEdge(segments=30)
    doing = [Action(5_000, "pause"), Action(7_000, "resume"), Action(9_000, "seek", to_ms=50_000), Action(12_000, "quit")]
    outcome, _ = play(edge, actions=doing)
    assert states(edge.reports) == "spapkpq"
    at = {r.fields["sta"]: r.event_time_ms - EPOCH_MS for r in edge.reports if r.fields["e"] == "ps"}
    assert (at["a"], at["k"], at["q"]) == (5_000, 9_000, 12_000)
    assert outcome.state == "q"
    assert max(r.fields.get("pt_ms", 0) for r in edge.reports) > 50_000


def test_a_failing_server_is_left_for_the_next_and_the_refusal_is_reported() -> None:
    edge = FakeEdge(status=lambda url: 503 if "oca-1" in url and ("/003" in url or "/004" in url) else 200)
    outcome, _ = play(edge)
    assert (outcome.state, outcome.failovers) == ("e", 1)
    fetched = [(r.fields["oca_id"], r.fields["rc"]) for r in edge.reports if r.fields["e"] == "rr" and r.fields["ot"] != "o"]
    turn = fetched.index(("oca-1", 503))
    assert set(fetched[:turn]) == {("oca-1", 200)}
    assert set(fetched[turn + 1 :]) == {("oca-2", 200)}


@pytest.mark.parametrize(("status", "rc"), [(0, 0), (-1, 0)])
def test_silence_and_broken_bodies_are_failures_without_an_answer(status: int, rc: int) -> None:
    edge = FakeEdge(status=lambda url: status if "oca-1" in url and ".m4s" in url else 200)
    outcome, _ = play(edge)
    assert outcome.state == "e"
    failed = [r.fields for r in edge.reports if r.fields["e"] == "rr" and r.fields["rc"] == rc]
    assert [f["url"].split("/")[2] for f in failed] == ["oca-1"]


def test_no_server_at_all_is_a_failed_start() -> None:
    edge = FakeEdge(status=lambda url: 404)
    outcome, _ = play(edge)
    assert (outcome.state, outcome.startup_ms, outcome.errors) == ("f", None, ["m:404"])
    assert states(edge.reports) == "sf"
    assert [r.fields["ec"] for r in edge.reports if r.fields["e"] == "e"] == [["m:404"]]
    assert len(edge.asked) == 4


def test_servers_that_die_later_fail_the_playback_when_nothing_is_left_to_try() -> None:
    edge = FakeEdge(status=lambda url: 500 if "/005" in url else 200)
    outcome, _ = play(edge)
    assert outcome.state == "f"
    assert outcome.startup_ms is not None


def test_told_to_stop_it_quits_with_a_report() -> None:
    edge = FakeEdge()
    outcome, counts = play(edge, cancel_after_s=6)
    assert outcome.state == "q"
    assert states(edge.reports) == "spq"
    assert counts.made == counts.taken


def test_a_busy_collector_gets_the_same_reports_later_with_the_same_numbers() -> None:
    answers = iter([Answer(503, {"retry-after": "2"}), Answer(429, {"retry-after": "1"}), Answer(500)])
    edge = FakeEdge(collector=lambda: next(answers, Answer(202)))
    _, counts = play(edge)
    assert counts.retries == 3
    assert counts.taken == counts.made
    assert [r.fields["sn"] for r in edge.reports] == list(range(counts.made))


def test_a_refusal_by_content_is_counted_and_not_repeated() -> None:
    edge = FakeEdge(collector=lambda: Answer(400, {}, b"line 1: no"))
    _, counts = play(edge)
    assert (counts.taken, counts.refused, counts.retries) == (0, counts.made, 0)


def test_what_a_batch_lost_is_counted_report_by_report() -> None:
    edge = FakeEdge(collector=lambda: Answer(202, {}, b'{"accepted": 1, "rejected": [{"line": 2, "key": "br"}]}'))
    _, counts = play(edge)
    assert counts.taken == edge.posts
    assert counts.taken + counts.refused == counts.made


def test_a_dead_collector_costs_reports_but_never_the_playback() -> None:
    edge = FakeEdge(collector=lambda: Answer(503))
    outcome, counts = play(edge)
    assert outcome.state == "e"
    assert (counts.taken, counts.dropped) == (0, counts.made)


def test_what_the_gateway_refuses_is_said_in_its_words() -> None:
    class Refusing(FakeEdge):
        async def post(self, url: str, content: bytes, content_type: str, address: str = "") -> Answer:
            return Answer(404, {}, b"no such title")

    async def press() -> None:
        await press_play(Refusing(), "http://gateway", "nothing", "m")

    with pytest.raises(PlayRefused, match="answered 404 to 'nothing': no such title"):
        run_virtual(press())


def test_the_same_session_twice_tells_the_same() -> None:
    first, second = FakeEdge(), FakeEdge()
    play(first, kbps=900)
    play(second, kbps=900)
    assert first.reports == second.reports
