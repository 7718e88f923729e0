"""Always-valid inference without any large-sample argument: proportions, event counts, quantiles. Valid from the first unit.

Wider than the asymptotic sequence of `always_valid` where that is honest, and honest where it is not: few units, rare events, far tails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, floor, log

import numpy as np
from numpy.typing import NDArray
from scipy import optimize  # type: ignore[import-untyped]

from streams.experiments.statistics.boundaries import BetaBinomialMixture, root
from streams.experiments.statistics.distributions import Undefined, log_beta, probability
from streams.experiments.statistics.fixed import Result

Floats = NDArray[np.float64]

EDGE = 1e-12
"""Shares are looked for from here to 1 minus this."""


def proportion(successes: float, n: int, alpha: float = 0.05, planned: float = 1000.0) -> tuple[float, float]:
    """Confidence sequence for a share, narrowest at `planned` units: all p whose beta-binomial mixture is below 1/α.

    H. Robbins 1970; Howard et al. 2021, proposition 7. Raises ValueError when successes are not between 0 and n.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes!r} of {n} units is no share")
    share, threshold = successes / n, log(1 / probability("alpha", alpha))

    def excess(p: float) -> float:
        mixture = BetaBinomialMixture(p * (1 - p) * planned, p, 1 - p)
        return mixture.log((share - p) * n, p * (1 - p) * n) - threshold

    low = root(excess, EDGE, share) if share > EDGE and excess(EDGE) > 0 else 0.0
    high = root(excess, share, 1 - EDGE) if share < 1 - EDGE and excess(1 - EDGE) > 0 else 1.0
    return low, high


def proportion_difference(a: tuple[float, int], b: tuple[float, int], alpha: float = 0.05, planned: float = 1000.0) -> tuple[float, float]:
    """b's share minus a's, from (successes, n) each: both shares are in their sequences of α/2 at once."""
    (low_a, high_a), (low_b, high_b) = (proportion(*one, alpha / 2, planned) for one in (a, b))
    return low_b - high_a, high_b - low_a


def rate_ratio(events_a: int, events_b: int, share_b: float = 0.5, alpha: float = 0.05, concentration: float = 100.0) -> Result:
    """How many times as often something happens in b as in a, where a part `share_b` of all that can happen is b's.

    Given that it happened, it was in b with a probability that follows from the ratio: M. Lindon, A. Malek, "Anytime-Valid Inference for
    Multinomial Count Data", NeurIPS 2022, of two Poisson processes with proportional rates. `concentration` is how many events the prior is
    worth that b's part is as designed; it and `share_b` must stay the same from look to look. Raises ValueError for negative counts.
    """
    if min(events_a, events_b) < 0 or concentration <= 0:
        raise ValueError(f"{events_a} and {events_b} events, concentration {concentration!r}: neither may be negative")
    probability("share_b", share_b)
    threshold = log(1 / probability("alpha", alpha))
    prior_b, prior_a = concentration * share_b, concentration * (1 - share_b)
    marginal = log_beta(prior_b + events_b, prior_a + events_a) - log_beta(prior_b, prior_a)

    def evidence(p: float) -> float:
        """ln of the Bayes factor against p."""
        return marginal - (events_b * log(p) if events_b else 0.0) - (events_a * np.log1p(-p) if events_a else 0.0)

    p_value = min(1.0, exp(-evidence(share_b)))
    if events_a + events_b == 0:
        return Result(0.0, np.inf, 1.0)
    middle = min(max(events_b / (events_a + events_b), EDGE), 1 - EDGE)
    odds = (1 - share_b) / share_b
    low = root(lambda p: evidence(p) - threshold, EDGE, middle) if events_b and evidence(EDGE) > threshold else 0.0
    high = root(lambda p: evidence(p) - threshold, middle, 1 - EDGE) if events_a and evidence(1 - EDGE) > threshold else 1.0
    return Result(odds * low / (1 - low), odds * high / (1 - high) if high < 1 else np.inf, p_value)


