"""What may be said of a metric in an experiment: the numbers, what they assume, and a refusal in words where that does not hold.

A refused read-out has no numbers: a number beside a warning is read, the warning is not. The checks look at every variation of the
experiment, not only at the two that are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import reduce
from math import sqrt
from operator import add
from typing import Any, cast

from streams.experiments.statistics.always_valid import PLANNED_UNITS, confidence_sequence
from streams.experiments.statistics.distributions import Undefined, chi_square_tail
from streams.experiments.statistics.effects import Effect, effect, gain, stratified
from streams.experiments.statistics.fixed import Result, Side, fixed_horizon
from streams.experiments.statistics.multiple import holm
from streams.experiments.statistics.sample_ratio import SUSPECT, chi_square_p
from streams.experiments.statistics.sufficient import Cuped, CupedRatio, Metric, Proportion, Quantile, Ratio, Statistic
from streams.experiments.statistics.survival import Survival, mean_time_effect

FEWEST_UNITS = 50
"""Of a variation, and of each of its strata; below, no interval that rests on the central limit theorem is what it says."""
FEWEST_OF_A_KIND = 5
"""Units with a property and units without it."""
MOST_IN_SEVERAL = 0.01
"""Share of units seen in two variations and therefore left out; beyond it the rest is no random part of them all."""
FARTHER = 3
"""Standard errors that a divisor must be away from zero: nearer, a linearised quotient is not normal."""


@dataclass(frozen=True, slots=True)
class Variation:
    """A variation's units and their metric, as the stream has counted them.

    `units` are exposed to it and to no other variation; `weight` is its designed part of them. `kind` and `sums` are a statistic's class
    and its arguments, per stratum if there are several. `allocated` counts those that were put into it, exposed or not, where known;
    `with_data` those that brought a value, where it is not the statistic's own n; `in_several` those left out because another variation
    had them, too.
    """

    name: str
    weight: float
    units: int
    kind: type[Any]
    sums: Sequence[Sequence[Any]]
    allocated: int | None = None
    with_data: int | None = None
    in_several: int = 0
    _made: list[Metric | Survival] = field(default_factory=list, init=False, repr=False, compare=False)

    def metrics(self) -> list[Metric | Survival]:
        """The statistic of each stratum, made once. Raises ValueError for sums that cannot be."""
        if not self._made:
            self._made.extend([self.kind(*values) for values in self.sums])
        return self._made


@dataclass(frozen=True, slots=True)
class Plan:
    """What was fixed before the start. `split_p` is the sequential test's p of the split so far, where a job follows it."""

    alpha: float = 0.05
    side: Side = Side.BOTH
    relative: bool = True
    planned_units: int = PLANNED_UNITS
    split_p: float | None = None


