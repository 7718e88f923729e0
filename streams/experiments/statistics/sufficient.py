"""What a variation is known by: sums over its units, which can be added, taken away and compared without the units.

A statistic holds n and sums of powers and products. Adding two is the statistic of both groups of units; taking one away is that of the
rest, so a unit that turns out to have seen two variations leaves without a trace. Sums may be integers, of any size (a metric in
milliseconds, bytes or millionths): then merging is exact in every order, and variances come from n·Σx² − (Σx)² without losing a digit.

Each statistic says its means, their covariance per unit, and its value as a function of those means, with the gradient: the delta method
(H. Cramér, "Mathematical Methods of Statistics", 1946, §28.4; A. Deng, U. Knoblich, J. Lu, "Applying the Delta Method in Metric Analytics",
KDD 2018) does the rest, the same way for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, sqrt
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streams.experiments.statistics.distributions import Undefined, normal_quantile, probability

Number = int | float
Vector = tuple[float, ...]
Matrix = tuple[Vector, ...]

_PRODUCTS = tuple(tuple("sum_" + "".join(sorted(a + b, key="xyuv".index)) for b in "xyuv") for a in "xyuv")

Z_95 = normal_quantile(0.975)
"""Quantiles are known with a 95 % interval of theirs."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """Sums over `n` units. Raises ValueError when a sum is NaN or infinite, or n negative."""

    n: int

    def __post_init__(self) -> None:
        for name, value in self._sums():
            if not isfinite(value):
                raise ValueError(f"{type(self).__name__}.{name} is {value!r}: a unit's value was not a finite number")
        if self.n < 0:
            raise ValueError(f"{type(self).__name__}.n is {self.n}: more units were taken away than there were")

    def __add__(self, other: Self) -> Self:
        return type(self)(*(mine + its for mine, its in self._pairs(other)))

    def __sub__(self, other: Self) -> Self:
        return type(self)(*(mine - its for mine, its in self._pairs(other)))

    def _sums(self) -> Iterator[tuple[str, Number]]:
        return ((name, getattr(self, name)) for name in self.__dataclass_fields__)

    def _pairs(self, other: Self) -> Iterator[tuple[Any, Any]]:
        if type(self) is not type(other):
            raise TypeError(f"a {type(self).__name__} and a {type(other).__name__} are not of one metric")
        return ((value, getattr(other, name)) for name, value in self._sums())

    def means(self) -> Vector:
        """(k,): the means of which the value is a function. Raises Undefined when there is no unit."""
        raise NotImplementedError

    def covariance(self) -> Matrix:
        """(k, k): covariance of the means, times n."""
        raise NotImplementedError

    def value(self, theta: float = 0.0) -> tuple[float, Vector]:
        """The metric's value and its (k,) gradient in the means; `theta` weighs the covariate where there is one."""
        raise NotImplementedError

    def variance(self, theta: float = 0.0) -> float:
        """Variance of the value, times n. Raises Undefined where the value does not exist."""
        return quadratic(self.value(theta)[1], self.covariance())


@dataclass(frozen=True, slots=True)
class Mean(Statistic):
    """A mean per unit: Σx and Σx²."""

    sum_x: Number
    sum_xx: Number

    def means(self) -> Vector:
        return (mean(self.n, self.sum_x),)

    def covariance(self) -> Matrix:
        return ((moment(self.n, self.sum_x, self.sum_x, self.sum_xx),),)

    def value(self, theta: float = 0.0) -> tuple[float, Vector]:
        return self.means()[0], (1.0,)


@dataclass(frozen=True, slots=True)
class Proportion(Statistic):
    """The share of units with a property: Σx of zeros and ones, variance p(1 − p)."""

    sum_x: Number

    def means(self) -> Vector:
        return (mean(self.n, self.sum_x),)

    def covariance(self) -> Matrix:
        (p,) = self.means()
        return ((p * (1 - p),),)

    def value(self, theta: float = 0.0) -> tuple[float, Vector]:
        return self.means()[0], (1.0,)

    def as_mean(self) -> Mean:
        """The same zeros and ones as a mean, with the variance of a sample."""
        return Mean(self.n, self.sum_x, self.sum_x)


