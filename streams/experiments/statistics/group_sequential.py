"""A few looks that are planned: how far z must be at each of them, when α is spent as information comes in.

K. K. G. Lan, D. L. DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70(3), 1983: the spending function says how
much of α may be used up until a look, and how much information there is at a look need not be known beforehand. The bounds come from the
joint distribution of the looks by recursive integration: P. Armitage, C. K. McPherson, B. C. Rowe, JRSS A 132, 1969; C. Jennison, B. W.
Turnbull, "Group Sequential Methods", 2000, ch. 19. Each of two sides spends α/2 by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, exp, log, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import special  # type: ignore[import-untyped]

from streams.experiments.statistics.boundaries import root
from streams.experiments.statistics.distributions import normal_cdf, normal_quantile, probability

Floats = NDArray[np.float64]
Spending = Callable[[float, float], float]
"""(α of one side, information so far as a share of all) → how much of it may be spent until then."""

TRUNCATION = 8.0
"""No bound is further out: normal tails of 1e-15."""

NODES = 5
"""Gauss–Legendre nodes per standard deviation of a step of the walk."""

REACH = 8.5
"""Standard deviations of a step that are worth adding up."""


def obrien_fleming(alpha: float, t: float) -> float:
    """Little at first, nearly all at the end: Lan and DeMets 1983, eq. 4, after P. C. O'Brien, T. R. Fleming, Biometrics 35, 1979."""
    return 2 * normal_cdf(normal_quantile(alpha / 2) / sqrt(t))


def pocock(alpha: float, t: float) -> float:
    """About the same bound at each look: Lan and DeMets 1983, eq. 5, after S. J. Pocock, Biometrika 64, 1977."""
    return alpha * log(1 + (exp(1) - 1) * t)


def power(exponent: float) -> Spending:
    """α·t^exponent: K. Kim, D. L. DeMets, Biometrika 74, 1987."""
    return lambda alpha, t: alpha * float(t**exponent)


@dataclass
class Walk:
    """The Brownian walk that has not crossed yet: its density on nodes with their weights, at information t."""

    t: float
    nodes: Floats
    weighted: Floats

    def beyond(self, y: float, until: float) -> float:
        """How likely it is to be above y at information `until`."""
        return float(self.weighted @ special.ndtr((self.nodes - y) / sqrt(until - self.t)))

    def edge(self, budget: float, until: float, farthest: float) -> float:
        """The y above which it is at information `until` with probability `budget`."""
        return root(lambda y: self.beyond(y, until) - budget, -farthest, farthest)

    def density(self, at: Floats, until: float, drift: float = 0.0) -> Floats:
        """Density at these points at information `until`."""
        step = until - self.t
        reach, found = REACH * sqrt(step), np.empty(len(at))
        for first in range(0, len(at), 64):  # what is further away than REACH standard deviations of the step adds nothing
            to = at[first : first + 64] - drift * step
            near = slice(*np.searchsorted(self.nodes, (to[0] - reach, to[-1] + reach)))
            away = to[:, None] - self.nodes[near]
            found[first : first + 64] = np.exp(away * away * (-0.5 / step)) @ self.weighted[near]
        return found / sqrt(2 * np.pi * step)


def _start() -> Walk:
    return Walk(0.0, np.zeros(1), np.ones(1))


_LEGENDRE = np.polynomial.legendre.leggauss(16)


def _nodes(low: float, high: float, deviation: float) -> tuple[Floats, Floats]:
    """Composite Gauss–Legendre nodes and weights on [low, high], fine enough for steps of this deviation."""
    pieces = max(4, ceil((high - low) / deviation * NODES / 16))
    edges = np.linspace(low, high, pieces + 1)
    half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * _LEGENDRE[0]).ravel(), (half[:, None] * _LEGENDRE[1]).ravel()


def bounds(information: Sequence[float], alpha: float = 0.05, spending: Spending = obrien_fleming, sides: int = 2) -> Floats:
    """(looks,): the z to be exceeded at each look, ∞ where nothing may be spent yet (beyond z = 8).

    `information` is the share of all planned information at each look, increasing, above 0 and at most 1. The integration is exact to
    about 1e-9. Raises ValueError for other information.
    """
    times = checked(information, alpha, sides)
    spent, walk, found = 0.0, _start(), []
    for t in times:
        budget = spending(alpha / sides, t) - spent
        edge = TRUNCATION * sqrt(t)
        if budget <= walk.beyond(edge, t):
            found.append(np.inf)
        else:
            edge = walk.edge(budget, t, edge)
            found.append(edge / sqrt(t))
            spent += budget
        walk = _next(walk, t, -TRUNCATION * sqrt(t), edge)
    return np.array(found)


def _next(walk: Walk, t: float, low: float, high: float, drift: float = 0.0) -> Walk:
    """The walk at information t, of those that were between `low` and `high`."""
    deviation = sqrt(t - walk.t)
    nodes, weights = _nodes(low, high, deviation)
    return Walk(t, nodes, walk.density(nodes, t, drift) * weights)


def crossing(
    information: Sequence[float], upper: Sequence[float] | Floats, drift: float = 0.0, lower: Sequence[float] | Floats | None = None
) -> Floats:
    """(looks,): how likely it is to have crossed a bound by each look, when z is normal with mean `drift`·√information.

    Without `lower` only the upper bounds count. With `drift` 0 it is the error spent, otherwise the power. Raises ValueError as `bounds`.
    """
    times = checked(information, 0.5, 2)
    if len(upper) != len(times) or (lower is not None and len(lower) != len(times)):
        raise ValueError(f"{len(times)} looks have {len(upper)} upper bounds")
    walk, left = _start(), []
    for look, t in enumerate(times):
        spread = sqrt(t)
        least, most = drift * t - TRUNCATION * spread, drift * t + TRUNCATION * spread
        high = min(max(upper[look] * spread, least), most)
        low = least if lower is None else min(max(lower[look] * spread, least), high)
        if high <= low:
            left.extend([0.0] * (len(times) - look))
            break
        walk = _next(walk, t, low, high, drift)
        left.append(float(walk.weighted.sum()))
    return np.asarray(np.clip(1 - np.array(left), 0, 1))


def adjusted_alpha(z: Sequence[float] | Floats, sides: int = 2) -> Floats:
    """(looks,): the α of a fixed-horizon test or interval at each look that is as strict as these bounds."""
    return np.asarray(sides * special.ndtr(-np.asarray(z, float)))


def checked(information: Sequence[float], alpha: float, sides: int, strictly: bool = True) -> list[float]:
    """The information at each look. Raises ValueError for what cannot be planned."""
    probability("alpha", alpha)
    if sides not in (1, 2):
        raise ValueError(f"a test has 1 or 2 sides, not {sides}")
    times = [float(t) for t in information]
    if (
        not times
        or not (times[0] > 0 and times[-1] <= 1 + 1e-12)
        or not all(a < b or (a == b and not strictly) for a, b in pairwise(times))
    ):
        raise ValueError("information must increase from above 0 to 1 at most")
    return times
