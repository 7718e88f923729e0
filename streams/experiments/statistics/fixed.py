"""Tests for a horizon fixed beforehand: valid once, at the planned end, and never for looking again.

Welch's test of an effect against `null`: two-sided, or one-sided for a change in one direction (Student 1908, B. L. Welch, Biometrika 34,
1947). Looking at these every day and stopping at the first p below 0.05 is wrong in 20 to 30 % of experiments without any effect: for
looking at any time there is `always_valid`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf, sqrt

from streams.experiments.statistics.distributions import Undefined, normal_cdf, probability, student_quantile, student_tail
from streams.experiments.statistics.effects import Effect
from streams.experiments.statistics.sufficient import Proportion


class Side(StrEnum):
    """Which change is looked for."""

    BOTH = "both"
    GREATER = "greater"
    LESSER = "lesser"


@dataclass(frozen=True, slots=True)
class Result:
    """An interval for the effect and the p-value of its being `null`; a one-sided interval ends at infinity on the other side."""

    low: float
    high: float
    p: float

    @classmethod
    def around(cls, estimate: float, width: float, side: Side, p: float) -> Result:
        """The interval that reaches `width` from the estimate, and to infinity where `side` does not ask for its end."""
        return cls(-inf if side is Side.LESSER else estimate - width, inf if side is Side.GREATER else estimate + width, p)


def fixed_horizon(effect: Effect, alpha: float = 0.05, side: Side = Side.BOTH, null: float = 0.0) -> Result:
    """Welch's t-test. Raises ValueError when `alpha` is not between 0 and 1."""
    probability("alpha", alpha)
    t = (effect.estimate - null) / effect.standard_error
    if side is Side.BOTH:
        each, p = alpha / 2, min(1.0, 2 * student_tail(abs(t), effect.degrees_of_freedom))
    else:
        each, p = alpha, student_tail(t if side is Side.GREATER else -t, effect.degrees_of_freedom)
    return Result.around(effect.estimate, student_quantile(1 - each, effect.degrees_of_freedom) * effect.standard_error, side, p)


def proportions_p(a: Proportion, b: Proportion, side: Side = Side.BOTH) -> float:
    """The score test of two proportions, with the variance both have if they are equal: K. Pearson's χ² of a 2 × 2 table, one degree.

    Raises Undefined when nobody, or everybody, has the property.
    """
    (p_a,), (p_b,) = a.means(), b.means()
    pooled = (a.sum_x + b.sum_x) / (a.n + b.n)
    variance = pooled * (1 - pooled) * (1 / a.n + 1 / b.n)
    if variance <= 0:
        raise Undefined("all units are alike: there is nothing to compare")
    z = (p_b - p_a) / sqrt(variance)
    if side is Side.BOTH:
        return 2 * normal_cdf(-abs(z))
    return normal_cdf(-z if side is Side.GREATER else z)
