"""What is always valid is valid at every look: by exact sums where they are finite, by simulation elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import inf, sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, norm, truncnorm  # type: ignore[import-untyped]

from infra.bench import honesty as bench
from streams.experiments.statistics import exact, planning
from streams.experiments.statistics.always_valid import confidence_sequence, mixture_sprt, rho
from streams.experiments.statistics.bayes import Prior, posterior
from streams.experiments.statistics.distributions import Undefined
from streams.experiments.statistics.effects import Effect
from streams.experiments.statistics.exact import Sample
from streams.experiments.statistics.fixed import Side, fixed_horizon

FOUND = Effect(0.8, 0.3, 4000)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.3])
def test_the_p_value_is_the_level_at_which_the_interval_ends_at_the_null(side: Side, alpha: float) -> None:
    found = confidence_sequence(FOUND, alpha, side, 2000)
    weight = rho(alpha, 2000, side)
    for end in (found.low, found.high):
        if abs(end) < inf:
            assert confidence_sequence(FOUND, alpha, side, null=end, weight=weight).p == pytest.approx(alpha, rel=1e-9)


def test_a_sequence_tuned_to_the_end_is_there_at_most_1_7_times_a_fixed_interval() -> None:
    always, fixed = confidence_sequence(FOUND, planned_units=4000), fixed_horizon(FOUND)
    assert 1.4 < (always.high - always.low) / (fixed.high - fixed.low) < 1.7
    assert (always.high - always.low) / 2 / FOUND.standard_error == pytest.approx(planning.sequence_bounds([1.0])[0], rel=1e-9)


def test_a_look_without_information_finds_nothing() -> None:
    bounds = planning.sequence_bounds([0.0, 0.5, 1.0])
    assert bounds[0] == inf > bounds[1] > bounds[2]


def test_the_mixture_is_a_likelihood_ratio() -> None:
    """Its expectation without an effect is 1, and it is the ratio of two normal densities."""
    tau = 0.4
    ratio = norm.pdf(0.8, 0, sqrt(0.3**2 + tau**2)) / norm.pdf(0.8, 0, 0.3)
    assert mixture_sprt(FOUND, tau) == pytest.approx(1 / ratio, rel=1e-9)
    assert mixture_sprt(Effect(0.0, 0.3, 10), tau) == 1


@pytest.mark.parametrize("wrong", [0.0, 1.0, float("nan")])
def test_alpha_lies_between_0_and_1(wrong: float) -> None:
    for made in (fixed_horizon, confidence_sequence):
        with pytest.raises(ValueError, match="alpha is"):
            made(FOUND, wrong)
    with pytest.raises(ValueError, match="alpha is"):
        confidence_sequence(FOUND, 0.6, Side.GREATER)
    with pytest.raises(ValueError, match="planned_units is"):
        confidence_sequence(FOUND, planned_units=0)
    with pytest.raises(ValueError, match="deviation is"):
        mixture_sprt(FOUND, 0)


def test_an_effect_without_variance_is_none() -> None:
    with pytest.raises(Undefined, match="is none"):
        Effect(1.0, 0.0, 10)


def test_event_counts_are_a_martingale_under_equal_rates() -> None:
    """E[1/p] = 1 where p is not capped: the sum over all outcomes is finite, so this is exact but for the cap at 1."""
    share, n = 0.3, 40
    ratios = []
    for k in range(n + 1):
        p = exact.rate_ratio(n - k, k, share, concentration=7).p
        ratios.append(1 / p)
    expected = float(binom.pmf(np.arange(n + 1), n, share) @ np.maximum(ratios, 1))
    uncapped = float(binom.pmf(np.arange(n + 1), n, share) @ np.where(np.array(ratios) > 1, ratios, 0))
    assert uncapped <= 1 <= expected


def test_a_ratio_of_rates_is_covered_and_found() -> None:
    found = exact.rate_ratio(1000, 1300)
    assert found.low < 1.3 < found.high
    assert found.low > 1
    assert found.p < 1e-4
    assert exact.rate_ratio(0, 0).p == 1
    assert exact.rate_ratio(0, 50).high == inf
    assert exact.rate_ratio(50, 0).low == 0
    at_end = exact.rate_ratio(1000, 1300, alpha=found.p)
    assert at_end.low == pytest.approx(1, rel=1e-6)


def test_a_quantiles_sequence_is_the_binomials_in_the_limit_of_one_look() -> None:
    sample = Sample.of(np.arange(1, 2001))
    low, high = exact.quantile(sample, 0.5, planned=2000)
    assert 1000 - 3.6 * sqrt(500) < low < 1000 - 2.5 * sqrt(500)
    assert high - 1000 == pytest.approx(1000 - low, abs=2)
    assert exact.quantile(Sample.of([1.0, 2.0]), 0.9) == (-inf, inf)
    with pytest.raises(ValueError, match="not a finite number"):
        Sample.of([1.0, float("nan")])
    with pytest.raises(Undefined, match="no data"):
        Sample.of([])


def test_proportions_that_differ_are_told_apart() -> None:
    low, high = exact.proportion_difference((500, 5000), (750, 5000))
    assert 0 < low < 0.05 < high
    with pytest.raises(ValueError, match="is no share"):
        exact.proportion(7, 3)


def test_the_posterior_is_the_product_of_its_normals() -> None:
    found = Effect(0.4, 0.2, 100, baseline=2.0)
    belief = posterior(found, Prior(0.1, 0.02, relative=True))
    precision = 1 / 0.04 + 1 / 0.08
    assert belief.mean == pytest.approx((0.4 / 0.04 + 0.2 / 0.08) / precision, rel=1e-12)
    assert belief.deviation == pytest.approx(precision**-0.5, rel=1e-12)
    assert posterior(found).mean == 0.4
    lower = posterior(found, lower_is_better=True)
    assert lower.chance_to_win == pytest.approx(1 - posterior(found).chance_to_win)
    assert (lower.risk_a, lower.risk_b) == (posterior(found).risk_b, posterior(found).risk_a)


@pytest.mark.parametrize("z", [-30.0, -8.0, -1.0, 0.5, 6.0])
def test_risks_are_the_means_of_truncated_normals(z: float) -> None:
    belief = posterior(Effect(z, 1.0, 10))
    below = truncnorm.mean(-inf, -z, loc=z) * norm.cdf(-z) if z > -8.5 else z
    assert belief.risk_b == pytest.approx(-below, rel=1e-6)
    assert belief.risk_a - belief.risk_b == pytest.approx(z, rel=1e-9)
    assert belief.risk_a > 0


RECORD = json.loads(bench.RECORD.read_text())


@pytest.mark.parametrize("kind", sorted(bench.KINDS))
def test_the_first_experiments_of_each_kind_come_out_as_they_are_recorded(kind: str) -> None:
    """So the record, and the table that is written from it, are of the statistics as they are."""
    again = asdict(bench.honesty(kind, RECORD["seed"], range(1)))
    assert again.pop("width") == pytest.approx(RECORD["table"][kind]["first"].pop("width"), rel=1e-6)
    assert again == RECORD["table"][kind]["first"]


def test_the_table_in_the_docs_is_the_recorded_one() -> None:
    text = (Path(__file__).parents[4] / "docs" / "experiments-statistics.md").read_text()
    assert bench.renewed(text, RECORD) == text, "run `python -m infra.bench.honesty docs/experiments-statistics.md`"


@pytest.mark.parametrize("kind", sorted(bench.KINDS))
def test_no_kind_of_metric_is_called_different_more_often_than_promised(kind: str) -> None:
    counts = bench.Honesty(**RECORD["table"][kind]["all"])
    assert counts.experiments >= 10_000
    found, off = bench.rates_of(counts), bench.error(0.05, counts.experiments)
    assert all(rate <= 0.05 + off for rate in found.false_positives.values())
    assert min(found.coverage, found.fixed_coverage) >= 0.95 - off
    assert abs(found.fixed - 0.05) <= 0.005
    assert found.peeking > 0.1, "a fixed-horizon test that is looked at again and again must be seen to fail, or this simulation cannot"
    assert found.width < 1.7
