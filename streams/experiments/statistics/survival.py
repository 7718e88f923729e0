"""Time until something happens, of units most of which it has not happened to yet: first rebuffering, first return, cancellation.

Units are counted by interval of time since their exposure: in which it happened, and in which they were seen last without it. The counts
merge, and from them come E. L. Kaplan and P. Meier's curve (JASA 53, 1958), the log-rank test (N. Mantel 1966; R. Peto, J. Peto, JRSS A
135, 1972) and the mean time up to a horizon (P. Royston, M. Parmar, BMC Medical Research Methodology 13:152, 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from streams.experiments.statistics.distributions import Undefined, normal_cdf
from streams.experiments.statistics.effects import Effect

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Survival:
    """(intervals,) each: `events` happened in the interval, `censored` were seen last in it, without the event and after those it had."""

    events: tuple[int, ...]
    censored: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.events) != len(self.censored) or not self.events:
            raise ValueError(f"{len(self.events)} intervals have events and {len(self.censored)} have units seen last in them")
        if min(self.events + self.censored) < 0:
            raise ValueError("more units were taken away than there were")

    @classmethod
    def of(cls, intervals: NDArray[np.int64], happened: NDArray[np.bool_], count: int) -> Survival:
        """From units: the interval each was last seen in, and whether the event happened then; intervals from 0 to `count` − 1."""
        if len(intervals) and not (intervals.min() >= 0 and intervals.max() < count):
            raise ValueError(f"an interval lies outside 0 to {count - 1}")
        each = [np.bincount(intervals[which], minlength=count) for which in (happened, ~happened)]
        return cls(*(tuple(int(value) for value in counts) for counts in each))

    @property
    def n(self) -> int:
        """Units."""
        return sum(self.events) + sum(self.censored)

    def __add__(self, other: Survival) -> Survival:
        return self._with(other, 1)

    def __sub__(self, other: Survival) -> Survival:
        return self._with(other, -1)

    def _with(self, other: Survival, sign: int) -> Survival:
        if len(self.events) != len(other.events):
            raise TypeError(f"{len(self.events)} and {len(other.events)} intervals are not of one metric")
        return Survival(
            tuple(mine + sign * its for mine, its in zip(self.events, other.events, strict=True)),
            tuple(mine + sign * its for mine, its in zip(self.censored, other.censored, strict=True)),
        )

    def at_risk(self) -> Floats:
        """(intervals,): units to which it could still happen when the interval began."""
        leaving = np.array(self.events, float) + self.censored
        return np.asarray(leaving[::-1].cumsum()[::-1])

    def curve(self) -> tuple[Floats, Floats]:
        """(intervals,) each: the share without the event after each interval, and its variance after M. Greenwood, 1926."""
        risk, events = self.at_risk(), np.array(self.events, float)
        share = (1 - events / np.maximum(risk, 1)).cumprod()
        return share, share**2 * _greenwood(risk, events).cumsum()

    def mean_time(self, horizon: int, width: float = 1.0) -> tuple[float, float]:
        """Mean time without the event in the first `horizon` intervals of `width` each, and its variance. Raises Undefined when nobody was
        watched that long.
        """
        risk, events = self.at_risk()[:horizon], np.array(self.events[:horizon], float)
        if horizon > len(self.events) or risk[-1] <= 0:
            raise Undefined(f"no unit was watched for {horizon} intervals")
        share = np.concatenate([[1.0], self.curve()[0][: horizon - 1]])
        left = share[::-1].cumsum()[::-1]  # area from each interval's begin on
        after = np.append(left[1:], 0.0)
        return width * float(share.sum()), width**2 * float((after**2 * _greenwood(risk, events)).sum())


def _greenwood(risk: Floats, events: Floats) -> Floats:
    """(intervals,): what each adds to the relative variance of the curve; nothing where it happened to all, or to nobody."""
    return np.where(risk > events, events / np.maximum(risk * (risk - events), 1), 0.0)


def log_rank(a: Survival, b: Survival) -> tuple[float, float]:
    """z, above 0 when it happens later in b, and its two-sided p-value at one planned look. Raises Undefined when it happened to nobody.

    Assumes that being seen last has nothing to do with the event; strongest when the rates are proportional.
    """
    if len(a.events) != len(b.events):
        raise TypeError(f"{len(a.events)} and {len(b.events)} intervals are not of one metric")
    risk_a, risk_b = a.at_risk(), b.at_risk()
    events_b = np.array(b.events, float)
    events, risk = np.array(a.events, float) + events_b, risk_a + risk_b
    some = (risk > 1) & (events > 0)
    share = risk_b[some] / risk[some]
    expected = events[some] * share
    variance = float((expected * (1 - share) * (risk[some] - events[some]) / (risk[some] - 1)).sum())
    if variance <= 0:
        raise Undefined("it happened to nobody, or to everybody at once: there is nothing to compare")
    z = float((expected - events_b[some]).sum()) / sqrt(variance)
    return z, 2 * normal_cdf(-abs(z))


def mean_time_effect(a: Survival, b: Survival, horizon: int, width: float = 1.0, relative: bool = False) -> Effect:
    """b's mean time without the event against a's, up to a horizon: an effect like any other, for every kind of test and interval."""
    (mean_a, variance_a), (mean_b, variance_b) = a.mean_time(horizon, width), b.mean_time(horizon, width)
    if not relative:
        return Effect(mean_b - mean_a, sqrt(variance_a + variance_b), a.n + b.n, baseline=mean_a)
    error = sqrt(variance_b + variance_a * (mean_b / mean_a) ** 2) / mean_a
    return Effect((mean_b - mean_a) / mean_a, error, a.n + b.n, baseline=mean_a, relative=True)
