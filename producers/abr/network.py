"""What the trained policy looks at, and the small network that turns it into a preference for each level. Pure, plain arithmetic.

Any language with IEEE 754 doubles comes to the same decisions: sums run in the order of the inputs, and logarithms and exponentials, in
whose last bit libraries differ, are rounded to a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, floor, log

import numpy as np
from numpy.typing import NDArray

from producers.abr.state import State

RECENT, DELAYS, POOLED, AHEAD = 8, 4, 5, 4
"""How many of the newest throughputs and download times are seen one by one, how many downloads make the pooled throughput, and how many
segments after the next are looked at.
"""
REMEMBERED = 48
"""Older downloads are not seen at all."""
FAST, SLOW = 0.3, 0.07
"""Gains of the two exponential averages."""
CENTRE, CENTRE_KBPS = 7.0, 1096.6331584284585
"""ln(kbit/s) that counts as 0, and its exponential."""
LOGS = 5.0
GRID = 4096.0

Floats = NDArray[np.float64]


def on_grid(value: float) -> float:
    """The nearest multiple of 1/4096."""
    return floor(value * GRID + 0.5) / GRID


def count(levels: int) -> int:
    """How many features a ladder of so many levels has."""
    return 13 + RECENT + DELAYS + 4 * levels


def bounded(log_kbps: float) -> float:
    """ln(kbit/s) from CENTRE, within what training has seen: 7 kbit/s to 22 Mbit/s."""
    return min(max(on_grid(log_kbps) - CENTRE, -LOGS), LOGS - 2)


def features(state: State, buffer_s: float) -> list[float]:
    """What the network sees of a state with at least one sample, (count(levels),).

    In their order: the buffer, whole and near empty; the level before; newest throughputs and download times, the oldest repeated where
    there are fewer; averages, mean absolute changes, minimum, number and pooled throughput of the samples, in ln(kbit/s); sizes of the
    next segment; what it would leave of the buffer at the pooled throughput, and at one lower by the mean change; sizes of the segments
    after it against the ladder's; how many are left.
    """
    kbps, took_s = state.throughputs_kbps[-REMEMBERED:], state.delays_s[-REMEMBERED:]
    logs = [bounded(log(one)) for one in kbps]
    fast = slow = low = logs[0]
    change_fast = change_slow = 0.0
    for x in logs[1:]:
        change = abs(x - fast)
        change_fast += FAST * (change - change_fast)
        change_slow += SLOW * (change - change_slow)
        fast += FAST * (x - fast)
        slow += SLOW * (x - slow)
        low = min(low, x)
    sent = took = 0.0
    for rate, delay_s in list(zip(kbps, took_s, strict=True))[-POOLED:]:
        sent += rate * delay_s
        took += delay_s
    pooled = bounded(log(sent / took))
    rate, slower = on_grid(exp(pooled)), on_grid(exp(pooled - change_fast))
    sizes, top = state.sizes[0], state.bitrates_kbps[-1] * state.segment_s * 125
    after = [row[-1] / top for row in state.sizes[1 : 1 + AHEAD]] or [sizes[-1] / top]
    mean = 0.0
    for size in after:
        mean += size / len(after)
    return [
        buffer_s / 10,
        min(buffer_s, 8.0) / 4,
        *(1.0 if level == state.previous else 0.0 for level in range(len(sizes))),
        *(logs[max(len(logs) - 1 - back, 0)] for back in range(RECENT)),
        *(on_grid(log(took_s[max(len(took_s) - 1 - back, 0)])) for back in range(DELAYS)),
        fast,
        slow,
        change_fast,
        change_slow,
        low,
        min(len(logs), 10) / 10,
        pooled,
        *(size / 1e6 for size in sizes),
        *(spare(buffer_s, size, rate) for size in sizes),
        *(spare(buffer_s, size, slower) for size in sizes),
        mean,
        after[0],
        min(state.left, 16) / 16,
        min(state.left, 4) / 4,
    ]


def spare(buffer_s: float, size: float, rate: float) -> float:
    """What a download leaves of the buffer, in 8 s, between −1 and 3; `rate` is in units of CENTRE_KBPS."""
    return min(max((buffer_s - size * 8 / 1000 / (rate * CENTRE_KBPS + 1)) / 8, -1.0), 3.0)


@dataclass(frozen=True)
class Network:
    """Layers of weights, (inputs, outputs), and biases, (outputs,); rectified between layers."""

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]

    def __call__(self, inputs: Sequence[float]) -> list[float]:
        """The outputs, (outputs,). One input after the other, so that the order of every sum is fixed."""
        values: Sequence[float] = inputs
        for layer, (weights, biases) in enumerate(zip(self.weights, self.biases, strict=True)):
            total = biases
            for value, row in zip(values, weights, strict=True):
                if value:  # about half are rectified to 0
                    total = total + value * row
            values = (np.maximum(total, 0.0) if layer < len(self.weights) - 1 else total).tolist()
        return list(values)