class Cause(StrEnum):
    """Why there is no result."""

    SPLIT = "sample ratio mismatch"
    EXPOSURE = "exposure bias"
    SEVERAL = "units in several variations"
    MISSING = "missing data"
    NO_DATA = "no data"
    TINY = "too few units"
    NOT_FINITE = "not a number"
    NEAR_ZERO = "a divisor near zero"
    UNDEFINED = "no variance or no baseline"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A cause, and the numbers that show it."""

    cause: Cause
    words: str


@dataclass(frozen=True, slots=True)
class ReadOut:
    """Either an effect with its results, and what they assume, or refusals and no numbers.

    `fixed` holds once, at the planned units; `always_valid` at every look. `gain` is the share of the variance that a covariate and
    strata removed.
    """

    control: str
    variation: str
    assumes: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    effect: Effect | None = None
    fixed: Result | None = None
    always_valid: Result | None = None
    gain: float = 0.0


def read_out(control: Variation, treatment: Variation, plan: Plan, others: Sequence[Variation] = ()) -> ReadOut:
    """`treatment` against `control`; `others` are the experiment's remaining variations, asked only whether all is well.

    Nothing in the data raises: bad data are refusals. Raises ValueError for an impossible plan.
    """
    variations = [control, treatment, *others]
    refusals = [
        *_split(variations, plan),
        *_exposure(variations),
        *_several(variations),
        *(refusal for one in (control, treatment) for refusal in _data(one)),
    ]
    if not refusals:
        refusals = _missing(variations)
    found = None
    if not refusals:
        try:
            found = _effect(control, treatment, plan.relative)
            if refusals := _near_zero(control, treatment, plan.relative):
                found = None
        except (Undefined, TypeError) as error:
            refusals = [Refusal(Cause.UNDEFINED, str(error))]
    assumes = tuple(_assumptions(control, plan))
    if found is None:
        return ReadOut(control.name, treatment.name, assumes, tuple(refusals))
    return ReadOut(
        control.name,
        treatment.name,
        assumes,
        (),
        found,
        fixed_horizon(found, plan.alpha, plan.side),
        confidence_sequence(found, plan.alpha, plan.side, plan.planned_units),
        _gain(control.metrics(), treatment.metrics()),
    )


def adjusted(
    read_outs: Mapping[Any, ReadOut],
    procedure: Callable[[Mapping[Any, float]], dict[Any, float]] = holm,
    kind: Callable[[ReadOut], Result | None] = lambda one: one.always_valid,
) -> dict[Any, float]:
    """The p-values of all answered questions (metric, variation, segment), adjusted for their number; refused ones are no questions."""
    return procedure({question: result.p for question, one in read_outs.items() if (result := kind(one)) is not None})


def _effect(control: Variation, treatment: Variation, relative: bool) -> Effect:
    a, b = control.metrics(), treatment.metrics()
    if len(a) != len(b):
        raise Undefined(f"{control.name} has {len(a)} strata and {treatment.name} has {len(b)}")
    if len(a) == 1:
        one, two = a[0], b[0]
        if isinstance(one, Survival) and isinstance(two, Survival):
            return mean_time_effect(one, two, len(one.events), relative=relative)
        if isinstance(one, Survival) or isinstance(two, Survival):
            raise Undefined("a time to an event cannot be compared with another metric")
        return effect(one, two, relative)
    cells = [(one, two) for one, two in zip(a, b, strict=True) if isinstance(one, Statistic) and isinstance(two, Statistic)]
    if len(cells) < len(a):
        raise Undefined("only sums can be averaged over strata")
    return stratified(cells, relative)


def _gain(a: Sequence[Metric | Survival], b: Sequence[Metric | Survival]) -> float:
    if len(a) > 1:
        cells = [(cast(Statistic, one), cast(Statistic, two)) for one, two in zip(a, b, strict=True)]
        without: float = sum(whole.variance() / whole.n for whole in map(_whole, (a, b)))
        return 1 - stratified(cells).standard_error ** 2 / without
    (one,), (two,) = a, b
    return 0.0 if not isinstance(one, Cuped | CupedRatio) or not isinstance(two, Cuped | CupedRatio) else gain(one, two)


def _whole(strata: Sequence[Metric | Survival]) -> Any:
    """All strata together."""
    return reduce(add, strata)


def _split(variations: Sequence[Variation], plan: Plan) -> list[Refusal]:
    p = plan.split_p
    if p is None:
        p = chi_square_p([one.units for one in variations], [one.weight for one in variations])
    if p >= SUSPECT:
        return []
    seen = ", ".join(f"{one.name} {one.units:,} for weight {one.weight:g}" for one in variations)
    return [Refusal(Cause.SPLIT, f"units are not spread as designed (p = {p:.2g}): {seen}")]


def _exposure(variations: Sequence[Variation]) -> list[Refusal]:
    known = [(one.name, one.units + one.in_several, one.allocated) for one in variations if one.allocated is not None]
    if len(known) < len(variations):
        return []
    if impossible := [name for name, exposed, allocated in known if exposed > allocated]:
        return [Refusal(Cause.EXPOSURE, f"more units are exposed than were allocated in {', '.join(impossible)}")]
    p = _alike([(exposed, allocated - exposed) for _, exposed, allocated in known])
    if p >= SUSPECT:
        return []
    seen = ", ".join(f"{name} {exposed / max(allocated, 1):.1%}" for name, exposed, allocated in known)
    return [Refusal(Cause.EXPOSURE, f"who is exposed depends on the variation (p = {p:.2g}): of those allocated, {seen}")]


def _several(variations: Sequence[Variation]) -> list[Refusal]:
    out, kept = sum(one.in_several for one in variations), sum(one.units for one in variations)
    if out <= MOST_IN_SEVERAL * (out + kept):
        return []
    return [Refusal(Cause.SEVERAL, f"{out:,} of {out + kept:,} units were seen in several variations and left out")]


def _data(one: Variation) -> list[Refusal]:
    try:
        metrics = one.metrics()
    except (ValueError, OverflowError) as error:
        return [Refusal(Cause.NOT_FINITE, f"{one.name}: {error}")]
    n = sum(metric.n for metric in metrics)
    if one.units == 0 or n == 0:
        return [Refusal(Cause.NO_DATA, f"{one.name} has {one.units:,} units and {n:,} values")]
    if min(n, one.units) < FEWEST_UNITS:
        return [Refusal(Cause.TINY, f"{one.name} has {min(n, one.units)} units of the {FEWEST_UNITS} that an interval needs")]
    if len(metrics) > 1 and (few := min(metric.n for metric in metrics)) < FEWEST_UNITS:
        return [Refusal(Cause.TINY, f"{one.name} has a stratum with {few} units of the {FEWEST_UNITS} that it needs")]
    if issubclass(one.kind, Proportion):
        having = sum(metric.sum_x for metric in metrics if isinstance(metric, Proportion))
        if not FEWEST_OF_A_KIND <= having <= n - FEWEST_OF_A_KIND:
            return [
                Refusal(
                    Cause.TINY,
                    f"{one.name}: {having:g} of {n:,} units; {FEWEST_OF_A_KIND} with and {FEWEST_OF_A_KIND} without it are needed",
                )
            ]
    return []


def _missing(variations: Sequence[Variation]) -> list[Refusal]:
    brought = [_with_data(one) for one in variations]
    if wrong := [one.name for one, count in zip(variations, brought, strict=True) if count > one.units]:
        return [Refusal(Cause.MISSING, f"more units have the metric than are exposed in {', '.join(wrong)}")]
    p = _alike([(count, one.units - count) for one, count in zip(variations, brought, strict=True)])
    if p >= SUSPECT:
        return []
    seen = ", ".join(f"{one.name} {1 - count / max(one.units, 1):.1%}" for one, count in zip(variations, brought, strict=True))
    return [Refusal(Cause.MISSING, f"whose metric is missing depends on the variation (p = {p:.2g}): missing are {seen}")]


def _with_data(one: Variation) -> int:
    if one.with_data is not None:
        return one.with_data
    if issubclass(one.kind, Quantile):
        return one.units  # its n counts values, of which a unit may bring many or none
    try:
        return sum(metric.n for metric in one.metrics())
    except (ValueError, OverflowError):
        return one.units  # another variation's bad sums are that one's refusal


def _alike(table: Sequence[tuple[int, int]]) -> float:
    """p-value of the rows (yes, no) having the same share: Pearson's χ²; 1 where all are alike."""
    rows = [(yes, no) for yes, no in table if yes + no > 0]
    yes_all, no_all = sum(yes for yes, _ in rows), sum(no for _, no in rows)
    if len(rows) < 2 or yes_all == 0 or no_all == 0:
        return 1.0
    share, square = yes_all / (yes_all + no_all), 0.0
    for yes, no in rows:
        square += (yes - share * (yes + no)) ** 2 / (share * (1 - share) * (yes + no))
    return chi_square_tail(square, len(rows) - 1)


