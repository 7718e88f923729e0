"""What one variation does against another: an estimate and its standard error, absolute or relative, adjusted and stratified.

The relative effect is (b − a) / |a|, its variance by the delta method. A covariate of the time before the exposure takes θ from both
variations together; a's value without the covariate is what a relative effect is relative to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import copysign, inf, isfinite, sqrt
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from streams.experiments.statistics.distributions import Undefined
from streams.experiments.statistics.sufficient import (
    Cuped,
    CupedRatio,
    Matrix,
    Metric,
    Proportion,
    Statistic,
    Vector,
    bilinear,
    quadratic,
    quotient,
)

Floats = NDArray[np.float64]

NEGLIGIBLE_THETA = 1e-8
"""Below this the covariate of a ratio says nothing about it, and it is left out."""
DETERMINED = 1e-10
"""Share of its variance that one covariate must have beside another, 1 − ρ², to be regressed on both."""


@dataclass(frozen=True, slots=True)
class Effect:
    """b against a. `baseline` is a's own value, `n` the units (or values) of both; degrees of freedom after Welch and Satterthwaite.

    `standard_error` is that of `estimate`; `theta` the weight of the covariate, `strata` how many strata were averaged over.
    """

    estimate: float
    standard_error: float
    n: int
    degrees_of_freedom: float = inf
    baseline: float = 1.0
    relative: bool = False
    theta: float = 0.0
    strata: int = 1

    def __post_init__(self) -> None:
        if not (isfinite(self.estimate) and 0 < self.standard_error < inf):
            raise Undefined(f"an effect of {self.estimate!r} ± {self.standard_error!r} is none: the data have no variance, or no end")

    def scaled(self, factor: float) -> Effect:
        """The same effect in another unit, or over `factor` units (per day, of all traffic)."""
        return replace(
            self,
            estimate=self.estimate * factor,
            standard_error=self.standard_error * abs(factor),
            baseline=self.baseline * factor,
        )


def effect(a: Metric, b: Metric, relative: bool = False) -> Effect:
    """b against a. Raises Undefined when a variation has no data or no variance, or a relative effect no baseline; TypeError when the two
    are not of one metric.
    """
    if type(a) is not type(b):
        raise TypeError(f"a {type(a).__name__} cannot be compared with a {type(b).__name__}")
    theta = weight(a, b)
    (value_a, gradient_a), (value_b, gradient_b) = a.value(theta), b.value(theta)
    variance_a, variance_b = (_positive(one, gradient) for one, gradient in ((a, gradient_a), (b, gradient_b)))
    baseline, of_baseline = a.value() if theta else (value_a, gradient_a)
    difference = value_b - value_a
    degrees = welch(variance_a, a.n, variance_b, b.n)
    if not relative:
        error = sqrt(variance_a / a.n + variance_b / b.n)
        return Effect(difference, error, a.n + b.n, degrees, baseline, theta=theta)
    if baseline == 0:
        raise Undefined("the first variation's value is zero: nothing can be relative to it")
    # Who gets which variation is chance, so the covariate's difference is zero in expectation: of a mean it is left out of the slope.
    slope = b.value()[0] - baseline if isinstance(a, Cuped) else difference
    size, slope = abs(baseline), copysign(slope, slope * baseline)
    relative_a = [-g / size - slope * u / size**2 for g, u in zip(gradient_a, of_baseline, strict=True)]
    variance = quadratic(relative_a, a.covariance()) / a.n + variance_b / (b.n * size**2)
    return Effect(difference / size, sqrt(variance), a.n + b.n, degrees, baseline, relative=True, theta=theta)


def weight(a: Metric, b: Metric) -> float:
    """θ: what a unit of the covariate counts, from both variations together; 0 where there is no covariate, or it does not vary.

    Of a mean it is the pooled regression coefficient (Deng et al., WSDM 2013, eq. 4), of a ratio the same of linearised ratios.
    """
    if isinstance(a, Cuped) and isinstance(b, Cuped):
        (yy, xy), (_, xx) = (a + b).covariance()
        return xy / xx if xx > 0 and yy > 0 else 0.0
    if isinstance(a, CupedRatio) and isinstance(b, CupedRatio):
        both = before = 0.0
        for one in (a, b):
            x, y, u, v = one.means()
            if y == 0 or v == 0:
                return 0.0
            after, prior, covariance = (*quotient(x, y)[1], 0.0, 0.0), (0.0, 0.0, *quotient(u, v)[1]), one.covariance()
            both += bilinear(prior, covariance, after)
            before += quadratic(prior, covariance)
        theta = both / before if before > 0 else 0.0
        return theta if abs(theta) >= NEGLIGIBLE_THETA else 0.0
    return 0.0


def gain(a: Metric, b: Metric) -> float:
    """By which share the covariate lowers the variance of the absolute effect: 0 means of no use, 0.75 that a quarter of the units does."""
    theta = weight(a, b)
    without = sum(one.variance() / one.n for one in (a, b))
    return 1 - sum(one.variance(theta) / one.n for one in (a, b)) / without if without > 0 else 0.0


def welch(variance_a: float, n_a: int, variance_b: float, n_b: int) -> float:
    """Degrees of freedom of a difference of means of unequal variance: B. L. Welch, Biometrika 34, 1947; F. E. Satterthwaite, 1946."""
    of_a, of_b = variance_a / n_a, variance_b / n_b
    below = of_a**2 / (n_a - 1) + of_b**2 / (n_b - 1)
    return (of_a + of_b) ** 2 / below if below > 0 else float(n_a + n_b - 2)


def _positive(one: Metric, gradient: Vector) -> float:
    found = quadratic(gradient, one.covariance())
    if one.n <= 1 or found <= 0:
        raise Undefined(f"a variation with {one.n} units has no variance: nothing can be said of how sure its value is")
    return found


# Post-stratification


def stratified(strata: Sequence[tuple[Statistic, Statistic]], relative: bool = False) -> Effect:
    """b against a, from (a, b) in each stratum: cells are averaged by their share of all units.

    L. W. Miratrix, J. S. Sekhon, B. Yu, "Adjusting Treatment Effect Estimates by Post-Stratification in Randomized Experiments", JRSS B
    75(2), 2013; that the shares are themselves drawn is part of the variance. With a covariate, each cell is regressed on it. A cell
    without variance on a side joins the largest. Raises Undefined as `effect` does.
    """
    if not strata:
        raise Undefined("there is no stratum")
    all_a, all_b = strata[0]
    for a, b in strata[1:]:
        all_a, all_b = all_a + a, all_b + b
    if len(strata) > 1:
        strata = _comparable([(_as_mean(a), _as_mean(b)) for a, b in strata], _as_mean(all_a), _as_mean(all_b))
    if len(strata) == 1:
        return effect(*strata[0], relative)
    whole = effect(_as_mean(all_a), _as_mean(all_b))
    sizes = np.array([a.n + b.n for a, b in strata], float)
    shares = sizes / sizes.sum()
    cells = [_cell(a, b) for a, b in strata]
    means = np.array([mean for mean, _ in cells]).T
    covariance = means @ (np.diag(shares) - np.outer(shares, shares)) @ means.T
    covariance += sum(share * found for share, (_, found) in zip(shares, cells, strict=True))
    center = means @ shares
    half = len(center) // 2
    (value_a, gradient_a), (value_b, gradient_b) = _point(center[:half]), _point(center[half:])
    size, change = 1.0, value_b - value_a
    slope_a = -gradient_a
    if relative:
        if value_a == 0:
            raise Undefined("the first variation's value is zero: nothing can be relative to it")
        size = abs(value_a)
        slope_a = -gradient_a / size - copysign(change, change * value_a) * gradient_a / size**2
    gradient = np.concatenate([slope_a, gradient_b / size])
    variance = float(gradient @ covariance @ gradient) / float(sizes.sum())
    if variance <= 0:
        raise Undefined("no stratum has variance")
    return Effect(change / size, sqrt(variance), int(sizes.sum()), whole.degrees_of_freedom, value_a, relative, strata=len(strata))


def _as_mean(one: Statistic) -> Statistic:
    return one.as_mean() if isinstance(one, Proportion) else one


def _comparable(strata: list[tuple[Statistic, Statistic]], all_a: Statistic, all_b: Statistic) -> list[tuple[Statistic, Statistic]]:
    """The strata, large ones first, without covariates that do not vary; those that cannot stand alone are added to the largest."""
    if isinstance(all_a, (Cuped, CupedRatio)) and not (_covariates_vary(all_a) and _covariates_vary(all_b)):
        strata = [(cast(Cuped, a).unadjusted(), cast(Cuped, b).unadjusted()) for a, b in strata]
    ordered = sorted(strata, key=lambda pair: pair[0].n + pair[1].n, reverse=True)
    kept = [ordered[0]]
    for a, b in ordered[1:]:
        if _stands_alone(a) and _stands_alone(b) and not (isinstance(a, CupedRatio) and a.n + b.n <= 6):
            kept.append((a, b))
        else:
            kept[0] = kept[0][0] + a, kept[0][1] + b
    return kept


def _covariates_vary(one: Statistic) -> bool:
    covariance = one.covariance()
    return all(covariance[i][i] > 0 for i in range(len(covariance) // 2, len(covariance)))


def _stands_alone(one: Statistic) -> bool:
    try:
        return one.n > 1 and one.variance() > 0
    except Undefined:
        return False


def _cell(a: Statistic, b: Statistic) -> tuple[Floats, Floats]:
    """A stratum's means (of a, then of b) and their covariance, times its units."""
    n = a.n + b.n
    if isinstance(a, (Cuped, CupedRatio)):
        if _covariates_vary(a) and _covariates_vary(b) and (found := _regressed(a, cast(Cuped, b))):
            return found
        a, b = a.unadjusted(), cast(Cuped, b).unadjusted()
    means = np.array([*a.means(), *b.means()])
    k = len(means) // 2
    covariance = np.zeros((2 * k, 2 * k))
    covariance[:k, :k] = np.array(a.covariance()) * n / a.n
    covariance[k:, k:] = np.array(b.covariance()) * n / b.n
    return means, covariance


