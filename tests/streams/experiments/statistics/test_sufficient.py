"""Sums add up, can be taken away, lose nothing, and say what the units themselves would."""

from __future__ import annotations

from dataclasses import astuple, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from streams.experiments.statistics.distributions import Undefined
from streams.experiments.statistics.effects import effect, gain
from streams.experiments.statistics.fixed import Side, fixed_horizon, proportions_p
from streams.experiments.statistics.histogram import Histogram, shares_below
from streams.experiments.statistics.sufficient import Cuped, CupedRatio, Mean, Proportion, Quantile, Ratio, Statistic

MICRO = st.integers(-(10**12), 10**12)


def mean_of(values: Any) -> Mean:
    return Mean(len(values), sum(values), sum(value * value for value in values))


def ratio_of(x: Any, y: Any) -> Ratio:
    return Ratio(len(x), sum(x), sum(x * x), sum(y), sum(y * y), sum(x * y))


@given(st.lists(MICRO, min_size=2, max_size=40), st.lists(MICRO, max_size=40), st.randoms())
def test_integers_merge_exactly_in_any_order_and_can_be_taken_away(first: list[int], second: list[int], chance: Any) -> None:
    together = first + second
    chance.shuffle(together)
    whole = Mean(0, 0, 0)
    for value in together:
        whole += mean_of([value])
    assert whole == mean_of(first) + mean_of(second)
    assert whole - mean_of(second) == mean_of(first)
    assert (whole - mean_of(second)).variance() == mean_of(first).variance()


def test_a_large_offset_costs_no_digit() -> None:
    values = [10**15 + deviation for deviation in (-3, -1, 0, 2, 2)]
    assert mean_of(values).variance() == np.var([-3, -1, 0, 2, 2], ddof=1)


def test_every_kind_of_sums_adds_all_its_fields() -> None:
    for kind in (Mean, Proportion, Ratio, Cuped, CupedRatio):
        count = len(fields(kind))
        one, two = kind(*range(1, count + 1)), kind(*range(10, count + 10))
        assert astuple(one + two) == tuple(a + b for a, b in zip(astuple(one), astuple(two), strict=True))
        assert one + two - two == one


def test_what_is_not_of_one_metric_is_not_added() -> None:
    with pytest.raises(TypeError, match="a Mean and a Proportion are not of one metric"):
        Mean(1, 1, 1) + Proportion(1, 1)  # type: ignore[operator]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused_by_name(bad: float) -> None:
    with pytest.raises(ValueError, match=r"Mean.sum_xx is .*: a unit's value was not a finite number"):
        Mean(3, 1.0, bad)
    with pytest.raises(ValueError, match="more units were taken away than there were"):
        Mean(1, 1, 1) - Mean(2, 1, 1)


def test_welchs_test_is_scipys() -> None:
    chance = np.random.default_rng(3)
    for n, m in ((5, 9), (40, 400), (2000, 1500)):
        a, b = chance.gamma(2, 3, n), chance.gamma(2, 3.3, m)
        found = effect(mean_of(a), mean_of(b))
        for side, name in ((Side.BOTH, "two-sided"), (Side.GREATER, "greater"), (Side.LESSER, "less")):
            theirs = stats.ttest_ind(b, a, equal_var=False, alternative=name)
            low, high = theirs.confidence_interval(0.9)
            ours = fixed_horizon(found, 0.1, side)
            assert (ours.low, ours.high, ours.p) == pytest.approx((low, high, theirs.pvalue), rel=1e-9)


def test_a_p_value_far_out_is_not_zero() -> None:
    found = effect(Mean(1000, 0.0, 1000.0), Mean(1000, 1000.0, 2000.0))
    expected = stats.ttest_ind_from_stats(1, np.sqrt(1000 / 999), 1000, 0, np.sqrt(1000 / 999), 1000, equal_var=False).pvalue
    assert 0 < fixed_horizon(found).p == pytest.approx(expected, rel=1e-9)


def test_two_proportions_are_pearsons_table() -> None:
    table = [[62, 1471 - 62], [87, 1529 - 87]]
    expected = stats.chi2_contingency(table, correction=False).pvalue
    assert proportions_p(Proportion(1471, 62), Proportion(1529, 87)) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(Undefined, match="all units are alike"):
        proportions_p(Proportion(10, 0), Proportion(10, 0))


def delta(function: Any, columns: list[Any]) -> float:
    """Variance of a function of means, with numbers for its slopes."""
    means, covariance = np.array([column.mean() for column in columns]), np.cov(columns)
    steps = np.eye(len(means)) * 1e-6 * np.abs(means)
    slopes = np.array([(function(means + step) - function(means - step)) / (2 * step.sum()) for step in steps])
    return float(slopes @ covariance @ slopes / len(columns[0]))