@dataclass(frozen=True, slots=True)
class Ratio(Statistic):
    """Σx / Σy over units that each bring both, such as rebuffered time over watched time; units stay the thing that is random."""

    sum_x: Number
    sum_xx: Number
    sum_y: Number
    sum_yy: Number
    sum_xy: Number

    def means(self) -> Vector:
        return mean(self.n, self.sum_x), mean(self.n, self.sum_y)

    def covariance(self) -> Matrix:
        xy = moment(self.n, self.sum_x, self.sum_y, self.sum_xy)
        return (
            (moment(self.n, self.sum_x, self.sum_x, self.sum_xx), xy),
            (xy, moment(self.n, self.sum_y, self.sum_y, self.sum_yy)),
        )

    def value(self, theta: float = 0.0) -> tuple[float, Vector]:
        return quotient(*self.means())


@dataclass(frozen=True, slots=True)
class Cuped(Statistic):
    """A mean y per unit, with the unit's own x of the time before its exposure.

    A. Deng, Y. Xu, R. Kohavi, T. Walker, "Improving the Sensitivity of Online Controlled Experiments by Utilizing Pre-Experiment Data",
    WSDM 2013.
    """

    sum_y: Number
    sum_yy: Number
    sum_x: Number
    sum_xx: Number
    sum_xy: Number

    def means(self) -> Vector:
        return mean(self.n, self.sum_y), mean(self.n, self.sum_x)

    def covariance(self) -> Matrix:
        xy = moment(self.n, self.sum_x, self.sum_y, self.sum_xy)
        return (
            (moment(self.n, self.sum_y, self.sum_y, self.sum_yy), xy),
            (xy, moment(self.n, self.sum_x, self.sum_x, self.sum_xx)),
        )

    def value(self, theta: float = 0.0) -> tuple[float, Vector]:
        y, x = self.means()
        return y - theta * x, (1.0, -theta)

    def unadjusted(self) -> Mean:
        """Without the covariate."""
        return Mean(self.n, self.sum_y, self.sum_yy)


@dataclass(frozen=True, slots=True)
class CupedProportion(Cuped):
    """The same of zeros and ones, before and after: variances and covariance as of shares, divided by n."""

    def covariance(self) -> Matrix:
        share = (self.n - 1) / self.n if self.n else 0.0
        (yy, xy), (_, xx) = Cuped.covariance(self)
        return (yy * share, xy * share), (xy * share, xx * share)


@dataclass(frozen=True, slots=True)
class CupedRatio(Statistic):
    """A ratio Σx / Σy, with the unit's own u and v of the time before its exposure, of which the ratio Σu / Σv is the covariate."""

    sum_x: Number
    sum_y: Number
    sum_u: Number
    sum_v: Number
    sum_xx: Number
    sum_yy: Number
    sum_uu: Number
    sum_vv: Number
    sum_xy: Number
    sum_xu: Number
    sum_xv: Number
    sum_yu: Number
    sum_yv: Number
    sum_uv: Number

    def means(self) -> Vector:
        return tuple(mean(self.n, value) for value in (self.sum_x, self.sum_y, self.sum_u, self.sum_v))

    def covariance(self) -> Matrix:
        sums = [getattr(self, f"sum_{name}") for name in "xyuv"]
        return tuple(
            tuple(moment(self.n, sums[i], sums[j], getattr(self, name)) for j, name in enumerate(row)) for i, row in enumerate(_PRODUCTS)
        )

    def value(self, theta: float = 0.0) -> tuple[float, Vector]:
        x, y, u, v = self.means()
        after, gradient = quotient(x, y)
        if not theta:
            return after, (*gradient, 0.0, 0.0)
        before, its = quotient(u, v)
        return after - theta * before, (*gradient, -theta * its[0], -theta * its[1])

    def unadjusted(self) -> Ratio:
        """Without the covariate."""
        return Ratio(self.n, self.sum_x, self.sum_xx, self.sum_y, self.sum_yy, self.sum_xy)


