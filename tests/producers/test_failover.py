"""Failover: when a server is left, what that costs, and that a viewer does not notice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.players.failover import (
    FORGIVEN_MOST_MS,
    SILENT_LEAST_MS,
    SILENT_MOST_MS,
    Budget,
    Patience,
    Progress,
    Servers,
    patience,
)
from tests.producers.fake_edge import SEGMENT_S, FakeEdge
from tests.producers.test_player import DEVICE, play, states

THREE = tuple(f"http://oca-{number}/t/v1/manifest.mpd" for number in (1, 2, 3))
WAITS = st.lists(st.integers(0, 10_000), max_size=30)


# ── the rules ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("buffer_ms", "segment_ms", "starts_ms", "expected"),
    [
        (None, None, [], Patience(1_000, 2_000)),
        (None, 4_000, [], Patience(1_000, 4_000)),
        (20_000, 2_000, [50] * 20, Patience(300, 2_000)),
        (20_000, 2_000, [150] * 20, Patience(450, 2_000)),
        (20_000, 2_000, [5_000], Patience(2_000, 2_000)),
        (1_500, 2_000, [400], Patience(500, 750)),
        (0, 2_000, [400], Patience(300, 300)),
    ],
)
def test_patience(buffer_ms: int | None, segment_ms: int | None, starts_ms: list[int], expected: Patience) -> None:
    assert patience(buffer_ms, segment_ms, starts_ms) == expected


@given(st.integers(0, 30_000), st.integers(1, 10_000), WAITS)
def test_patience_is_bounded_and_leaves_the_next_server_its_share_of_the_buffer(
    buffer_ms: int, segment_ms: int, starts_ms: list[int]
) -> None:
    found = patience(buffer_ms, segment_ms, starts_ms)
    assert SILENT_LEAST_MS <= found.silent_ms <= SILENT_MOST_MS
    assert found.silent_ms <= max(SILENT_LEAST_MS, buffer_ms // 3)
    assert SILENT_LEAST_MS <= found.rest_ms <= max(SILENT_LEAST_MS, buffer_ms // 2)
    less = patience(buffer_ms // 2, segment_ms, starts_ms)
    assert (less.silent_ms <= found.silent_ms, less.rest_ms <= found.rest_ms) == (True, True)


def test_what_is_wrong_with_a_server() -> None:
    limits = Patience(silent_ms=500, rest_ms=2_000)
    progress = Progress(total=1_000)
    assert progress.judge(9_000, limits) is None, "nobody has been asked yet"
    progress.waits(10_000)
    assert progress.judge(10_500, limits) is None
    assert progress.judge(10_501, limits) == "slow_start"
    progress.came(10_400, 100)
    assert progress.judge(99_000, limits) is None, "the link has bytes to pass"
    progress.waits(20_000)
    progress.came(20_400, 50)
    assert progress.judge(20_400, limits) == "slow", "400 ms for a twentieth are 6.8 s for the rest"
    progress.waits(20_400)
    progress.came(20_500, 600)
    assert progress.judge(99_000, limits) is None
    progress.waits(99_000)
    assert progress.judge(99_501, limits) == "stall"


def test_a_server_that_was_fast_and_becomes_slow_is_judged_as_it_is_now() -> None:
    progress, limits = Progress(total=1_000_000), Patience(silent_ms=500, rest_ms=2_000)
    progress.came(0, 1_000)
    progress.came(0, 500_000)
    for now_ms in range(0, 300, 100):
        progress.waits(now_ms)
        assert progress.judge(now_ms, limits) is None
        progress.came(now_ms + 100, 1_000)
    assert progress.judge(300, limits) == "slow", "half a megabyte at 10 kB/s"


def test_a_late_first_byte_says_nothing_about_the_next() -> None:
    progress = Progress(total=1_000)
    progress.waits(0)
    progress.came(1_900, 1)
    progress.waits(1_900)
    assert progress.judge(1_950, Patience(silent_ms=2_000, rest_ms=300)) is None


@given(st.lists(st.tuples(st.integers(0, 250), st.integers(0, 60_000), st.integers(1, 50_000)), min_size=1, max_size=40))
def test_a_slow_link_is_no_slow_server(pieces: list[tuple[int, int, int]]) -> None:
    """Whatever the link takes, judged is only what the server took: here less than anybody minds."""
    limits = patience(2_000, 2_000, [])
    progress, now_ms = Progress(total=2 * sum(size for *_, size in pieces)), 0
    for waited_ms, link_ms, size in pieces:
        progress.waits(now_ms)
        now_ms += waited_ms if progress.waited_ms + waited_ms < SILENT_LEAST_MS else 0
        assert progress.judge(now_ms, limits) is None
        progress.came(now_ms, size)
        now_ms += link_ms
        assert progress.judge(now_ms, limits) is None


@given(st.lists(st.booleans(), max_size=300), st.floats(0.01, 0.5), st.integers(1, 20))
def test_a_budget_is_never_exceeded(doing: list[bool], share: float, burst: int) -> None:
    budget, earned, spent = Budget(share, burst), 0, 0
    for earns in doing:
        if earns:
            budget.earn()
            earned += 1
        else:
            spent += budget.spend()
        assert spent <= burst + share * earned + 1e-6


def test_servers_are_asked_by_rank_and_those_that_failed_last() -> None:
    servers = Servers(3)
    assert [servers.next(0, []), servers.next(0, [0]), servers.next(0, [0, 1]), servers.next(0, [0, 1, 2])] == [0, 1, 2, 0]
    servers.failed(0, 0)
    servers.worked(1)
    assert [servers.next(1, []), servers.next(1, [1]), servers.next(1, [1, 2])] == [1, 2, 0]
    servers.failed(1, 1_000)
    servers.failed(2, 2_000)
    assert servers.next(2_000, []) == 0, "all are bad: the one that has not failed for longest"
    assert servers.next(5_000, []) == 0, "it may be tried again"


def test_a_server_is_shunned_twice_as_long_each_time() -> None:
    servers, at_ms, shunned_ms = Servers(2), 0, []
    servers.worked(1)
    servers.in_use = 0
    for _ in range(8):
        servers.failed(0, at_ms)
        until_ms = next(ms for ms in range(at_ms, at_ms + FORGIVEN_MOST_MS + 1, 1_000) if servers.next(ms, []) == 0)
        shunned_ms.append(until_ms - at_ms)
        at_ms = until_ms
    assert shunned_ms == [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]
    servers.worked(0)
    assert servers.next(at_ms, []) == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 20_000)), max_size=40))
def test_each_server_is_asked_once_before_any_is_asked_again(history: list[tuple[int, bool, int]]) -> None:
    servers, now_ms = Servers(5), 0
    for server, worked, pause_ms in history:
        now_ms += pause_ms
        if worked:
            servers.worked(server)
        else:
            servers.failed(server, now_ms)
    asked: list[int] = []
    for _ in range(10):
        asked.append(servers.next(now_ms, asked))
    assert sorted(asked[:5]) == sorted(asked[5:]) == [0, 1, 2, 3, 4]


# ── a whole player ────────────────────────────────────────────────────────────────────────────────────────────────────


def from_then_on(at_s: float, illness: str | int, hosts: tuple[str, ...] = ("oca-1",)) -> Callable[[str], str | int]:
    """Servers that fall ill while they serve."""
    return lambda host: illness if host in hosts and asyncio.get_running_loop().time() >= at_s else ""


def switches(edge: FakeEdge) -> list[tuple[str, str, str]]:
    """From, to and cause of each switch that was told."""
    told = [r.fields for r in edge.reports if r.fields["e"] == "ce"]
    assert all(fields["custom"] == {"cen": "com.headrace-switch"} for fields in told)
    return [(fields["switched_from"], fields["switched_to"], fields["switch_cause"]) for fields in told]


def failed(edge: FakeEdge) -> Counter[str]:
    """Requests that were told to have failed, by server."""
    return Counter(r.fields["url"].split("/")[2] for r in edge.reports if r.fields["e"] == "rr" and r.fields["rc"] == 0)


ILLNESSES = [("dead", {"broken"}), ("silent", {"slow_start", "stall"}), (5_000 * 1000 // 8 // 20, {"slow"}), ("corrupt", {"checksum"})]


@pytest.mark.parametrize("at_s", [0.05, 0.5, 1.0, 3.0, 6.28, 8.0, 15.0])
@pytest.mark.parametrize(("illness", "causes"), ILLNESSES)
def test_a_server_falls_ill_and_nobody_notices(at_s: float, illness: str | int, causes: set[str]) -> None:
    edge = FakeEdge(segments=30, ill=from_then_on(at_s, illness), sums=True, urls=THREE)
    outcome, counts = play(edge)
    assert (outcome.state, outcome.playing_ms) == ("e", 60_000)
    assert (outcome.rebuffer_count, outcome.rebuffer_ms) == (0, 0)
    [(left, to, cause)] = switches(edge)
    assert (left, to, cause in causes) == ("oca-1", "oca-2", True)
    assert outcome.failovers == 1
    assert len(edge.asked) <= 2 + 4 + 2 * 30 + 4, "and it costs next to nothing"
    assert counts.made == counts.taken
    assert set(failed(edge)) == (set() if illness == "corrupt" else {"oca-1"})


ILL = st.tuples(st.sampled_from(["dead", "silent", "corrupt", 12_500, 60_000]), st.floats(0, 50), st.floats(0.1, 30))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["oca-1", "oca-2", "oca-3"]), st.lists(ILL, max_size=3), st.lists(ILL, max_size=3))
def test_while_one_server_is_well_nobody_waits_longer_than_a_segment(
    well: str, first: list[tuple[str | int, float, float]], second: list[tuple[str | int, float, float]]
) -> None:
    """Whatever happens to the other two, and whenever; also that they recover, and fall ill again."""
    sick = dict(zip([host for host in ("oca-1", "oca-2", "oca-3") if host != well], (first, second), strict=True))

    def ill(host: str) -> str | int:
        now_s = asyncio.get_running_loop().time()
        return next((illness for illness, from_s, for_s in sick.get(host, []) if from_s <= now_s < from_s + for_s), "")

    edge = FakeEdge(segments=30, ill=ill, sums=True, urls=THREE)
    outcome, _ = play(edge)
    assert outcome.state == "e"
    assert outcome.rebuffer_ms <= SEGMENT_S * 1000
    assert outcome.startup_ms is not None
    assert len(switches(edge)) == outcome.failovers
    assert len(edge.asked) <= (2 + 4 + 2 * 30 + 1) * 1.1 + 10


def test_a_stall_in_the_middle_of_a_body_is_told_as_one() -> None:
    edge = FakeEdge(segments=30, ill=from_then_on(0.5, "silent"), sums=True)
    play(edge, kbps=1_500)
    assert {cause for *_, cause in switches(edge)} <= {"stall", "slow_start"}


@pytest.mark.parametrize("rc", [403, 404, 500, 503])
def test_a_refusal_is_a_status(rc: int) -> None:
    edge = FakeEdge(status=lambda url: rc if "oca-1" in url and "/003" in url else 200)
    outcome, _ = play(edge)
    assert (outcome.rebuffer_ms, switches(edge)) == (0, [("oca-1", "oca-2", "status")])


@pytest.mark.parametrize("for_s", [0.4, 0.7, 1.0, 1.6, 3.0])
@pytest.mark.parametrize("late_s", [0.3, 0.45, 1.2])
def test_a_late_first_byte_of_the_next_server_does_not_save_the_one_that_stalls(for_s: float, late_s: float) -> None:
    """However much of the segment the first one has already given."""

    def ill(host: str) -> str | int:
        now_s = asyncio.get_running_loop().time()
        if host == "oca-1":
            return "silent" if 0.42 <= now_s < 0.42 + for_s else ""
        return round(4096 / late_s) if now_s < 2 else ""

    edge = FakeEdge(segments=30, ill=ill, sums=True)
    outcome, _ = play(edge, kbps=1_500)
    assert outcome.state == "e"
    assert outcome.rebuffer_ms <= SEGMENT_S * 1000
    assert len(switches(edge)) == outcome.failovers <= 2


@pytest.mark.parametrize(("abr", "cause"), [("policy", "stall"), ("bola", "slow_start")])
def test_the_next_server_may_be_ill_too(abr: str, cause: str) -> None:
    """At that time the policy is in the middle of a segment, BOLA is between two."""
    edge = FakeEdge(segments=30, ill=from_then_on(6, "silent", ("oca-1", "oca-2")), urls=THREE)
    outcome, _ = play(edge, device=replace(DEVICE, abr=abr))
    assert (outcome.state, outcome.rebuffer_ms) == ("e", 0)
    assert switches(edge) == [("oca-1", "oca-3", cause)]
    assert failed(edge) == {"oca-1": 1, "oca-2": 1}


def test_a_segment_that_is_wrong_is_not_shown() -> None:
    edge = FakeEdge(segments=30, ill=from_then_on(6, "corrupt"), sums=True)
    outcome, _ = play(edge)
    assert outcome.segments == 30
    wrong = [r for r in edge.reports if r.fields["e"] == "rr" and r.fields["oca_id"] == "oca-1" and r.event_time_ms % 10**9 > 6_000]
    assert wrong, "it was fetched, and told of"


def test_without_checksums_nothing_is_checked() -> None:
    edge = FakeEdge(ill=from_then_on(0, "corrupt"))
    outcome, _ = play(edge)
    assert (outcome.state, switches(edge), sum("checksums.json" in url for url in edge.asked)) == ("e", [], 1)


@pytest.mark.parametrize("kbps", [250, 330, 500, 900])
def test_a_slow_link_is_not_blamed_on_a_server(kbps: float) -> None:
    edge = FakeEdge(sums=True)
    outcome, _ = play(edge, kbps=kbps)
    assert (outcome.failovers, switches(edge), failed(edge)) == (0, [], {})
    assert {url.split("/")[2] for url in edge.asked} == {"oca-1"}


def test_a_server_that_hesitates_and_then_answers_is_kept_and_not_told_of() -> None:
    def ill(host: str) -> str | int:
        late = host == "oca-2" or 6 <= asyncio.get_running_loop().time() < 6.3
        return 8_000 if late else ""  # a piece of 4096 bytes takes half a second

    edge = FakeEdge(segments=30, ill=ill)
    outcome, _ = play(edge)
    assert (outcome.rebuffer_ms, switches(edge), failed(edge)) == (0, [], {})
    assert any("oca-2" in url for url in edge.asked), "it was raced"


@pytest.mark.parametrize("illness", ["dead", "silent"])
def test_where_all_are_down_they_are_not_attacked(illness: str) -> None:
    edge = FakeEdge(segments=30, ill=from_then_on(6, illness, ("oca-1", "oca-2", "oca-3")), urls=THREE)
    outcome, _ = play(edge)
    assert (outcome.state, outcome.errors) == ("f", ["v:0"])
    before = [url for url in edge.asked if "/v1/" in url]
    assert states(edge.reports).startswith("sp")
    assert max(Counter(url.partition("?")[0].split("/v1/")[1] for url in before).values()) <= 6


def test_where_every_server_is_slow_the_budget_bounds_what_is_asked_twice() -> None:
    edge = FakeEdge(segments=60, ill=lambda host: 30_000, urls=THREE)
    outcome, _ = play(edge, kbps=100_000)
    assert outcome.state == "e"
    wanted = 60 * 2 + 4 + 2
    assert len(edge.asked) <= wanted * 1.1 + 10


def test_a_lonely_server_is_waited_for() -> None:
    edge = FakeEdge(ill=lambda host: 100_000, urls=THREE[:1])
    outcome, _ = play(edge)
    assert (outcome.state, outcome.failovers) == ("e", 0)
    assert outcome.rebuffer_ms <= SEGMENT_S * 1000
