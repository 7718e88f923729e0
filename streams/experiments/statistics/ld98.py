"""The bounds of `group_sequential` as the program ld98 prints them, whose numbers others have published and built on.

D. M. Reboussin, D. L. DeMets, K. Kim, K. K. G. Lan, "Computations for group sequential boundaries using the Lan-DeMets spending function
method", Controlled Clinical Trials 21, 2000. It integrates by trapezia on a grid, and its search for a bound stops when what is spent is
within 1e-7 of what should be. With many looks that is a per cent of a look's α and more, and where a look's α is below 1e-7 there is no
bound (z = 8) and its α is lost. So decide by `group_sequential.bounds`, which is exact, and compare with others by this.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, sqrt

import numpy as np

from streams.experiments.statistics.distributions import normal_cdf, normal_quantile
from streams.experiments.statistics.group_sequential import Floats, Spending, Walk, checked

STEP = 0.05
"""The grid's distance in standard deviations of a step of the walk."""
TOLERANCE = 1e-7
"""What is spent may differ by this."""
SAME = 1e-5
"""Two looks with less information between them are one."""
FARTHEST = 8.0
"""The largest z."""


def bounds(information: Sequence[float], alpha: float, spending: Spending, sides: int = 2, most_intervals: int = 1000) -> Floats:
    """(looks,): the z to be exceeded at each look. `most_intervals` is the grid's limit; arguments and errors as `group_sequential.bounds`,
    but looks may have the same information.
    """
    times = checked(information, alpha, sides, strictly=False)
    side = alpha / sides
    z = min(normal_quantile(1 - spending(side, times[0])), FARTHEST)
    spent = spending(side, times[0]) if z < FARTHEST else normal_cdf(-FARTHEST)
    deviation = sqrt(times[0])
    grid = _grid(z * deviation, deviation, deviation, None)
    density = np.exp(-((grid / deviation) ** 2) / 2) / (deviation * sqrt(2 * np.pi))
    found, at = [z], times[0]
    for before, t in pairwise(times):
        if t - at <= SAME:
            found.append(z)
            continue
        walk, root_t = Walk(before, grid, _trapezia(density, grid)), sqrt(t)
        budget = min(max(spending(side, t) - spent, 0.0), 1.0)
        if budget < TOLERANCE:
            z = FARTHEST
        else:
            z = _search(walk, t, budget) / root_t
            if z > FARTHEST:
                z = FARTHEST
                budget = walk.beyond(z * root_t, t)
        spent += budget
        grid = _grid(z * root_t, root_t, sqrt(t - before), most_intervals)
        density, at = walk.density(grid, t), t
        found.append(z)
    return np.array(found)


def _grid(high: float, root_t: float, deviation: float, most: int | None) -> Floats:
    low = -FARTHEST * root_t
    intervals = ceil((high - low) / (STEP * deviation))
    return np.linspace(low, high, (intervals if most is None else min(intervals, most)) + 1)


def _trapezia(density: Floats, grid: Floats) -> Floats:
    weighted = density * ((grid[-1] - grid[0]) / (len(grid) - 1))
    weighted[[0, -1]] /= 2
    return np.asarray(weighted)


def _search(walk: Walk, t: float, budget: float) -> float:
    """Steps of 1, 0.1, 0.01 … to and fro from the last bound, at most 50 of a size, until the spending is near enough."""
    edge, size = float(walk.nodes[-1]), 10.0
    reached = walk.beyond(edge, t)
    while abs(reached - budget) > TOLERANCE and size > 1e-15:
        size /= 10
        up = reached > budget + TOLERANCE
        for _ in range(50):
            edge += size if up else -size
            reached = walk.beyond(edge, t)
            if (up and reached <= budget + TOLERANCE) or (not up and reached >= budget - TOLERANCE):
                break
    return edge
