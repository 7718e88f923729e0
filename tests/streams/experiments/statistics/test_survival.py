"""Time to an event: from counts what scipy says from units."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from streams.experiments.statistics.distributions import Undefined
from streams.experiments.statistics.survival import Survival, log_rank, mean_time_effect


def draw(chance: np.random.Generator, n: int, mean: float) -> tuple[Survival, stats.CensoredData]:
    event, seen = np.ceil(chance.exponential(mean, n)).astype(int), chance.integers(5, 40, n)
    happened, last = event <= seen, np.minimum(event, seen)
    return Survival.of(last - 1, happened, 40), stats.CensoredData.right_censored(last, ~happened)


def test_curve_and_log_rank_are_scipys() -> None:
    chance = np.random.default_rng(41)
    (a, units_a), (b, units_b) = draw(chance, 300, 20.0), draw(chance, 250, 26.0)
    theirs = stats.ecdf(units_a).sf
    share, variance = a.curve()
    assert [share[int(t) - 1] for t in theirs.quantiles] == pytest.approx(theirs.probabilities.tolist(), rel=1e-9)
    assert variance[9] == pytest.approx(
        ((theirs.confidence_interval(0.95).high.evaluate(10) - share[9]) / 1.959963984540054) ** 2, rel=1e-6
    )
    expected = stats.logrank(units_a, units_b)
    z, p = log_rank(a, b)
    assert (z, p) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)
    assert log_rank(b, a)[0] == pytest.approx(-z)


def test_counts_merge() -> None:
    chance = np.random.default_rng(42)
    (a, _), (b, _) = draw(chance, 50, 9.0), draw(chance, 70, 9.0)
    assert (a + b).n == 120
    assert a + b - b == a
    with pytest.raises(ValueError, match="more units were taken away"):
        a - (a + b)


def test_mean_times_cover_the_truth() -> None:
    chance = np.random.default_rng(43)
    inside = 0
    for _ in range(300):
        found = mean_time_effect(draw(chance, 400, 20.0)[0], draw(chance, 400, 26.0)[0], 20)
        truth = [sum(np.exp(-t / mean) for t in range(20)) for mean in (20.0, 26.0)]
        inside += abs(found.estimate - (truth[1] - truth[0])) < 1.96 * found.standard_error
    assert abs(inside / 300 - 0.95) < 4 * np.sqrt(0.05 * 0.95 / 300)


def test_what_nobody_saw_is_undefined() -> None:
    never = Survival((0, 0), (3, 4))
    with pytest.raises(Undefined, match="it happened to nobody"):
        log_rank(never, never)
    with pytest.raises(Undefined, match="no unit was watched for 3 intervals"):
        never.mean_time(3)
