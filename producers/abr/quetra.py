"""QUETRA: the bitrate at which a queue model keeps the buffer where it is.

After P. K. Yadav, A. Shafiei, W. T. Ooi, "QUETRA: A Queuing Theory Approach to DASH Rate Adaptation", ACM Multimedia 2017. The buffer is an
M/D/1/K queue of seconds: they arrive at throughput over bitrate a second, and one is served. Each bitrate's slack, capacity less mean
length, is compared with the buffer: the nearest wins. As in the authors' player the slack is tabulated in hundredths of load, between
loads of 0.5 (below it: all of the buffer) and 1.2 (from it on: none); throughput is expected to be the bytes of the last few downloads
over their time; and a buffer that is almost empty takes the lowest level.
"""

from __future__ import annotations

from functools import lru_cache
from math import exp

import numpy as np

from producers.abr.state import State

LOW_LOAD, HIGH_LOAD = 0.5, 1.2


def choose(state: State, window: int = 4, low_s: float = 10.0) -> int:
    """The level of the next segment; of equally near ones the highest. Pure."""
    if not state.throughputs_kbps or state.buffer_s < low_s:
        return 0
    delays_s = state.delays_s[-window:]
    kilobits = sum(kbps * delay_s for kbps, delay_s in zip(state.throughputs_kbps[-window:], delays_s, strict=True))
    expected_kbps = kilobits / sum(delays_s)
    capacity = round(state.buffer_max_s)
    slacks = [_tabulated(expected_kbps / kbps, capacity) for kbps in state.bitrates_kbps]
    if slacks[0] == capacity:  # no level can be sustained
        return 0
    return min(range(len(slacks)), key=lambda level: (abs(slacks[level] - state.buffer_s), -level))


def _tabulated(load: float, capacity: int) -> float:
    if load < LOW_LOAD:
        return float(capacity)
    return 0.0 if load >= HIGH_LOAD else slack((int((load - LOW_LOAD) * 100 + 1e-9) + 50) / 100, capacity)


@lru_cache(maxsize=1024)
def slack(load: float, capacity: int) -> float:
    """Capacity less the mean length of an M/D/1/K queue with this load, both in services. Exact, from the chain that departures see."""
    arrivals = [exp(-load)]  # Poisson, during one service
    for count in range(1, capacity):
        arrivals.append(arrivals[-1] * load / count)
    chain = np.zeros((capacity, capacity))
    for length in range(capacity):
        left = max(length - 1, 0)
        chain[length, left : capacity - 1] = arrivals[: capacity - 1 - left]
        chain[length, -1] = 1 - chain[length, :-1].sum()
    balance = chain.T - np.eye(capacity)
    balance[-1] = 1
    seen = np.linalg.solve(balance, np.eye(capacity)[-1])
    full = 1 - 1 / (seen[0] + load)
    return float(capacity - (1 - full) * (seen @ np.arange(capacity)) - full * capacity)
