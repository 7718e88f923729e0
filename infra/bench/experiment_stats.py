"""Are results of experiments right as often as they say?

`--sessions` experiments (default 10,000) of each kind of metric, of skewed, rare, clustered and zero-inflated data, in batches; after each
batch somebody looks. A/A: how often anything is called different at any look (always-valid methods), at the end (fixed horizon), or by a
fixed test that is looked at each time, as one must not. A/B with a known effect: how often each interval holds it, at every look at once.
Then the split, planned looks, planned power and what a covariate gains, each against what theory says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.bench.harness import Figure, Options, say
from streams.experiments.statistics import exact, group_sequential, planning
from streams.experiments.statistics.always_valid import confidence_sequence, mixture_sprt
from streams.experiments.statistics.distributions import Undefined, normal_quantile
from streams.experiments.statistics.effects import Effect, effect
from streams.experiments.statistics.fixed import fixed_horizon
from streams.experiments.statistics.planning import Design
from streams.experiments.statistics.readout import Plan, Variation, read_out
from streams.experiments.statistics.sample_ratio import sequential
from streams.experiments.statistics.sufficient import Cuped, Mean, Metric, Proportion, Quantile, Ratio

ALPHA = 0.05
EXPERIMENTS = 10_000
ERROR = 3 * sqrt(ALPHA * (1 - ALPHA) / EXPERIMENTS)
"""Three standard errors of a share of ALPHA among so many experiments."""

FIGURES = {
    "worst_always_valid_false_positives": Figure("share", ALPHA + ERROR, ALPHA + ERROR, higher=False),
    "worst_always_valid_coverage": Figure("share", 1 - ALPHA - ERROR, 1 - ALPHA - ERROR),
    "worst_fixed_false_positives_off": Figure("share", 0.005, ERROR, higher=False),
    "worst_fixed_coverage": Figure("share", 1 - ALPHA - ERROR, 1 - ALPHA - ERROR),
    "widest_sequence_of_fixed": Figure("×", 1.7, 1.7, higher=False),
    "peeking_false_positives": Figure("share"),
    "split_false_positives": Figure("share", ALPHA + ERROR, ALPHA + ERROR, higher=False),
    "group_sequential_false_positives": Figure("share", ALPHA + ERROR, ALPHA + ERROR, higher=False),
    "worst_power_off": Figure("share", 0.02, 0.02, higher=False),
    "always_valid_units_of_fixed": Figure("×"),
    "always_valid_stops_at_of_fixed": Figure("×"),
    "covariate_variance_off": Figure("share", 0.02, 0.02, higher=False),
    "read_out_ms": Figure("ms", 0.5, 1.5, higher=False),
}
LOOKS, BATCH = 20, 250
"""Looks of an experiment, and units that come to each variation between them."""
UNITS = 2 * LOOKS * BATCH
LIFT = 0.1
"""The known effect, relative to a."""
LEVEL = 0.9
"""The quantile that is watched."""

Floats = NDArray[np.float64]
Chance = np.random.Generator


@dataclass(frozen=True)
class Kind:
    """A metric: `draw` gives (columns, units) of one variation with a relative effect, `truth` its true value.

    The columns are a statistic's sums, unit by unit, or the values themselves where the statistic is made from them all.
    """

    draw: Callable[[Chance, int, float], Floats]
    truth: Callable[[float], float]
    statistic: Callable[..., Metric]
    of_values: bool = False
    exact: Callable[[Any, Any], float] | None = None
    """An exact always-valid p-value from a look's values, where there is one."""


def _skewed(chance: Chance, n: int, lift: float) -> Floats:
    x = chance.lognormal(0, 1, n) * (1 + lift)
    return np.array([x, x * x])


def _zero_inflated(chance: Chance, n: int, lift: float) -> Floats:
    x = chance.exponential(10, n) * (chance.random(n) < 0.2) * (1 + lift)
    return np.array([x, x * x])


def _rare(chance: Chance, n: int, lift: float) -> Floats:
    return np.array([(chance.random(n) < 0.05 * (1 + lift)).astype(float)])


