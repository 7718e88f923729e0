"""Intervals and p-values that hold at every look at once: the chance that they are ever wrong is α, whenever one stops.

All rest on Ville's inequality: a nonnegative martingale that begins at 1 ever reaches 1/α with probability α at most (J. Ville, "Étude
critique de la notion de collectif", 1939). Means, ratios, quantiles and whatever else has an `Effect` get the asymptotic confidence
sequence; it is as honest as the central limit theorem at the first look, so begin to look when each variation has a few hundred units.
What is bounded or counted also has an exact one, in `exact`, which holds from the first unit.
"""

from __future__ import annotations

from math import exp, expm1, inf, log, log1p, sqrt

from streams.experiments.statistics.distributions import probability
from streams.experiments.statistics.effects import Effect
from streams.experiments.statistics.fixed import Result, Side

PLANNED_UNITS = 5000
"""At how many units of both variations together a sequence is narrowest, unless it is said otherwise."""


def rho(alpha: float, planned_units: float, side: Side = Side.BOTH) -> float:
    """ρ for which the sequence is narrowest at `planned_units`: I. Waudby-Smith et al., arXiv 2103.06476v7, eq. 161."""
    probability("alpha", alpha, 0.0, 1.0 if side is Side.BOTH else 0.5)
    if planned_units <= 0:
        raise ValueError(f"planned_units is {planned_units!r} and must be above 0")
    of = -2 * log(alpha if side is Side.BOTH else 2 * alpha)
    return sqrt((of + log1p(of)) / planned_units)


def confidence_sequence(
    effect: Effect,
    alpha: float = 0.05,
    side: Side = Side.BOTH,
    planned_units: float = PLANNED_UNITS,
    null: float = 0.0,
    weight: float | None = None,
) -> Result:
    """The asymptotic confidence sequence at this look, and the p-value that goes with it.

    I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy, A. Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences",
    Annals of Statistics 52(6), 2024 (arXiv 2103.06476v7): eq. 9 and 155 two-sided, eq. 134 one-sided. `weight` is ρ itself, when it is not
    to follow from `planned_units`; both must stay the same from look to look. Raises ValueError when `alpha` is out of range: one-sided
    sequences are for alpha below 0.5.
    """
    probability("alpha", alpha)
    tuned = rho(alpha, planned_units, side) if weight is None else weight
    information = effect.n * tuned**2
    spread = information + 1
    t = (effect.estimate - null) / effect.standard_error
    evidence = t * t * information / (2 * spread)
    if side is Side.BOTH:
        p = min(1.0, sqrt(spread) * exp(-evidence))
    else:
        towards = t > 0 if side is Side.GREATER else t < 0
        p = min(1.0, sqrt(spread) / 2 / expm1(evidence)) if towards and 0 < evidence < 700 else 0.0 if towards and evidence else 1.0
    return Result.around(effect.estimate, effect.standard_error * edge(information, alpha, side), side, p)


def edge(information: float, alpha: float, side: Side) -> float:
    """How many standard errors the sequence reaches from the estimate, where n·ρ² is `information`; ∞ where there is none yet."""
    if information == 0:
        return inf
    spread = information + 1
    # s²/n is the squared standard error: the paper's width is the error times this
    level = log(sqrt(spread) / alpha) if side is Side.BOTH else log1p(sqrt(spread) / (2 * alpha))
    return sqrt(2 * spread / information * level)


def mixture_sprt(effect: Effect, deviation: float, null: float = 0.0) -> float:
    """1/Λ, the p-value of the mixture sequential probability ratio test at this look; the test's own is the smallest so far.

    H. Robbins, Annals of Mathematical Statistics 41, 1970; R. Johari, P. Koomen, L. Pekelis, D. Walsh, "Always Valid Inference", Operations
    Research 70(3), 2022: effects are mixed over a normal around `null` with `deviation` τ, in the effect's unit: the size of effects that
    are usual. Unlike a confidence sequence it needs no planned end. Raises ValueError when `deviation` is not above 0.
    """
    if not 0 < deviation < inf:
        raise ValueError(f"deviation is {deviation!r} and must be above 0")
    variance = effect.standard_error**2
    likelier = (effect.estimate - null) ** 2 * deviation**2 / (2 * variance * (variance + deviation**2))
    return min(1.0, sqrt((variance + deviation**2) / variance) * exp(-likelier))
