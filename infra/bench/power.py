"""Is a known effect found as often as was planned, and does a covariate save as many units as theory says?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streams.experiments.statistics.effects import Effect, effect
from streams.experiments.statistics.planning import Design
from streams.experiments.statistics.sufficient import Mean

Chance = np.random.Generator


def normal(
    design: Design, units: int, shares: Sequence[float], experiments: int, chance: Chance, effect_size: float | None = None
) -> Sequence[list[Effect]]:
    """The effects at each look of experiments with normal values, whose sums are drawn as such: Σx normal, the squares' rest χ²."""
    truth = design.effect if effect_size is None else effect_size
    ends = [round(units / 2 * share) for share in shares]
    each = np.diff([0, *ends])
    sides = []
    for mean, variance in ((1.0, design.variance), (1.0 + truth, design.variance_b or design.variance)):
        sums = chance.normal(mean * each, np.sqrt(variance * each), (experiments, len(each)))
        squares = sums**2 / each + variance * chance.chisquare(each - 1, (experiments, len(each)))
        sides.append((sums.cumsum(axis=1).tolist(), squares.cumsum(axis=1).tolist()))
    (a, aa), (b, bb) = sides
    return [[effect(Mean(n, a[i][k], aa[i][k]), Mean(n, b[i][k], bb[i][k])) for k, n in enumerate(ends)] for i in range(experiments)]