def _near_zero(control: Variation, treatment: Variation, relative: bool) -> list[Refusal]:
    found = []
    for one in (control, treatment):
        for metric in one.metrics():
            if isinstance(metric, (Ratio, CupedRatio)):
                below, error = metric.means()[1], sqrt(metric.covariance()[1][1] / metric.n)
                if abs(below) < FARTHER * error:
                    found.append(Refusal(Cause.NEAR_ZERO, f"{one.name}: the denominator's mean is {below:.3g} ± {error:.2g}"))
    metric = _whole(control.metrics())
    if relative and not isinstance(metric, Survival):  # a mean time is never near zero
        value, error = metric.value()[0], sqrt(metric.variance() / metric.n)
        if abs(value) < FARTHER * error:
            words = f"{control.name} is {value:.3g} ± {error:.2g}: nothing can be relative to that, read the absolute effect"
            found.append(Refusal(Cause.NEAR_ZERO, words))
    return found


def _assumptions(control: Variation, plan: Plan) -> list[str]:
    said = [
        "units were assigned by chance, each to one variation, and do not influence one another",
        f"the fixed interval is looked at once, at {plan.planned_units:,} units of both variations",
        "the always-valid interval may be looked at any number of times; it takes values of units to be about normal on average from the "
        f"first look on ({FEWEST_UNITS} units), and is narrowest at {plan.planned_units:,} units",
    ]
    if issubclass(control.kind, Ratio | CupedRatio):
        said.append(
            f"the ratio is of sums over units, its variance linearised: its denominator is {FARTHER} standard errors or more from zero"
        )
    if issubclass(control.kind, Cuped | CupedRatio):
        said.append("the covariate is of the time before the exposure, so the variation cannot have changed it")
    if issubclass(control.kind, Quantile):
        said.append("values have a density around the quantile, and units that bring several values were taken together")
    if issubclass(control.kind, Survival):
        said.append("when a unit was seen last says nothing about when it would have happened; the mean time is that within all intervals")
    if issubclass(control.kind, Proportion):
        said.append("each unit counts once, with the property or without")
    if plan.relative:
        said.append(f"the control's value is at least {FARTHER} of its standard errors from zero")
    if len(control.sums) > 1:
        said.append("strata were fixed before the exposure, and are weighted by their units in both variations")
    return said
