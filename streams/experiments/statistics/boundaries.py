"""Curves that a random walk stays below for ever with probability 1 − α: the stuff confidence sequences are made of.

S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics
49(2), 2021; for quantiles S. R. Howard, A. Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm
identification", Bernoulli 28(3), 2022. s is the sum of centred observations, v its intrinsic time, the variance so far. A mixture is a
martingale in them, narrowest at time `v_opt`; c is the scale of sub-exponential observations, g and h how far below and above its mean a
bounded one can lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from math import exp, inf, log, sqrt
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special  # type: ignore[import-untyped]

from streams.experiments.statistics.distributions import (
    beta_share,
    gamma_rest,
    gamma_share,
    log_beta,
    log_gamma,
    normal_cdf,
    probability,
    zeta,
)

Floats = NDArray[np.float64]
One = TypeVar("One", float, Floats)

EXACT = 1e-13
"""Roots are found to this, relatively."""


def best_rho(v_opt: float, alpha_opt: float = 0.05, one_sided: bool = False) -> float:
    """The mixture's precision that makes a bound for `alpha_opt` nearly narrowest at `v_opt` (Howard et al. 2021, §3.5)."""
    probability("alpha_opt", alpha_opt, 0.0, 0.5 if one_sided else 1.0)
    if v_opt <= 0:
        raise ValueError(f"v_opt is {v_opt!r} and must be above 0")
    level = 2 * log(1 / (2 * alpha_opt if one_sided else alpha_opt))
    return v_opt / (level + log(1 + level))


class Mixture:
    """A martingale log M(s, v), and where it reaches 1/α."""

    def log(self, s: float, v: float) -> float:
        """ln M at s and v."""
        raise NotImplementedError

    def largest(self, v: float) -> float:
        """The largest s there can be at v."""
        return inf

    def bound(self, v: float, alpha: float) -> float:
        """The s at which M is 1/α, or the largest there can be where M never is."""
        threshold = log(1 / probability("alpha", alpha))
        high = self.largest(v)
        if high == inf:
            high = max(v, 1.0)
            while self.log(high, v) <= threshold:
                high *= 2
        elif self.log(high, v) < threshold:
            return high
        return root(lambda s: self.log(s, v) - threshold, 0.0, high)


@dataclass(frozen=True)
class NormalMixture(Mixture):
    """For sums with normal tails; propositions 5 (two-sided) and 6."""

    v_opt: float
    alpha_opt: float = 0.05
    one_sided: bool = False
    rho: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rho", best_rho(self.v_opt, self.alpha_opt, self.one_sided))

    def log(self, s: float, v: float) -> float:
        whole = v + self.rho
        even = log(self.rho / whole) / 2 + s * s / (2 * whole)
        return even + log(2 * normal_cdf(s / sqrt(whole))) if self.one_sided else even

    def bound(self, v: float, alpha: float) -> float:
        if self.one_sided:
            return super().bound(v, alpha)
        return sqrt((v + self.rho) * (log(1 + v / self.rho) + 2 * log(1 / probability("alpha", alpha))))


@dataclass(frozen=True)
class _GammaMixture(Mixture):
    """What the mixtures over a gamma distribution share: its precision, and the part of log M that s and v do not change."""

    v_opt: float
    c: float
    alpha_opt: float = 0.05
    rho: float = field(init=False)
    before: float = field(init=False)

    def __post_init__(self) -> None:
        rho = best_rho(self.v_opt, self.alpha_opt, one_sided=True) / self.c**2
        object.__setattr__(self, "rho", rho)
        object.__setattr__(self, "before", rho * log(rho) - log_gamma(rho) - log(self._part(rho, rho)))

    def _part(self, shape: float, at: float) -> float:
        """The part of the gamma distribution that is mixed over."""
        raise NotImplementedError

    def _log(self, shape: float, at: float) -> float:
        """ln M where the posterior has this shape, and its rate is `at` above the precision."""
        rate = at + self.rho
        return self.before + log_gamma(shape) + log(self._part(shape, rate)) - shape * log(rate) + at


class GammaExponentialMixture(_GammaMixture):
    """For sums with exponential tails of scale c; proposition 9."""

    def _part(self, shape: float, at: float) -> float:
        return gamma_share(shape, at)

    def log(self, s: float, v: float) -> float:
        return self._log(v / self.c**2 + self.rho, (self.c * s + v) / self.c**2)


class GammaPoissonMixture(_GammaMixture):
    """For sums with Poisson tails of scale c; proposition 10."""

    def _part(self, shape: float, at: float) -> float:
        return gamma_rest(shape, at)

    def log(self, s: float, v: float) -> float:
        time = v / self.c**2
        return self._log(s / self.c + time + self.rho, time)