def _count(chance: Chance, n: int, lift: float) -> Floats:
    x = chance.poisson(0.3 * (1 + lift), n).astype(float)
    return np.array([x, x * x])


def _clustered(chance: Chance, n: int, lift: float) -> Floats:
    y = 1.0 + chance.poisson(4, n)
    x = y * chance.gamma(2, 0.5, n) * (1 + lift)  # a unit's sessions share its rate
    return np.array([x, x * x, y, y * y, x * y])


def _with_covariate(chance: Chance, n: int, lift: float) -> Floats:
    x = chance.gamma(2, 1, n)
    y = (0.8 * x + chance.gamma(2, 0.5, n)) * (1 + lift)
    return np.array([y, y * y, x, x * x, x * y])


def _values(chance: Chance, n: int, lift: float) -> Floats:
    return np.array([chance.lognormal(6, 1, n) * (1 + lift)])


def _rates_p(a: Mean, b: Mean) -> float:
    return exact.rate_ratio(int(a.sum_x), int(b.sum_x)).p


def _shares_p(a: Proportion, b: Proportion) -> float:
    low, high = exact.proportion_difference((a.sum_x, a.n), (b.sum_x, b.n), ALPHA, UNITS / 2)
    return 0.0 if low > 0 or high < 0 else 1.0


KINDS = {
    "mean_skewed": Kind(_skewed, lambda lift: exp(0.5) * (1 + lift), Mean),
    "mean_zero_inflated": Kind(_zero_inflated, lambda lift: 2 * (1 + lift), Mean),
    "mean_with_covariate": Kind(_with_covariate, lambda lift: 2.6 * (1 + lift), Cuped),
    "proportion_rare": Kind(_rare, lambda lift: 0.05 * (1 + lift), Proportion, exact=_shares_p),
    "count": Kind(_count, lambda lift: 0.3 * (1 + lift), Mean, exact=_rates_p),
    "ratio_clustered": Kind(_clustered, lambda lift: 1 + lift, Ratio),
    "quantile": Kind(
        _values,
        lambda lift: exp(6 + normal_quantile(LEVEL)) * (1 + lift),
        lambda values: Quantile.of(values, LEVEL),
        of_values=True,
        exact=lambda a, b: exact.quantile_difference_p(exact.Sample.of(a), exact.Sample.of(b), LEVEL, UNITS / 2),
    ),
}


@dataclass(frozen=True)
class Honesty:
    """Shares of experiments: A/A called different at any look by each always-valid method, at the end by a fixed test, at any look by it;
    A/B in which an interval held the known effect at all looks (the fixed one: at the end). `width` of the sequence is at the end,
    over that of the fixed interval.
    """

    false_positives: dict[str, float]
    coverage: dict[str, float]
    fixed: float
    fixed_coverage: float
    peeking: float
    width: float


def honesty(name: str, experiments: int, chance: Chance) -> Honesty:
    """Of so many experiments of this kind."""
    kind = KINDS[name]
    methods = {"sequence": 0, "sprt": 0} | ({"exact": 0} if kind.exact else {})
    fixed = peeked = held = held_fixed = 0
    widths = []
    truth = kind.truth(LIFT) - kind.truth(0)
    deviation = LIFT * kind.truth(0)
    for _ in range(experiments):
        a, same, better = (_looks(kind, kind.draw(chance, LOOKS * BATCH, lift)) for lift in (0, 0, LIFT))
        wrong = dict.fromkeys(methods, False)
        peeks, last = False, False
        for look, (x, y) in enumerate(zip(a, same, strict=True)):
            found = _effect(kind, x, y)
            if found is None:
                continue
            sequence = confidence_sequence(found, ALPHA, planned_units=UNITS)
            wrong["sequence"] |= sequence.p <= ALPHA
            wrong["sprt"] |= mixture_sprt(found, deviation) <= ALPHA
            if kind.exact and look % 4 == 3:  # they hold at every look, and some of these take a millisecond
                wrong["exact"] |= kind.exact(x, y) <= ALPHA
            once = fixed_horizon(found, ALPHA)
            last = once.p <= ALPHA
            peeks |= last
        widths.append((sequence.high - sequence.low) / (once.high - once.low))
        fixed, peeked = fixed + last, peeked + peeks
        for method, was in wrong.items():
            methods[method] += was
        inside = True
        for x, y in zip(a, better, strict=True):
            found = _effect(kind, x, y)
            if found is not None:
                sequence = confidence_sequence(found, ALPHA, planned_units=UNITS)
                inside &= sequence.low <= truth <= sequence.high
        held += inside
        if found is not None:
            once = fixed_horizon(found, ALPHA)
            held_fixed += once.low <= truth <= once.high
    return Honesty(
        {method: count / experiments for method, count in methods.items()},
        {"sequence": held / experiments},
        fixed / experiments,
        held_fixed / experiments,
        peeked / experiments,
        float(np.mean(widths)),
    )


