"""The environment: it is the one that published figures come from, and the same for many traces at once as for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from infra.bench import abr_logs
from producers.abr.environment import (
    BUFFER_MAX_S,
    CHUNKS,
    LADDER_KBPS,
    PAYLOAD,
    ROUND_TRIP_S,
    BadTrace,
    Environment,
    Link,
    Links,
    Trace,
    Video,
    decided,
    play,
    read_trace,
    read_traces,
    read_video,
)  # fmt: skip
from producers.abr.rewards import LOG, MBPS, REWARDS, VMAF
from producers.abr.state import State
from tests.kit import vectors
from tests.producers.abr.examples import state, steady, video


@pytest.mark.parametrize("name", abr_logs.REPLAYED)
def test_logged_decisions_are_worth_what_was_logged(name: str) -> None:
    folder = vectors("abr")
    log, title = abr_logs.read(folder / "baseline_decisions", name), read_video(folder)
    traces = read_traces(folder / "hsdpa_test")
    assert len(traces) == len(log) == 142
    for trace in traces:
        assert play(decided(log[trace.name].levels), trace, title).reward == pytest.approx(log[trace.name].reward, abs=1e-6)


@st.composite
def bandwidths(draw: st.DrawFn) -> Trace:
    count = draw(st.integers(2, 12))
    lasting = draw(st.lists(st.one_of(st.just(0.0), st.floats(0.05, 30)), min_size=count - 1, max_size=count - 1))
    mbps = draw(st.lists(st.one_of(st.just(0.0), st.floats(0.05, 20)), min_size=count, max_size=count))
    assume(any(rate > 0 and lasts > 0 for rate, lasts in zip(mbps[1:], lasting, strict=True)))
    begin = draw(st.sampled_from([0.0, 0.3]))
    return Trace("drawn", tuple(np.cumsum([begin, *lasting]).tolist()), tuple(mbps))


@st.composite
def videos(draw: st.DrawFn) -> Video:
    levels, chunks = draw(st.integers(1, 4)), draw(st.integers(2, 12))
    ladder = tuple(sorted(draw(st.lists(st.integers(100, 8000), min_size=levels, max_size=levels, unique=True))))
    sizes = draw(st.lists(st.lists(st.floats(1e3, 4e6), min_size=levels, max_size=levels), min_size=chunks, max_size=chunks))
    quality = draw(st.lists(st.lists(st.floats(0, 100), min_size=levels, max_size=levels), min_size=chunks, max_size=chunks))
    return Video(tuple(map(tuple, sizes)), tuple(map(float, ladder)), 4.0, tuple(map(tuple, quality)))


@settings(max_examples=60)
@given(st.lists(bandwidths(), min_size=1, max_size=4), videos(), st.sampled_from(sorted(REWARDS)), st.randoms(use_true_random=False))
def test_many_traces_at_once_come_to_the_same_as_one_by_one(traces: list[Trace], title: Video, reward_name: str, random: object) -> None:
    assume(len(title.bitrates_kbps) > 1)
    reward, rng = REWARDS[reward_name], np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    levels = rng.integers(len(title.bitrates_kbps), size=(len(traces), len(title.sizes)))
    levels[:, 0] = 1
    environment = Environment(traces, title, reward)
    steps = [environment.step(levels[:, chunk]) for chunk in range(len(title.sizes))]
    for row, trace in enumerate(traces):
        alone = play(decided(levels[row].tolist()), trace, title, reward)
        assert alone.levels == tuple(levels[row])
        assert [step.rewards[row] for step in steps[1:]] == pytest.approx(alone.rewards, rel=1e-6, abs=1e-5)
        assert [step.rebuffers_s[row] for step in steps[1:]] == pytest.approx(alone.rebuffers_s, rel=1e-6, abs=1e-6)
        assert [step.delays_s[row] for step in steps] == pytest.approx(alone.delays_s, rel=1e-6, abs=1e-6)
        assert [step.throughputs_kbps[row] for step in steps] == pytest.approx(alone.throughputs_kbps, rel=1e-6)
    assert environment.left == 0
    with pytest.raises(IndexError):
        environment.step(levels[:, 0])


@given(bandwidths(), st.floats(0, 100), st.floats(1e3, 4e6))
def test_what_comes_through_in_the_time_of_a_download_is_the_download(trace: Trace, slept_s: float, size: float) -> None:
    links, which = Links([trace]), np.array([0])
    clock_s = links.sleep(which, links.first_s, np.array([slept_s]))
    took_s, _ = links.download(which, clock_s, np.array([size]))
    assert links.capacity(which, clock_s, took_s) == pytest.approx(size, rel=1e-6)


def test_a_steady_network_of_two_levels_by_hand() -> None:
    session = play(lambda _: 2, steady(2.4), video(3))
    first_s, then_s = 0.75 * 4 / (2.4 * PAYLOAD) + ROUND_TRIP_S, 1.2 * 4 / (2.4 * PAYLOAD) + ROUND_TRIP_S
    assert session.levels == (1, 2, 2)
    assert session.delays_s == pytest.approx((first_s, then_s, then_s))
    assert session.rebuffers_s == (0, 0)
    assert session.rewards == pytest.approx((1.2 - 0.45, 1.2))
    assert (session.kbps, session.switch_kbps, session.rebuffer_s) == pytest.approx((1200, 225, 0))
    slow = play(lambda _: 0, steady(0.1), video(2))
    assert slow.rebuffer_s == pytest.approx(0.3 * 4 / 0.095 + ROUND_TRIP_S - 4)
    assert slow.reward == pytest.approx(0.3 - 4.3 * slow.rebuffer_s - 0.45)


def test_a_policy_sees_what_a_player_would_and_no_more() -> None:
    seen: list[State] = []

    def watch(now: State) -> int:
        seen.append(now)
        return 3

    play(watch, steady(3.0), video(), LOG)
    assert [now.left for now in seen] == list(range(CHUNKS - 1, 0, -1))
    assert [now.previous for now in seen] == [1] + [3] * (CHUNKS - 2)
    assert all(len(now.sizes) == now.left == len(now.utilities) for now in seen)
    assert all(len(now.throughputs_kbps) == len(now.delays_s) == CHUNKS - now.left for now in seen)
    assert all(0 < now.buffer_s <= BUFFER_MAX_S for now in seen)
    assert max(now.buffer_s for now in seen) > BUFFER_MAX_S - 4
    assert seen[5].previous_utility == seen[5].worth(0)[3] == pytest.approx(np.log(1850 / 300))


def test_a_level_off_the_ladder_is_named() -> None:
    with pytest.raises(ValueError, match="chunk 1: level 6 of a ladder of 6"):
        play(lambda _: 6, steady(1.0), video())
    with pytest.raises(IndexError):
        Environment([steady(1.0)], video()).step([-1])


@pytest.mark.parametrize(
    ("times_s", "mbps", "said"),
    [
        ((0.0,), (1.0,), "at least two"),
        ((0.0, 1.0), (1.0,), "2 times and 1 bandwidths"),
        ((0.0, 1.0), (1.0, float("nan")), "not a number"),
        ((0.0, 1.0), (1.0, float("inf")), "not a number"),
        ((0.0, 1.0), (1.0, -1.0), "below 0"),
        ((0.0, 2.0, 1.0), (1.0, 1.0, 1.0), "do not ascend"),
        ((0.0, 1.0, 2.0), (1.0, 0.0, 0.0), "nothing ever comes through"),
        ((0.0, 1.0, 1.0), (1.0, 0.0, 5.0), "nothing ever comes through"),
    ],
)
def test_a_trace_that_nothing_can_be_downloaded_over_is_refused(times_s: tuple[float, ...], mbps: tuple[float, ...], said: str) -> None:
    with pytest.raises(BadTrace, match=said):
        Trace("t", times_s, mbps)


def test_files_that_are_no_traces_and_no_videos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("0 1\n1 one\n")
    with pytest.raises(BadTrace, match="t: not lines of"):
        read_trace(tmp_path / "t")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no trace"):
        read_traces(tmp_path / "empty")
    for sizes in (((1.0,) * 5,), (), ((1.0, 2, 3, 4, 5, float("nan")),), ((0.0, 2, 3, 4, 5, 6),)):
        with pytest.raises(ValueError, match="size"):
            Video(sizes, LADDER_KBPS)
    with pytest.raises(ValueError, match="no VMAF"):
        Environment([steady(1.0)], video(), VMAF)


def test_rewards_are_the_papers() -> None:
    assert MBPS(1.85, 0.75, 0.5) == pytest.approx(1.85 - 4.3 * 0.5 - 1.1)
    assert LOG(1.0, 2.0, 0.5) == pytest.approx(1 - 2.66 * 0.5 - 1)
    assert VMAF(80, 70, 0.5) == pytest.approx(0.8469011 * 80 - 28.79591348 * 0.5 + 0.29797156 * 10 - 2.661618558192494)
    assert VMAF(70, 80, 0) == pytest.approx(0.8469011 * 70 - 1.06099887 * 10 - 2.661618558192494)


def test_a_link_sleeps_over_the_end_of_its_trace() -> None:
    link = Link(Trace("t", (0.0, 1.0, 3.0), (9.0, 1.0, 2.0)))
    link.sleep(3.5)
    assert link.at == 1
    assert link.clock_s == pytest.approx(0.5)
    assert state().worth(0) == [kbps / 1000 for kbps in LADDER_KBPS]
