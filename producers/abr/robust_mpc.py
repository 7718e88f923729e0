"""RobustMPC: the first step of the plan that is worth most over the next few segments, on a pessimistic throughput.

After X. Yin, A. Jindal, V. Sekar, B. Sinopoli, "A Control-Theoretic Approach for Dynamic Adaptive Video Streaming over HTTP", ACM SIGCOMM
2015: throughput is expected to be the harmonic mean of the last few, divided by one plus the largest relative error that this made in the
last few downloads. Every plan is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import harmonic_mean

import numpy as np

from producers.abr.rewards import MBPS, Reward, switching
from producers.abr.state import State

THOUSANDTHS = 1000.0
"""Utilities are summed in these, where bitrates are whole numbers: sums of them are exact, and do not tell equally good plans apart."""


def choose(
    state: State, reward: Reward = MBPS, horizon: int = 5, window: int = 5, round_trip_s: float = 0.08, errors_before: Sequence[float] = ()
) -> int:
    """The level of the next segment, the lowest while nothing was measured; of equally good plans the one with the highest levels, the
    first segment's first. `state` has utilities in the unit of `reward`. `errors_before` are relative errors of an earlier session. Pure.
    """
    throughputs = state.throughputs_kbps
    if not throughputs:
        return 0
    worst = max([*errors_before, *errors(throughputs, window)][-window:])
    bytes_per_s = harmonic_mean(throughputs[-window:]) / (1 + worst) * 1000 / 8
    before = state.worth_before()
    utility_before = THOUSANDTHS * np.asarray([state.worth(0) if before is None else [before]])
    quality = cost = rebuffer_s = np.zeros((1, 1))
    buffer_s = np.array([[state.buffer_s]])
    for ahead, sizes in enumerate(state.sizes[:horizon]):  # plans are rows, their next steps columns
        utilities, delays_s = THOUSANDTHS * np.asarray(state.worth(ahead)), np.asarray(sizes) / bytes_per_s + round_trip_s
        quality = (quality + utilities).reshape(-1, 1)
        cost = (cost + switching(reward.up, reward.down, utilities - utility_before)).reshape(-1, 1)
        rebuffer_s = (rebuffer_s + np.maximum(delays_s - buffer_s, 0.0)).reshape(-1, 1)
        buffer_s = (np.maximum(buffer_s - delays_s, 0.0) + state.segment_s).reshape(-1, 1)
        utility_before = np.tile(utilities, len(utility_before)).reshape(-1, 1)
    worth = reward.weight * quality / THOUSANDTHS - reward.rebuffer * rebuffer_s - cost / THOUSANDTHS
    last_best = len(worth) - 1 - int(np.argmax(worth[::-1]))
    return last_best * len(state.bitrates_kbps) // len(worth)


def errors(throughputs_kbps: Sequence[float], window: int = 5) -> list[float]:
    """By how much the harmonic mean missed each sample, relative to the sample; 0 for the first, which nothing was expected of."""
    expected = [harmonic_mean(throughputs_kbps[max(0, at - window) : at]) for at in range(1, len(throughputs_kbps))]
    return [0.0, *(abs(mean - kbps) / kbps for mean, kbps in zip(expected, throughputs_kbps[1:], strict=True))]