def _regressed(a: Cuped | CupedRatio, b: Cuped | CupedRatio) -> tuple[Floats, Floats] | None:
    """The same from the regression of the q outcomes on a constant, the variation and the q covariates, at the covariates' mean.

    None of too few units, and of covariates that determine one another: these tell no more than one, whose slopes cannot be told apart.

    R. A. Fisher's analysis of covariance, in deviations from each variation's means, so that large values cost no digits; the covariates'
    mean is itself estimated, which counts.
    """
    n, n_of = a.n + b.n, (a.n, b.n)
    means = [np.array(one.means()) for one in (a, b)]
    q = len(means[0]) // 2  # means and covariance have the outcomes first, then their covariates
    within = (a.n - 1) * np.array(_of_sample(a)) + (b.n - 1) * np.array(_of_sample(b))
    left = n - (3 if q == 1 else 6)
    if left <= 0 or np.linalg.det(within[q:, q:]) <= DETERMINED * np.prod(np.diag(within[q:, q:])):
        return None
    inverse = np.linalg.inv(within[q:, q:])
    slopes = inverse @ within[q:, :q]
    residual = (within[:q, :q] - within[:q, q:] @ slopes) / left
    center = (a.n * means[0][q:] + b.n * means[1][q:]) / n
    away = [center - mean[q:] for mean in means]
    spread = np.array(_of_sample(a + cast(Any, b)))[q:, q:] / n
    # The mean of the covariates is the same for both variations: so is what its error adds, and none of it is in b − a.
    of_mean = residual * np.trace(inverse @ spread) + slopes.T @ spread @ slopes
    blocks = [[residual * ((i == j) / n_of[i] + away[i] @ inverse @ away[j]) + of_mean for j in (0, 1)] for i in (0, 1)]
    adjusted = [mean[:q] + apart @ slopes for mean, apart in zip(means, away, strict=True)]
    return np.concatenate(adjusted), np.asarray(n * np.block(blocks), float)


def _of_sample(one: Cuped | CupedRatio) -> Matrix:
    return Cuped.covariance(one) if isinstance(one, Cuped) else one.covariance()


def _point(center: Floats) -> tuple[float, Floats]:
    """Value and gradient of a mean (1,) or of a ratio (2,)."""
    if len(center) == 1:
        return float(center[0]), np.ones(1)
    value, gradient = quotient(float(center[0]), float(center[1]))
    return value, np.array(gradient)