@dataclass(frozen=True, slots=True)
class Quantile:
    """A sample quantile, and where its 95 % interval lies by order statistics.

    `low` and `high` are the sample's quantiles at `level` ∓ z₀.₉₇₅·√(level(1 − level)/n_interval): the Binomial tells which order
    statistics they are, whatever the distribution (H. A. David, H. N. Nagaraja, "Order Statistics", 3rd ed. 2003, §7.1). n_interval is n,
    or fewer where a table of quantiles is coarser than n would allow; the variance is brought back to n. Quantiles cannot be added: add the
    histograms they come from (`histogram`).
    """

    n: int
    level: float
    estimate: float
    low: float
    high: float
    n_interval: int

    smallest_variance = 1e-5
    """From 100 units on, lest a sketch that cannot tell the interval's ends apart is taken for certainty."""

    def __post_init__(self) -> None:
        probability("level", self.level)
        for name, value in (("estimate", self.estimate), ("low", self.low), ("high", self.high)):
            if not isfinite(value):
                raise ValueError(f"Quantile.{name} is {value!r}: a unit's value was not a finite number")

    @classmethod
    def of(cls, values: Sequence[float] | NDArray[np.float64], level: float) -> Quantile:
        """From the values themselves. Raises Undefined when there is none."""
        ordered = np.sort(np.asarray(values, float))
        if not len(ordered):
            raise Undefined("a variation has no data")
        estimate, low, high = (float(ordered[rank - 1]) for rank in ranks(len(ordered), level))
        return Quantile(len(ordered), level, estimate, low, high, len(ordered))

    def means(self) -> Vector:
        """(1,): the quantile."""
        return (self.estimate,)

    def covariance(self) -> Matrix:
        """(1, 1): variance of the quantile, times n. Raises Undefined where the sample is too small to hold the interval."""
        fewest = Z_95**2 * max(self.level / (1 - self.level), (1 - self.level) / self.level)
        if self.n <= fewest:
            raise Undefined(f"{self.n} values are too few for quantile {self.level:g}: its 95 % interval needs more than {fewest:.0f}")
        found = self._variance()
        if found <= 0:
            raise Undefined(f"the interval of quantile {self.level:g} has no width: the sketch is coarser than the quantile's own error")
        return ((found if self.n < 100 else max(found, self.smallest_variance),),)

    def _variance(self) -> float:
        return self.n_interval / self.n * (self.n - 1) * ((self.high - self.low) / (2 * Z_95)) ** 2

    def value(self, theta: float = 0.0) -> tuple[float, Vector]:
        """The quantile, and its gradient in itself."""
        return self.estimate, (1.0,)

    def variance(self, theta: float = 0.0) -> float:
        """Variance of the quantile, times n."""
        return self.covariance()[0][0]


@dataclass(frozen=True, slots=True)
class ClusteredQuantile(Quantile):
    """A quantile of events of which a unit brings many: the variance of independent events times the design effect of the clusters.

    Per cluster, s is its number of events at or below the quantile and m its number of events; `below` is the Ratio Σs / Σm over clusters.
    A. Deng, U. Knoblich, J. Lu, KDD 2018, on percentiles: the variance is that of the share of events below it, over the density squared.
    """

    below: Ratio

    def _variance(self) -> float:
        if self.n <= 1 or self.below.n <= 1 or self.below.sum_y <= 0:
            raise Undefined(f"{self.below.n} clusters with {self.n} events tell nothing about how clusters differ")
        clustered = self.below.variance() / self.below.n
        independent = self.level * (1 - self.level) / self.n
        return Quantile._variance(self) * clustered / independent


Metric = Statistic | Quantile


def ranks(n: int, level: float) -> tuple[int, int, int]:
    """Which of n ordered values, from 1, are the quantile and the ends of its 95 % interval."""
    half = Z_95 * sqrt(probability("level", level) * (1 - level) / max(n, 1))
    return max(1, ceil(level * n)), max(1, floor((level - half) * n)), min(n, ceil((level + half) * n))


def mean(n: int, total: Number) -> float:
    """Σx / n. Raises Undefined when there is no unit."""
    if n <= 0:
        raise Undefined("a variation has no data")
    return total / n


def moment(n: int, sum_a: Number, sum_b: Number, sum_ab: Number) -> float:
    """Sample covariance from sums, zero for a single unit."""
    if n <= 1:
        return 0.0
    if isinstance(sum_ab, int):
        return (n * sum_ab - sum_a * sum_b) / (n * (n - 1))
    return (sum_ab - sum_a * sum_b / n) / (n - 1)


def quotient(x: float, y: float) -> tuple[float, Vector]:
    """x / y and its gradient. Raises Undefined when y is zero."""
    if y == 0:
        raise Undefined("the denominator of a ratio is zero in a variation")
    return x / y, (1 / y, -x / (y * y))


def quadratic(gradient: Sequence[float], covariance: Matrix) -> float:
    """gᵀΛg."""
    return bilinear(gradient, covariance, gradient)


def bilinear(left: Sequence[float], covariance: Matrix, right: Sequence[float]) -> float:
    """lᵀΛr."""
    return sum(a * b * row[j] for a, row in zip(left, covariance, strict=True) for j, b in enumerate(right))
