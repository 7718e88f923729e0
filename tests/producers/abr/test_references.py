"""The published algorithms: ours decide what the authors' did, chunk by chunk; and what their papers say of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.bench import abr_logs
from producers.abr import quetra, robust_mpc
from producers.abr.environment import LADDER_KBPS, play, read_traces, read_video
from producers.abr.rewards import LOG, MBPS
from producers.abr.state import State
from tests.kit import vectors
from tests.producers.abr.examples import state, steady, video

AGREEING = {"bb": 1.0, "rb": 1.0, "bola": 1.0, "hyb": 1.0, "quetra": 1.0, "mpc": 0.999}
"""Of `mpc`, rounding tells three pairs of equally good plans apart."""


@pytest.mark.parametrize("name", abr_logs.REFERENCES)
def test_it_decides_what_was_logged_and_comes_to_the_same(name: str) -> None:
    folder = vectors("abr")
    log, title = abr_logs.read(folder / "baseline_decisions", name), read_video(folder, chunks=abr_logs.CHUNKS_PLANNED_FOR)
    agreement = abr_logs.compare(name, read_traces(folder / "hsdpa_test"), title, log)
    assert agreement.decisions == 142 * 47
    assert agreement.agreeing >= AGREEING[name] * agreement.decisions
    mean = np.mean([session.reward for session in agreement.sessions])
    assert mean == pytest.approx(np.mean([logged.reward for logged in log.values()]), abs=0.01)


def test_what_the_logs_carry_on_is_what_makes_them_differ_from_the_papers() -> None:
    folder = vectors("abr")
    log, title = abr_logs.read(folder / "baseline_decisions", "rb"), read_video(folder)
    fresh = [play(abr_logs.REFERENCES["rb"], trace, title).reward for trace in read_traces(folder / "hsdpa_test")]
    assert np.mean(fresh) - np.mean([logged.reward for logged in log.values()]) > 0.03


@pytest.mark.parametrize("name", abr_logs.REFERENCES)
@given(st.data())
def test_any_state_gets_a_level_of_its_ladder(name: str, data: st.DataObject) -> None:
    ladder = tuple(sorted(data.draw(st.lists(st.floats(50, 20_000), min_size=1, max_size=4, unique=True))))
    samples = data.draw(st.lists(st.tuples(st.floats(1, 1e5), st.floats(0.01, 100)), max_size=8))
    left = data.draw(st.integers(1, 6))
    now = State(
        buffer_s=data.draw(st.floats(0, 60)), buffer_max_s=60.0, segment_s=4.0, bitrates_kbps=ladder,
        sizes=tuple(tuple(kbps * 500 for kbps in ladder) for _ in range(left)), left=left,
        previous=data.draw(st.integers(-1, len(ladder) - 1)),
        throughputs_kbps=tuple(kbps for kbps, _ in samples), delays_s=tuple(delay_s for _, delay_s in samples),
    )  # fmt: skip
    assert 0 <= abr_logs.REFERENCES[name](now) < len(ladder)


@pytest.mark.parametrize("name", ["rb", "hyb", "quetra", "mpc"])
def test_before_anything_was_measured_it_is_the_lowest(name: str) -> None:
    assert abr_logs.REFERENCES[name](state(throughputs_kbps=(), delays_s=(), previous=-1, buffer_s=0.0)) == 0


@pytest.mark.parametrize("name", [name for name in abr_logs.REFERENCES if name != "bb"])
def test_much_bandwidth_ends_at_the_highest_level_and_little_at_the_lowest(name: str) -> None:
    policy = abr_logs.REFERENCES[name]
    assert play(policy, steady(20.0), video()).levels[-1] == len(LADDER_KBPS) - 1
    assert play(policy, steady(0.2), video()).levels[-1] == 0


def test_quetra_slack_is_that_of_the_queue() -> None:
    for load in (0.5, 0.7, 0.9):  # with much room an M/D/1 queue, of Pollaczek and Khinchine's mean length
        assert 200 - quetra.slack(load, 200) == pytest.approx(load + load**2 / (2 * (1 - load)), rel=1e-6)
    assert quetra.slack(1.0, 60) == pytest.approx(29.92, abs=0.005)  # the authors' table
    assert quetra.slack(1.2, 60) == pytest.approx(2.65649, abs=1e-4)
    # One place: it is free, or else one is served; of the time 1 / (1 + load) is free.
    assert quetra.slack(0.8, 1) == pytest.approx(1 / 1.8)


def test_robust_mpc_is_the_best_plan_by_trying_each() -> None:
    @cache
    def best(buffer_s: float, before: float, ahead: int) -> float:
        return max((step(buffer_s, before, ahead, level)[0] for level in range(6)), default=0.0) if ahead < 3 else 0.0

    def step(buffer_s: float, before: float, ahead: int, level: int) -> tuple[float, int]:
        delay_s = now.sizes[ahead][level] * 8 / 1000 / expected_kbps + 0.08
        worth = now.worth(ahead)[level]
        then_s = max(buffer_s - delay_s, 0.0) + 4
        return MBPS(worth, before, max(delay_s - buffer_s, 0.0)) + best(then_s, worth, ahead + 1), level

    rng = np.random.default_rng(6)
    for _ in range(50):
        throughputs = tuple(rng.uniform(200, 5000, 6).tolist())
        previous = int(rng.integers(6))
        now = state(buffer_s=float(rng.uniform(0, 30)), previous=previous, throughputs_kbps=throughputs, delays_s=(3.0,) * 6)
        missed = max(robust_mpc.errors(throughputs)[-5:])
        expected_kbps = 5 / sum(1 / kbps for kbps in throughputs[-5:]) / (1 + missed)
        best.cache_clear()
        worth = {level: step(now.buffer_s, LADDER_KBPS[previous] / 1000, 0, level)[0] for level in range(6)}
        assert worth[robust_mpc.choose(now, horizon=3)] == pytest.approx(max(worth.values()))


def test_robust_mpc_plans_for_the_reward_that_it_is_given() -> None:
    careless = replace(MBPS, rebuffer=0.0)
    short = state(buffer_s=1.0)
    assert robust_mpc.choose(short, careless) == len(LADDER_KBPS) - 1 > robust_mpc.choose(short)
    logs = [[float(np.log(kbps / 300)) for kbps in LADDER_KBPS]] * 38
    assert robust_mpc.choose(state(utilities=logs, previous_utility=logs[0][2]), replace(LOG, up=1e3)) <= 2
