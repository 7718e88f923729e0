"""How many units, how many days: what must be fixed before an experiment starts.

Two variations, a normal effect: J. Cohen, "Statistical Power Analysis for the Behavioral Sciences", 2nd ed. 1988, with unequal variances.
Looking early costs units: how many, the distribution of the looks says (`group_sequential.crossing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite, sqrt

import numpy as np

from streams.experiments.statistics import group_sequential
from streams.experiments.statistics.always_valid import edge, rho
from streams.experiments.statistics.boundaries import root
from streams.experiments.statistics.distributions import normal_cdf, normal_quantile, probability
from streams.experiments.statistics.fixed import Side


@dataclass(frozen=True, slots=True)
class Design:
    """What is looked for: an absolute effect of `effect` or more, on a metric of `variance` per unit.

    `variance` is what is left of it after a covariate: (1 − ρ²)·σ². `variance_b` is b's where it differs, as of a proportion. `share_b` is
    b's part of the units. Raises ValueError for what cannot be planned.
    """

    effect: float
    variance: float
    variance_b: float | None = None
    share_b: float = 0.5
    alpha: float = 0.05
    power: float = 0.8
    side: Side = Side.BOTH

    def __post_init__(self) -> None:
        probability("alpha", self.alpha)
        probability("power", self.power)
        probability("share_b", self.share_b)
        if not isfinite(self.effect) or self.effect == 0:
            raise ValueError(f"effect is {self.effect!r}: no number of units finds none")
        for name, value in (("variance", self.variance), ("variance_b", self.variance_b)):
            if value is not None and not 0 < value < inf:
                raise ValueError(f"{name} is {value!r} and must be above 0")

    @classmethod
    def of_proportion(cls, share: float, effect: float, share_b: float = 0.5, alpha: float = 0.05, power: float = 0.8) -> Design:
        """A share that changes by `effect`, absolute."""
        probability("share", share)
        changed = probability("share + effect", share + effect)
        return cls(effect, share * (1 - share), changed * (1 - changed), share_b, alpha, power)

    @property
    def per_unit(self) -> float:
        """The squared standard error of the effect, times the units of both variations."""
        b = self.variance if self.variance_b is None else self.variance_b
        return self.variance / (1 - self.share_b) + b / self.share_b

    def drift(self, units: float) -> float:
        """How many standard errors the effect is after so many units of both."""
        return abs(self.effect) * sqrt(units / self.per_unit)

    def units(self, drift: float) -> int:
        """After how many units of both the effect is so many standard errors."""
        return ceil(drift**2 * self.per_unit / self.effect**2)

    @property
    def tail(self) -> float:
        """α of the side that is looked at."""
        return self.alpha / 2 if self.side is Side.BOTH else self.alpha

    @property
    def needed_drift(self) -> float:
        """How many standard errors the effect must be for its power, at one look."""
        return normal_quantile(1 - self.tail) + normal_quantile(self.power)


def fixed_power(design: Design, units: float) -> float:
    """How likely the effect is found with so many units of both variations, at one look; in the wrong direction does not count."""
    return normal_cdf(design.drift(units) + normal_quantile(design.tail))


def fixed_units(design: Design) -> int:
    """Units of both variations for one look at the end."""
    return design.units(design.needed_drift)


def smallest_effect(design: Design, units: int) -> float:
    """The effect that so many units find with the design's power, at one look."""
    return design.needed_drift * sqrt(design.per_unit / units)


def group_sequential_units(
    design: Design, information: Sequence[float], spending: group_sequential.Spending = group_sequential.obrien_fleming
) -> int:
    """Units of both variations at the last of the planned looks, which lie at these shares of the information."""
    sides = 2 if design.side is Side.BOTH else 1
    return _units(design, information, group_sequential.bounds(information, design.alpha, spending, sides))


def always_valid_units(design: Design, looks: int = 30) -> int:
    """Units of both variations after which a confidence sequence, tuned to that many and looked at `looks` times, has found the effect."""
    if looks < 1:
        raise ValueError(f"{looks} looks find nothing")
    information = [(look + 1) / looks for look in range(looks)]
    return _units(design, information, sequence_bounds(information, design.alpha, design.side))


def sequence_bounds(information: Sequence[float], alpha: float = 0.05, side: Side = Side.BOTH) -> group_sequential.Floats:
    """(looks,): the z that `always_valid.confidence_sequence` asks for when it is tuned to the last look, whatever the units."""
    weight = rho(alpha, 1.0, side) ** 2
    return np.array([edge(t * weight, alpha, side) for t in information])


def days(units: int, units_per_day: float, coverage: float = 1.0) -> int:
    """How many days it takes, when a part `coverage` of the units that come each day take part. Raises ValueError when none do."""
    if not 0 < coverage <= 1 or not 0 < units_per_day < inf:
        raise ValueError(f"{units_per_day!r} units a day, of which {coverage!r} take part: an experiment without units never ends")
    return ceil(units / (units_per_day * coverage))


def _units(design: Design, information: Sequence[float], upper: group_sequential.Floats) -> int:
    def excess(drift: float) -> float:
        return float(group_sequential.crossing(information, upper, drift)[-1]) - design.power

    high = 1.0
    while excess(high) < 0:
        high *= 1.5
    return design.units(root(excess, 0.0, high))
