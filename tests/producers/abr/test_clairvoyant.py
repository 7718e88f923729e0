"""The clairvoyant plan and the bound: between them lies the best of all plans, by trying each where that can be done."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from infra.bench import abr_logs
from producers.abr.clairvoyant import bounds, plans
from producers.abr.environment import Trace, Video, decided, play, read_traces, read_video
from producers.abr.rewards import LOG, MBPS, REWARDS, VMAF, Reward
from tests.kit import vectors


def drawn(seed: int) -> tuple[list[Trace], Video]:
    rng = np.random.default_rng(seed)
    traces = [
        Trace(str(number), tuple(np.arange(40.0).tolist()), tuple(rng.lognormal(np.log(rng.uniform(0.3, 3)), 0.8, 40).tolist()))
        for number in range(6)
    ]
    ladder = (300.0, 1200.0, 4300.0)
    sizes = np.array(ladder) * 500 * rng.uniform(0.7, 1.3, (6, 1))
    quality = np.array([40.0, 70.0, 95.0]) + rng.uniform(-4, 4, (6, 3))
    return traces, Video(tuple(map(tuple, sizes.tolist())), ladder, 4.0, tuple(map(tuple, quality.tolist())))


@pytest.mark.parametrize("reward", REWARDS.values(), ids=REWARDS)
@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_all_plans_is_found_and_within_the_bound(seed: int, reward: Reward) -> None:
    traces, title = drawn(seed)
    found, most = plans(traces, title, reward, interval_s=1e-5), bounds(traces, title, reward)
    for trace, plan, bound in zip(traces, found, most, strict=True):
        best = max(play(decided((1, *rest)), trace, title, reward).reward for rest in product(range(3), repeat=5))
        assert play(decided(plan), trace, title, reward).reward == pytest.approx(best, abs=1e-6)
        assert best <= bound + 1e-9


@pytest.mark.parametrize("reward", [MBPS, LOG, VMAF], ids=lambda reward: reward.name)
def test_on_recorded_networks_it_is_worth_more_than_any_log_and_less_than_the_bound(reward: Reward) -> None:
    folder = vectors("abr")
    traces, title = read_traces(folder / "hsdpa_test")[::8], read_video(folder)
    found = [play(decided(plan), trace, title, reward).reward for trace, plan in zip(traces, plans(traces, title, reward), strict=True)]
    assert (np.array(found) <= bounds(traces, title, reward)).all()
    for name in abr_logs.REPLAYED:
        log = abr_logs.read(folder / "baseline_decisions", name)
        assert np.mean(found) > np.mean([play(decided(log[trace.name].levels), trace, title, reward).reward for trace in traces])


def test_more_intervals_find_no_less() -> None:
    traces, title = drawn(9)
    coarse, fine = (
        np.mean([play(decided(plan), trace, title).reward for trace, plan in zip(traces, plans(traces, title, MBPS, width), strict=True)])
        for width in (30.0, 1e-5)
    )
    assert coarse <= fine