def test_ratios_follow_the_delta_method() -> None:
    chance = np.random.default_rng(4)
    y = chance.poisson(5, 3000) + 1.0
    x = y * chance.gamma(4, 0.25, 3000)
    u, v = x * chance.gamma(9, 1 / 9, 3000), y + chance.poisson(1, 3000)
    plain = ratio_of(x, y)
    assert plain.variance() / plain.n == pytest.approx(delta(lambda m: m[0] / m[1], [x, y]), rel=1e-6)
    four = CupedRatio(3000, *(float(c.sum()) for c in (x, y, u, v, x * x, y * y, u * u, v * v, x * y, x * u, x * v, y * u, y * v, u * v)))
    expected = delta(lambda m: m[0] / m[1] - 0.7 * m[2] / m[3], [x, y, u, v])
    assert four.variance(0.7) / four.n == pytest.approx(expected, rel=1e-6)
    assert astuple(four.unadjusted()) == pytest.approx(astuple(plain))


def test_a_relative_effect_follows_the_delta_method_below_zero_too() -> None:
    chance = np.random.default_rng(5)
    a, b = chance.normal(-5, 1, 800), chance.normal(-4, 2, 900)
    found = effect(mean_of(a), mean_of(b), relative=True)
    assert found.estimate == pytest.approx((b.mean() - a.mean()) / abs(a.mean()))
    of_a = (b.mean() / a.mean() ** 2) ** 2 * a.var(ddof=1) / 800
    assert found.standard_error**2 == pytest.approx(of_a + b.var(ddof=1) / 900 / a.mean() ** 2)


def test_the_covariate_gains_what_theory_says() -> None:
    """CUPED leaves 1 − ρ² of the variance."""
    chance = np.random.default_rng(6)
    x = chance.normal(10, 2, 40_000)
    y = 0.8 * x + chance.normal(0, 1.2, 40_000)
    halves = [(x[i::2], y[i::2]) for i in range(2)]
    a, b = (Cuped(len(p), sum(q), sum(q * q), sum(p), sum(p * p), sum(p * q)) for p, q in halves)
    assert gain(a, b) == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2, abs=0.005)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (Mean(0, 0, 0), Mean(5, 5, 9), "a variation has no data"),
        (Mean(5, 5, 5), Mean(5, 5, 9), "a variation with 5 units has no variance"),
        (Ratio(3, 1, 1, 0, 0, 0), Ratio(3, 1, 1, 2, 2, 1), "the denominator of a ratio is zero"),
        (Quantile(20, 0.99, 5.0, 4.0, 6.0, 20), Quantile(20, 0.99, 5.0, 4.0, 6.0, 20), "20 values are too few for quantile 0.99"),
        (Quantile(900, 0.5, 5.0, 5.0, 5.0, 900), Quantile(900, 0.5, 5.0, 4.0, 6.0, 900), "has no width"),
    ],
)
def test_what_has_no_answer_says_so(a: Statistic | Quantile, b: Statistic | Quantile, words: str) -> None:
    with pytest.raises(Undefined, match=words):
        effect(a, b)


def test_a_histogram_is_the_same_however_it_was_put_together() -> None:
    chance = np.random.default_rng(7)
    values = chance.lognormal(5, 1, 4000).astype(int).tolist()
    whole = Histogram.of(values)
    assert Histogram.of(values[:1500]) + Histogram.of(values[1500:]) == whole
    assert whole - Histogram.of(values[1500:]) == Histogram.of(values[:1500])
    for level in (0.1, 0.5, 0.95):
        assert whole.quantile(level).estimate == pytest.approx(np.quantile(values, level, method="inverted_cdf"), rel=1 / 63)


def test_the_interval_of_a_quantile_covers_it() -> None:
    chance = np.random.default_rng(8)
    inside = 0
    for _ in range(400):
        found = Histogram.of(chance.exponential(1e6, 800).astype(int).tolist()).quantile(0.9)
        inside += abs(found.estimate - 1e6 * np.log(10)) < 1.96 * (found.variance() / found.n) ** 0.5
    assert inside / 400 > 0.95 - 4 * 0.011


def test_clusters_widen_a_quantile_as_much_as_repeated_clusters_show() -> None:
    chance = np.random.default_rng(9)
    estimates, errors, naive = [], [], []
    for _ in range(200):
        speeds = chance.lognormal(6, 0.8, 150)
        units = [Histogram.of((speed * chance.lognormal(0, 0.3, 8)).astype(int).tolist()) for speed in speeds]
        whole = sum(units, Histogram())
        plain = whole.quantile(0.5)
        clustered = whole.clustered(0.5, shares_below(units, plain.estimate))
        estimates.append(plain.estimate)
        errors.append(clustered.variance() / clustered.n)
        naive.append(plain.variance() / plain.n)
    truth = np.var(estimates, ddof=1)
    assert np.mean(errors) == pytest.approx(truth, rel=0.35)
    assert np.mean(naive) < truth / 3