def _looks(kind: Kind, columns: Floats) -> Sequence[Any]:
    """What is known of a variation at each look: its statistic, or its values so far."""
    if kind.of_values:
        return [columns[0][: (look + 1) * BATCH] for look in range(LOOKS)]
    sums = columns.reshape(len(columns), LOOKS, BATCH).sum(axis=2).cumsum(axis=1).T.tolist()
    return [kind.statistic((look + 1) * BATCH, *values) for look, values in enumerate(sums)]


def _effect(kind: Kind, x: Any, y: Any) -> Effect | None:
    try:
        return effect(kind.statistic(x), kind.statistic(y)) if kind.of_values else effect(x, y)
    except Undefined:  # nothing has happened in one of them yet
        return None


def run(options: Options) -> list[dict[str, Any]]:
    """One mapping of figures and the table, for one seed: the experiments are the repetition."""
    experiments = options.sessions or EXPERIMENTS
    chance = np.random.default_rng(options.seed)
    table = {}
    for name in KINDS:
        table[name] = found = honesty(name, experiments, chance)
        rates = " ".join(f"{method} {rate:.4f}" for method, rate in found.false_positives.items())
        say(
            f"{name}: {rates} covers {found.coverage['sequence']:.4f}; fixed {found.fixed:.4f} covers {found.fixed_coverage:.4f}, "
            f"peeking {found.peeking:.3f}; width × {found.width:.3f}"
        )
    powers = power(experiments, chance)
    return [
        {
            "worst_always_valid_false_positives": max(rate for found in table.values() for rate in found.false_positives.values()),
            "worst_always_valid_coverage": min(rate for found in table.values() for rate in found.coverage.values()),
            "worst_fixed_false_positives_off": max(abs(found.fixed - ALPHA) for found in table.values()),
            "worst_fixed_coverage": min(found.fixed_coverage for found in table.values()),
            "widest_sequence_of_fixed": max(found.width for found in table.values()),
            "peeking_false_positives": max(found.peeking for found in table.values()),
            "split_false_positives": split(experiments, chance),
            **powers,
            "covariate_variance_off": covariate(chance),
            "read_out_ms": read_out_ms(),
            "experiments": experiments,
            "table": {name: vars(found) for name, found in table.items()},
        }
    ]


def split(experiments: int, chance: Chance) -> float:
    """How often the sequential test rejects a split that is as designed, at any of 60 looks."""
    weights = [0.5, 0.3, 0.2]
    drawn = chance.multinomial(200, weights, (experiments, 60)).tolist()
    return sum(sequential(batches, weights)[-1].p <= ALPHA for batches in drawn) / experiments