@dataclass(frozen=True)
class Sample:
    """Values in ascending order, each as often as it occurred: the raw ones, or the buckets of a histogram."""

    values: Floats
    upto: NDArray[np.int64]
    """How many values lie at or below each."""

    @classmethod
    def of(cls, values: Sequence[float] | Floats, counts: Sequence[int] | NDArray[np.int64] | None = None) -> Sample:
        """From values, or from distinct values with their counts. Raises Undefined for none, ValueError for NaN or infinite ones."""
        array = np.asarray(values, float)
        if not np.isfinite(array).all():
            raise ValueError("a value is not a finite number")
        weights = np.ones(len(array), np.int64) if counts is None else np.asarray(counts, np.int64)
        distinct, where = np.unique(array, return_inverse=True)
        each = np.bincount(where, weights=weights, minlength=len(distinct)).astype(np.int64)
        if not each.sum():
            raise Undefined("a variation has no data")
        return cls(distinct[each > 0], np.cumsum(each[each > 0]))

    @property
    def n(self) -> int:
        """How many values there are."""
        return int(self.upto[-1])

    def order(self, rank: int) -> float:
        """The value of this rank, from 1 to n."""
        return float(self.values[np.searchsorted(self.upto, min(max(rank, 1), self.n))])


def _mixture(level: float, planned: float) -> BetaBinomialMixture:
    return BetaBinomialMixture(planned * level * (1 - level), level, 1 - level)


def quantile(sample: Sample, level: float, alpha: float = 0.05, planned: float = 1000.0) -> tuple[float, float]:
    """Confidence sequence for a quantile, whatever the distribution: −∞ and ∞ while there are too few values.

    How many values lie below the true quantile is a sum of bounded observations: Howard and Ramdas 2022, theorem 1 with the beta-binomial
    mixture.
    """
    mixture, n = _mixture(probability("level", level), planned), sample.n
    v, threshold = level * (1 - level) * n, log(1 / probability("alpha", alpha))

    def excess(s: float) -> float:
        return mixture.log(s, v) - threshold

    most, least = (1 - level) * n, -level * n
    above = root(excess, 0.0, most) if excess(most) > 0 else most
    under = root(excess, least, 0.0) if excess(least) > 0 else least
    first, last = floor(level * n + under), floor(level * n + above) + 1
    return (sample.order(first) if first >= 1 else -np.inf), (sample.order(last) if last <= n else np.inf)


def quantile_difference_p(a: Sample, b: Sample, level: float, planned: float = 100.0) -> float:
    """Always-valid p-value of two samples having the same quantile: Howard and Ramdas 2022, on A/B tests.

    Were they the same x, both martingales at x would be small: the p-value is one over their smallest product.
    """
    mixture = _mixture(probability("level", level), planned)

    def log_mixture(n: int, share: float) -> float:
        return mixture.log((share - level) * n, level * (1 - level) * n)

    def lowest(sample: Sample) -> tuple[float, float, float]:
        """The share at which the martingale is smallest, and the values between which it is."""
        n = sample.n
        found = optimize.minimize_scalar(lambda at: log_mixture(n, at), bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-10})
        share = float(found.x)
        return share, sample.order(ceil(share * n)), sample.order(floor(share * n) + 1)

    def at(sample: Sample, low: tuple[float, float, float], x: Floats) -> Floats:
        """The martingale's logarithm, were the quantile x."""
        share, first, last = low
        upto = np.concatenate([[0], sample.upto])
        at_most, below = (upto[np.searchsorted(sample.values, x, side=side)] / sample.n for side in ("right", "left"))
        shares = np.where(x < first, at_most, np.where(x > last, below, share))
        return mixture.logs((shares - level) * sample.n, level * (1 - level) * sample.n)

    low_a, low_b = lowest(a), lowest(b)
    if low_a[2] > low_b[2]:
        a, b, low_a, low_b = b, a, low_b, low_a
    begin, end = low_a[2], low_b[1]
    between = b.values[(b.values >= min(begin, end)) & (b.values <= max(begin, end))]
    x = np.concatenate([[begin, end], between])
    return min(1.0, exp(-float((at(a, low_a, x) + at(b, low_b, x)).min())))