@dataclass(frozen=True)
class BetaBinomialMixture(Mixture):
    """For sums of observations between −g and h around their mean; propositions 7 (two-sided) and 8."""

    v_opt: float
    g: float
    h: float
    alpha_opt: float = 0.05
    one_sided: bool = False
    r: float = field(init=False)
    before: float = field(init=False)

    def __post_init__(self) -> None:
        if self.g <= 0 or self.h <= 0:
            raise ValueError(f"g is {self.g!r} and h is {self.h!r}: both must be above 0")
        variance = self.g * self.h
        object.__setattr__(self, "r", max(best_rho(self.v_opt, self.alpha_opt, self.one_sided) - variance, 1e-3 * variance))
        object.__setattr__(self, "before", self._log_beta(self.r, self.r))

    def _log_beta(self, low: float, high: float) -> float:
        g, h = self.g, self.h
        a, b = low / (g * (g + h)), high / (h * (g + h))
        return log_beta(a, b) + (log(beta_share(a, b, h / (g + h))) if self.one_sided else 0.0)

    def _drift(self, s: One, v: float) -> One:
        """What log M has besides the beta functions."""
        g, h = self.g, self.h
        return v / (g * h) * log(g + h) - (v + h * s) / (h * (g + h)) * log(g) - (v - g * s) / (g * (g + h)) * log(h)

    def log(self, s: float, v: float) -> float:
        return self._drift(s, v) + self._log_beta(self.r + v - self.g * s, self.r + v + self.h * s) - self.before

    def logs(self, s: Floats, v: float) -> Floats:
        """The same of many s at once, two-sided. Raises ValueError where it is one-sided."""
        if self.one_sided:
            raise ValueError("many values at once are for the two-sided mixture")
        g, h = self.g, self.h
        after = special.betaln((self.r + v - g * s) / (g * (g + h)), (self.r + v + h * s) / (h * (g + h)))
        return np.asarray(self._drift(s, v) + after - self.before)

    def largest(self, v: float) -> float:
        return v / self.g


def poly_stitching_bound(v: float, alpha: float, v_min: float, c: float = 0.0, s: float = 1.4, eta: float = 2.0) -> float:
    """The stitched bound √(v·log log v), from `v_min` on, for sub-gamma sums of scale c; theorem 1 with h(k) = (k + 1)ˢ ζ(s), eq. 10."""
    reached = max(v, v_min)
    ell = s * log(log(eta * reached / v_min)) + log(zeta(s) / (alpha * log(eta) ** s))
    return _stitched(reached, ell, c, eta)


def double_stitching_bound(p: float, t: float, alpha: float, t_opt: float, delta: float = 0.5, s: float = 1.4, eta: float = 2.0) -> float:
    """How far the number of values below the p-quantile ever strays from p·t, for all p at once; Howard and Ramdas 2022, theorem 3."""
    reached = max(t, t_opt)
    logit = log(p / (1 - p))
    r = p if p >= 0.5 else min(0.5, 1 / (1 + exp(-(logit + 2 * delta * sqrt(t_opt * eta / reached)))))
    variance = r * (1 - r)
    j = sqrt(reached / t_opt) * abs(logit) / (2 * delta) + 1
    ell = s * log(log(eta * reached / t_opt)) + s * log(j) + log(2 * zeta(s) * (2 * zeta(s) + 1) / (alpha * log(eta) ** s))
    return delta * sqrt(eta * reached * variance / t_opt) + _stitched(variance * reached, ell, (1 - 2 * p) / 3, eta)


def _stitched(v: float, ell: float, c: float, eta: float) -> float:
    """The boundary of the piece at v, for sub-gamma sums of scale c: each piece is η times as long as the last, `ell` its ln(1/error)."""
    k1, k2 = (eta**0.25 + eta**-0.25) / sqrt(2), (sqrt(eta) + 1) / 2
    linear = k2 * c * ell
    return sqrt(k1**2 * v * ell + linear**2) + linear


def empirical_process_lil_bound(t: float, alpha: float, t_min: float, a: float = 0.85) -> float:
    """How far an empirical distribution ever strays from the true one, from `t_min` values on; Howard and Ramdas 2022, theorem 2."""
    if t < t_min:
        return inf
    return a * sqrt((log(1 + log(t / t_min)) + _empirical_process_constant(alpha, a)) / t)


@lru_cache(maxsize=64)
def _empirical_process_constant(alpha: float, a: float) -> float:
    """C: the smallest for which the theorem's error, at its best η, is `alpha`."""

    def error(c: float) -> float:
        def at(eta: float) -> float:
            square = 2 / eta * (a - sqrt(2 * (eta - 1) / c)) ** 2
            return 4 * exp(-square * c) * (1 + 1 / ((square - 1) * log(eta))) if square > 1 else inf

        last = root(lambda eta: sqrt(eta / 2) + sqrt(2 * (eta - 1) / c) - a, 1.0, 2 * a * a)
        return float(optimize.minimize_scalar(at, bounds=(1 + 1e-12, last), method="bounded", options={"xatol": 1e-10}).fun)

    high = 5.0
    while error(high) > alpha:
        high *= 2
    return root(lambda c: error(c) - alpha, 1.0, high)


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where `function` changes its sign between `low` and `high`."""
    return float(optimize.brentq(function, low, high, xtol=EXACT * max(abs(low), abs(high), 1e-3), rtol=EXACT))
