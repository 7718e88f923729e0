"""The posterior of an effect: a normal likelihood with a normal prior, or with none.

A. Gelman et al., "Bayesian Data Analysis", 3rd ed. 2013, §2.5. The risk of a choice is what it costs on average in the cases in which it is
wrong (C. Stucchio, "Bayesian A/B Testing at VWO", 2015). A posterior may be read at any time; how often it misleads when it is looked at
again and again is another question, to which `always_valid` has the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, pi, sqrt

from streams.experiments.statistics.distributions import Undefined, mills, normal_cdf, normal_quantile, probability
from streams.experiments.statistics.effects import Effect


@dataclass(frozen=True, slots=True)
class Prior:
    """What was believed of the effect beforehand: normal, in the unit of the effect or, when `relative`, in shares of the baseline."""

    mean: float = 0.0
    variance: float = 1.0
    relative: bool = True


@dataclass(frozen=True, slots=True)
class Posterior:
    """Mean and standard deviation of the effect, a credible interval, the chance that b is better, and the risks of choosing a, of b."""

    mean: float
    deviation: float
    low: float
    high: float
    chance_to_win: float
    risk_a: float
    risk_b: float


def posterior(effect: Effect, prior: Prior | None = None, alpha: float = 0.05, lower_is_better: bool = False) -> Posterior:
    """The effect's posterior; without a prior it is the likelihood. Raises ValueError for a prior without variance, Undefined when a prior
    is relative to nothing.
    """
    probability("alpha", alpha)
    mean, variance = effect.estimate, effect.standard_error**2
    if prior is not None:
        if prior.variance <= 0:
            raise ValueError(f"a prior's variance is {prior.variance!r} and must be above 0")
        unit = 1.0
        if prior.relative and not effect.relative:
            unit = abs(effect.baseline)
        elif effect.relative and not prior.relative:
            unit = 1 / abs(effect.baseline)
        if unit == 0:
            raise Undefined("the first variation's value is zero: a relative prior says nothing of an absolute effect")
        precision = 1 / variance + 1 / (prior.variance * unit**2)
        mean = (mean / variance + prior.mean * unit / (prior.variance * unit**2)) / precision
        variance = 1 / precision
    deviation = sqrt(variance)
    width = normal_quantile(1 - alpha / 2) * deviation
    positive, negative = _mean_above_zero(mean, deviation), _mean_above_zero(-mean, deviation)
    wins = normal_cdf((-mean if lower_is_better else mean) / deviation)
    risks = (negative, positive) if lower_is_better else (positive, negative)
    return Posterior(mean, deviation, mean - width, mean + width, wins, *risks)


def _mean_above_zero(mean: float, deviation: float) -> float:
    """E[max(X, 0)] of a normal X."""
    z = mean / deviation
    density = exp(-z * z / 2) / sqrt(2 * pi)
    if z < 0:  # with Mills' ratio, lest two numbers that are nearly equal are taken from one another
        return deviation * density * (1 + z * mills(-z))
    return mean * normal_cdf(z) + deviation * density