def power(experiments: int, chance: Chance) -> dict[str, float]:
    """Power of each test with the units planned for it, α of the group-sequential one, and what always looking costs."""
    design = Design(effect=0.2, variance=4.0, variance_b=5.0)
    shares = [(look + 1) / 30 for look in range(30)]
    five = [0.2, 0.4, 0.6, 0.8, 1.0]
    units = {
        "fixed": planning.fixed_units(design),
        "group_sequential": planning.group_sequential_units(design, five),
        "always_valid": planning.always_valid_units(design, len(shares)),
    }
    fixed = sum(fixed_horizon(looks[-1], ALPHA).low > 0 for looks in _normal(design, units["fixed"], [1.0], experiments, chance))
    upper = group_sequential.bounds(five, ALPHA)

    def crosses(looks: Sequence[Effect], either: bool = False) -> bool:
        z = [found.estimate / found.standard_error for found in looks]
        return any((abs(at) if either else at) > edge for at, edge in zip(z, upper, strict=True))

    planned = sum(crosses(looks) for looks in _normal(design, units["group_sequential"], five, experiments, chance))
    by_chance = sum(crosses(looks, True) for looks in _normal(design, units["group_sequential"], five, experiments, chance, 0.0))
    stopped, last = [], units["always_valid"]
    for looks in _normal(design, last, shares, experiments, chance):
        stopped.append(next((one.n for one in looks if confidence_sequence(one, ALPHA, planned_units=last).low > 0), 0))
    found = {
        "fixed": fixed / experiments,
        "group_sequential": planned / experiments,
        "always_valid": sum(n > 0 for n in stopped) / experiments,
    }
    say(" ".join(f"power {name} {share:.4f} with {units[name]:,} units" for name, share in found.items()))
    return {
        "group_sequential_false_positives": by_chance / experiments,
        "worst_power_off": max(abs(share - design.power) for share in found.values()),
        "always_valid_units_of_fixed": units["always_valid"] / units["fixed"],
        "always_valid_stops_at_of_fixed": float(np.mean([n or last for n in stopped])) / units["fixed"],
        **{f"power_{name}": share for name, share in found.items()},
    }


def _normal(
    design: Design, units: int, shares: Sequence[float], experiments: int, chance: Chance, effect_size: float | None = None
) -> Sequence[list[Effect]]:
    """The effects at each look of experiments with normal values, whose sums are drawn as such: Σx normal, the squares' rest χ²."""
    truth = design.effect if effect_size is None else effect_size
    ends = [round(units / 2 * share) for share in shares]
    each = np.diff([0, *ends])
    sides = []
    for mean, variance in ((1.0, design.variance), (1.0 + truth, design.variance_b or design.variance)):
        sums = chance.normal(mean * each, np.sqrt(variance * each), (experiments, len(each)))
        squares = sums**2 / each + variance * chance.chisquare(each - 1, (experiments, len(each)))
        sides.append((sums.cumsum(axis=1).tolist(), squares.cumsum(axis=1).tolist()))
    (a, aa), (b, bb) = sides
    return [[effect(Mean(n, a[i][k], aa[i][k]), Mean(n, b[i][k], bb[i][k])) for k, n in enumerate(ends)] for i in range(experiments)]


def covariate(chance: Chance) -> float:
    """How far the variance with a covariate is from (1 − ρ²) of that without, relatively."""
    left, n, correlation = [], 20_000, 0.8
    for _ in range(20):
        sides = []
        for _ in range(2):
            x = chance.normal(10, 3, n)
            y = 2 * (correlation * (x - 10) / 3 + sqrt(1 - correlation**2) * chance.normal(0, 1, n))
            sides.append(Cuped(n, *(float(total) for total in (y.sum(), (y * y).sum(), x.sum(), (x * x).sum(), (x * y).sum()))))
        a, b = sides
        left.append((effect(a, b).standard_error / effect(a.unadjusted(), b.unadjusted()).standard_error) ** 2)
    return abs(float(np.mean(left)) / (1 - correlation**2) - 1)


def read_out_ms() -> float:
    """Milliseconds of this process for a read-out of two variations with a covariate, with all its checks."""
    sums = ((9_900, 50_000, 400_000, 40_000, 300_000, 320_000), (10_000, 51_000, 410_000, 40_000, 300_000, 320_000))
    a, b = (Variation(name, 0.5, one[0], Cuped, [one]) for name, one in zip("ab", sums, strict=True))
    began = time.process_time()
    for _ in range(2000):
        if read_out(a, b, Plan()).refusals:
            raise AssertionError("the read-out that is timed was refused")
    return (time.process_time() - began) / 2000 * 1000
