"""From sums to all that may be said of an experiment: every metric, variation and segment, step by step, and whether to go on.

Pure functions on what `experiments.statistic` adds up to. Sums stay the whole numbers they are until a mean is taken, so two equal tables
have read-outs that are equal to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import reduce
from itertools import accumulate
from math import floor, isfinite
from operator import add
from typing import Any, NamedTuple

from schemas.allocation.definition import Experiment, Holdout, Metric
from schemas.allocation.play import OTHER
from streams.experiments.statistics.always_valid import PLANNED_UNITS, confidence_sequence
from streams.experiments.statistics.distributions import Undefined
from streams.experiments.statistics.effects import weight
from streams.experiments.statistics.fixed import Result, Side
from streams.experiments.statistics.histogram import Histogram
from streams.experiments.statistics.multiple import benjamini_hochberg, holm
from streams.experiments.statistics.readout import FEWEST_UNITS, Cause, Plan, ReadOut, Refusal, Variation, read_out
from streams.experiments.statistics.sample_ratio import sequential
from streams.experiments.statistics.sufficient import (
    ClusteredQuantile,
    Cuped,
    CupedProportion,
    CupedRatio,
    Mean,
    Proportion,
    Ratio,
)
from streams.experiments.statistics.survival import Survival
from streams.playback.minute import bucket

WHOLE = ""
"""The segment of all units."""
DAY_S = 86_400
MISSABLE = ("mean", "ratio", "quantile")
"""Aggregations of which a unit without a measurement has no value; of the others it has zero."""


class Totals(NamedTuple):
    """The sums of a row, in the contract's order: x and y after the exposure, u and v before it, and their products."""

    x: int = 0
    y: int = 0
    u: int = 0
    v: int = 0
    xx: int = 0
    yy: int = 0
    uu: int = 0
    vv: int = 0
    xy: int = 0
    xu: int = 0
    xv: int = 0
    yu: int = 0
    yv: int = 0
    uv: int = 0


NOTHING = Totals()


class Row(NamedTuple):
    """One line of sums: what came about on a day, counted from 1970. `segment` is `attribute=value` or WHOLE."""

    variation: str
    segment: str
    metric: str
    value_bucket: int
    day: int
    n: int
    measured: int
    sums: Totals


@dataclass(frozen=True)
class Sums:
    """What a variation has come to, of one metric in one segment. `buckets`: of a quantile, value_bucket to n, Σ(2i − 1) and Σm; `days`:
    (day, value_bucket) to n, of units and of times to an event.
    """

    n: int = 0
    measured: int = 0
    sums: Totals = NOTHING
    buckets: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    days: Mapping[tuple[int, int], int] = field(default_factory=dict)

    def plus(self, rows: Iterable[Row]) -> Sums:
        """With these rows in addition."""
        n, measured, sums, buckets, days = self.n, self.measured, self.sums, dict(self.buckets), dict(self.days)
        for row in rows:
            at = row.value_bucket
            if at < 0:
                n, measured = n + row.n, measured + row.measured
                sums = Totals(*map(add, sums, row.sums)) if sums is not NOTHING else row.sums
            elif at in buckets:
                was = buckets[at]
                buckets[at] = was[0] + row.n, was[1] + row.sums.xx, was[2] + row.sums.xy
            else:
                buckets[at] = row.n, row.sums.xx, row.sums.xy
            if at < 0 or not row.sums.xy:
                days[row.day, at] = days.get((row.day, at), 0) + row.n
        return Sums(n, measured, sums, buckets, days)

    def and_also(self, other: Sums, sign: int = 1) -> Sums:
        """With the units of other sums, or with the sign -1 without them; buckets and days are not kept."""
        sums = Totals(*(mine + sign * its for mine, its in zip(self.sums, other.sums, strict=True)))
        return Sums(self.n + sign * other.n, self.measured + sign * other.measured, sums)


Question = tuple[str, str, str]
"""Metric, segment, variation."""
NONE = Sums()


class Verdict(StrEnum):
    """What the numbers say to do."""

    WAIT = "goes on"
    SHIP = "better"
    STOP = "worse"
    HARM = "a guardrail is broken"
    SAME = "no difference found"
    BROKEN = "refused"


class Guard(StrEnum):
    """What is known of a guardrail."""

    KEPT = "kept"
    BROKEN = "broken"
    OPEN = "not known yet"


@dataclass(frozen=True)
class Answer:
    """One question (metric, variation, segment) answered or refused.

    `values` are the metric's values in control and variation, in its unit, None where there is none. `adjusted_p` is the always-valid p
    adjusted for the number of questions. `guard` is told of guardrails, over all units.
    """

    metric: str
    variation: str
    segment: str
    read: ReadOut
    values: tuple[float | None, float | None]
    adjusted_p: float | None = None
    guard: Guard | None = None


@dataclass(frozen=True)
class Exposed:
    """Units of a variation, and those left out because they were seen in another, too."""

    variation: str
    weight: float
    units: int
    in_several: int


@dataclass(frozen=True)
class Point:
    """A question as it stood after a step: a day, or anything finer that counts up from 1970."""

    step: int
    units: int
    read: ReadOut


@dataclass(frozen=True)
class Report:
    """All there is to say of an experiment now."""

    experiment: str
    phase: int
    exposed: tuple[Exposed, ...]
    split_p: float
    answers: tuple[Answer, ...]
    verdict: Verdict
    words: str
    over_time: Mapping[tuple[str, str], tuple[Point, ...]] = field(default_factory=dict)
    """(metric, variation) → how it stood after each step, over all units."""


def of_holdout(holdout: Holdout, metrics: Sequence[str]) -> Experiment:
    """A holdout as the experiment that it is: those held out against those who are free. Its key is that of its exposures."""
    weights = (("held", holdout.share), ("free", 1 - holdout.share))
    variations = [{"key": key, "weight": weight, "value": key == "held"} for key, weight in weights]
    found = Experiment.model_validate({
        "kind": "experiment", "key": holdout.key, "owner": holdout.owner, "about": holdout.about, "flag": "holdout",
        "unit": holdout.unit, "state": "running", "variations": variations, "metrics": list(metrics),
    })  # fmt: skip
    return found.model_copy(update={"key": f"holdout.{holdout.key}"})


def report(
    experiment: Experiment, metrics: Mapping[str, Metric], rows: Iterable[Row], over_time: bool = False, brief: bool = False
) -> Report:
    """Read an experiment from its rows, of one phase. Whatever is wrong with the data is a refusal among the answers.

    `brief` asks what the verdict needs and no more.
    """
    table: dict[Question, list[Row]] = {}
    for row in rows:
        table.setdefault((row.metric, _listed(experiment, row.segment), row.variation), []).append(row)
    told = {segment for _, segment, _ in table if segment.partition("=")[0] in experiment.segments}
    segments = [] if brief else sorted(told)
    last = max((row.day for one in table.values() for row in one), default=0)
    split_p = _split_p(experiment, table)
    known = {question: Sums().plus(of) for question, of in table.items()}
    units = {segment: {one.key: known.get(("", segment, one.key), NONE) for one in experiment.variations} for segment in (WHOLE, *segments)}
    splits = {segment: _split_now(experiment, [one.n for one in its.values()]) for segment, its in units.items()}
    answers: list[Answer] = []
    for key in needed(experiment) if brief else experiment.measured:
        metric = metrics[key]
        for segment in (WHOLE, *segments):
            plan = _plan(experiment, min(split_p, splits[segment]))
            answers += _answers(experiment, metric, segment, known, plan, last)
    answers = _judged(experiment, metrics, _adjusted(experiment, answers))
    verdict, words = _verdict(experiment, metrics, answers, units[WHOLE])
    exposed = tuple(Exposed(one.key, one.weight, units[WHOLE][one.key].n, units[WHOLE][one.key].sums.x) for one in experiment.variations)
    points = _over_time(experiment, metrics, _by_day(experiment, table)) if over_time else {}
    return Report(experiment.key, experiment.phase, exposed, split_p, tuple(answers), verdict, words, points)


def _listed(experiment: Experiment, segment: str) -> str:
    """A segment, or `other` where its value is one that only another experiment lists."""
    name, _, value = segment.partition("=")
    return f"{name}={OTHER}" if name in experiment.segments and value not in experiment.segments[name] else segment


def primary_of(experiment: Experiment) -> str:
    """The metric that decides: the one that the plan names, else the first; empty where there is none."""
    return experiment.plan.primary or next(iter(experiment.metrics), "")


def needed(experiment: Experiment) -> list[str]:
    """The metrics that a verdict needs."""
    return list(dict.fromkeys([*filter(None, [primary_of(experiment)]), *experiment.guardrails]))


def statistic(metric: Metric, sums: Sums, covariate: bool, units: int, last: int, horizon: int = 1) -> tuple[type[Any], tuple[Any, ...]]:
    """A variation's statistic as class and arguments; with the covariate where it is worth something. `units` are all that were exposed,
    `last` is the day up to which is read, `horizon` the intervals of a time to an event for which somebody was watched.

    A unit without a measurement has a sum, count or proportion of zero, though no row says so. Raises ValueError for sums that cannot be.
    """
    of, n = sums.sums, sums.n if metric.aggregation in MISSABLE else units
    match metric.aggregation:
        case "ratio":
            return (CupedRatio, (n, *of)) if covariate else (Ratio, (n, of.x, of.xx, of.y, of.yy, of.xy))
        case "quantile":
            return ClusteredQuantile, _quantile(sums, metric.quantile or 0.5)
        case "time_to_event":
            return Survival, _survival(metric, sums, last, horizon)
        case "proportion":
            return (CupedProportion, (n, of.x, of.xx, of.u, of.uu, of.xu)) if covariate else (Proportion, (n, of.x))
        case _:
            return (Cuped, (n, of.x, of.xx, of.u, of.uu, of.xu)) if covariate else (Mean, (n, of.x, of.xx))


def has_covariate(metric: Metric, each: Iterable[Sums]) -> bool:
    """Whether the time before the exposure tells something in every variation: without variance there, θ is nothing."""
    return all(one.n * one.sums.uu > one.sums.u**2 and (metric.aggregation != "ratio" or one.sums.v != 0) for one in each)


class Baseline(NamedTuple):
    """What a control tells for planning: the metric's value, the variance of it times the units exposed, with what a covariate leaves of it
    and without one; all in small units.
    """

    value: float
    variance: float
    without: float


def baseline(metric: Metric, units: Iterable[Row], rows: Iterable[Row]) -> Baseline:
    """From a control's rows, those of its units and those of the metric. Raises ValueError where there is nothing to go by."""
    exposed, sums = Sums().plus(units), Sums().plus(rows)
    last = max((day for day, _ in (*exposed.days, *sums.days)), default=0)
    horizon = _watched(metric, min((day for day, _ in sums.days), default=last), last)
    kind, arguments = statistic(metric, sums, metric.covariate_s > 0 and has_covariate(metric, [sums]), exposed.n, last, horizon)
    found = kind(*arguments)
    if isinstance(found, Survival):
        value, variance = found.mean_time(len(found.events), metric.interval_s or 1)
        return Baseline(value, variance * exposed.n, variance * exposed.n)
    theta, per_unit = weight(found, found), exposed.n / max(found.n, 1)
    return Baseline(found.value()[0], found.variance(theta) * per_unit, found.variance() * per_unit)


def _plan(experiment: Experiment, split_p: float | None, relative: bool = True) -> Plan:
    return Plan(experiment.plan.alpha, Side.BOTH, relative, experiment.plan.units or PLANNED_UNITS, split_p)


def _split_p(experiment: Experiment, table: Mapping[Question, Sequence[Row]]) -> float:
    """The sequential test's p, looked at after each day, over all units."""
    so_far = {one.key: table.get(("", WHOLE, one.key), ()) for one in experiment.variations}
    days = sorted({row.day for rows in so_far.values() for row in rows})
    came = [list(accumulate(sum(row.n for row in rows if row.day == day) for day in days)) for rows in so_far.values()]
    return min((_split_now(experiment, units) for units in zip(*came, strict=True)), default=1.0)


def _split_now(experiment: Experiment, units: Sequence[int]) -> float:
    """The sequential test's p at one look: its likelihoods depend on how many units there are by now, not on the order they came in. So
    units that are taken back later do no harm.
    """
    return sequential([[max(0, count) for count in units]], [one.weight for one in experiment.variations])[-1].p


def _variations(
    experiment: Experiment, metric: Metric, exposed: Mapping[str, Sums], sums: Mapping[str, Sums], covariate: bool, last: int
) -> list[Variation]:
    """Raises ValueError for sums that cannot be."""
    horizon = min(_watched(metric, min((day for day, _ in its.days), default=last), last) for its in sums.values())
    found = []
    for one in experiment.variations:
        units, its = exposed[one.key], sums[one.key]
        kind, arguments = statistic(metric, its, covariate, units.n, last, horizon)
        with_data = its.measured if metric.aggregation in MISSABLE else None
        found.append(Variation(one.key, one.weight, units.n, kind, [arguments], with_data=with_data, in_several=units.sums.x))
    return found


def _answers(
    experiment: Experiment,
    metric: Metric,
    segment: str,
    known: Mapping[Question, Sums],
    plan: Plan,
    last: int,
) -> Iterator[Answer]:
    exposed, sums = ({one.key: known.get((key, segment, one.key), NONE) for one in experiment.variations} for key in ("", metric.key))
    covariate = metric.covariate_s > 0 and has_covariate(metric, sums.values())
    try:
        control, *treatments = whole = _variations(experiment, metric, exposed, sums, covariate, last)
        strata, words = _strata(experiment, metric, known) if segment == WHOLE else ([], "")
        if strata:
            cells = [_variations(experiment, metric, *cell, covariate, last) for cell in strata]
            control, *treatments = (
                replace(one, sums=[each for cell in of for each in cell.sums])
                for one, of in zip(whole, zip(*cells, strict=True), strict=True)
            )
    except ValueError as error:
        for variation in experiment.variations[1:]:
            refused = ReadOut(experiment.control.key, variation.key, (), (Refusal(Cause.NOT_FINITE, str(error)),))
            yield Answer(metric.key, variation.key, segment, refused, (None, None))
        return
    values = {one.name: _value(metric, one) for one in whole}
    for one in treatments:
        read = _read(control, one, plan, [other for other in treatments if other is not one])
        read = replace(read, assumes=(*read.assumes, words)) if words else read
        yield Answer(metric.key, one.name, segment, _in_unit(metric, read), (values[control.name], values[one.name]))


Cell = tuple[dict[str, Sums], dict[str, Sums]]
"""Of some units by variation, those that were exposed and their metric."""


def _strata(experiment: Experiment, metric: Metric, known: Mapping[Question, Sums]) -> tuple[list[Cell], str]:
    """By what the plan's strata are, each with enough units in every variation, and words about them; none where there are not two.

    Strata with fewer than FEWEST_UNITS are taken together, and where that are still too few, with the largest: a rule by counts alone,
    which say nothing of the metric. Only sums are averaged over strata, not quantiles and times to an event.
    """
    name = experiment.plan.strata
    if name is None or metric.aggregation in ("quantile", "time_to_event"):
        return [], ""

    def cell(segment: str) -> Cell:
        exposed, sums = ({one.key: known.get((key, segment, one.key), NONE) for one in experiment.variations} for key in ("", metric.key))
        return exposed, sums

    def together(a: Cell, b: Cell, sign: int = 1) -> Cell:
        exposed, sums = ({key: its.and_also(other[key], sign) for key, its in one.items()} for one, other in zip(a, b, strict=True))
        return exposed, sums

    def units(of: Cell) -> int:
        return min(one.n for one in of[metric.aggregation in MISSABLE].values())

    cells = {value: cell(f"{name}={value}") for value in dict.fromkeys((*experiment.segments[name], OTHER))}
    cells["not told"] = reduce(lambda left, of: together(left, of, -1), cells.values(), cell(WHOLE))
    large = {value: of for value, of in cells.items() if units(of) >= FEWEST_UNITS}
    small = {value: of for value, of in cells.items() if value not in large and any(one.n for part in of for one in part.values())}
    if small:
        rest = reduce(together, small.values())
        most = max(large, key=lambda value: units(large[value]), default="")
        if units(rest) >= FEWEST_UNITS or not large:
            large[" and ".join(small)] = rest
        else:
            large[" and ".join([most, *small])] = together(large.pop(most), rest)
    if len(large) < 2:
        return [], f"not stratified by {name}: that takes two strata with {FEWEST_UNITS} units of each variation"
    return list(large.values()), f"strata by {name}: {', '.join(large)}"


def _read(control: Variation, treatment: Variation, plan: Plan, others: Sequence[Variation]) -> ReadOut:
    """Relative to the control, or absolute where the control is too near zero for that."""
    read = read_out(control, treatment, plan, others)
    if plan.relative and read.refusals and all(one.cause is Cause.NEAR_ZERO and "relative" in one.words for one in read.refusals):
        return read_out(control, treatment, replace(plan, relative=False), others)
    return read


def small(metric: Metric) -> float:
    """How much a small unit is, of the metric's own."""
    return 1 / metric.scale if metric.aggregation in ("sum", "mean", "quantile") else 1.0


def _in_unit(metric: Metric, read: ReadOut) -> ReadOut:
    """An absolute effect in the metric's unit; a relative one is in none."""
    by = small(metric)
    if read.effect is None or by == 1.0:
        return read
    if read.effect.relative:
        return replace(read, effect=replace(read.effect, baseline=read.effect.baseline * by))
    scaled = [Result(one.low * by, one.high * by, one.p) if one else None for one in (read.fixed, read.always_valid)]
    return replace(read, effect=read.effect.scaled(by), fixed=scaled[0], always_valid=scaled[1])


def _value(metric: Metric, one: Variation) -> float | None:
    try:
        (found,) = one.metrics()
        value = found.mean_time(len(found.events), metric.interval_s or 1)[0] if isinstance(found, Survival) else found.value()[0]
    except (Undefined, ValueError, OverflowError):
        return None
    return value * small(metric) if isfinite(value) else None


def _quantile(sums: Sums, level: float) -> tuple[Any, ...]:
    """Arguments of ClusteredQuantile. Of a unit with m values, s of them up to the quantile, Σs² is the sum of 2i − 1 over those."""
    histogram = Histogram({at: n for at, (n, _, _) in sums.buckets.items() if n})
    if not histogram.counts:
        return 0, level, 0.0, 0.0, 0.0, 0, Ratio(0, 0, 0, 0, 0, 0)
    found = histogram.quantile(level)
    last = bucket(max(0, floor(found.estimate + 0.5)))
    below = [one for at, one in sums.buckets.items() if at <= last]
    s, ss, sm = (sum(one[i] for one in below) for i in range(3))
    mm = sum(one[1] for one in sums.buckets.values())
    clusters = Ratio(sums.measured, s, ss, histogram.n, mm, sm)
    return found.n, level, found.estimate, found.low, found.high, found.n_interval, clusters


def _watched(metric: Metric, day: int, last: int) -> int:
    """For how many whole intervals a unit was watched that was exposed on a day; rows know no more, so it counts from the day's end."""
    width = metric.interval_s or DAY_S
    return min((last - day) * DAY_S, metric.window_s) // width


def _survival(metric: Metric, sums: Sums, last: int, horizon: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Arguments of Survival, of `horizon` intervals, at least one. What happened to a unit after it was watched has not happened yet."""
    events, censored, without = [0] * max(horizon, 1), [0] * max(horizon, 1), dict[int, int]()
    for (day, at), n in sums.days.items():
        if at < 0:
            without[day] = without.get(day, 0) + n
        elif at < min(_watched(metric, day, last), horizon):
            events[at] += n
            without[day] = without.get(day, 0) - n
    for day, n in without.items():
        if (watched := min(_watched(metric, day, last), horizon)) > 0:
            censored[watched - 1] += n
    return tuple(events), tuple(censored)


def _adjusted(experiment: Experiment, answers: Sequence[Answer]) -> list[Answer]:
    """Looking through metrics, variations and segments: Benjamini and Hochberg's; guardrails, which decide by themselves: Holm's."""
    asked = {(one.metric, one.variation, one.segment): one.read.always_valid.p for one in answers if one.read.always_valid}
    guards = {question: p for question, p in asked.items() if question[0] in experiment.guardrails and question[2] == WHOLE}
    found = benjamini_hochberg({question: p for question, p in asked.items() if question not in guards}) | holm(guards)
    return [replace(one, adjusted_p=found.get((one.metric, one.variation, one.segment))) for one in answers]


def _judged(experiment: Experiment, metrics: Mapping[str, Metric], answers: Sequence[Answer]) -> list[Answer]:
    """Guardrails: kept, when the metric is surely not worse by its margin; broken, when it is surely worse, and not surely within it."""
    harm: dict[int, float] = {}
    kept: dict[int, float] = {}
    for at, one in enumerate(answers):
        if one.metric in experiment.guardrails and one.segment == WHOLE and one.read.effect is not None:
            found, metric = one.read.effect, metrics[one.metric]
            margin = metric.guardrail_margin or 0.0
            if found.relative:  # a margin is in the metric's unit
                margin /= abs(found.baseline)
            worse = Side.GREATER if metric.better == "lower" else Side.LESSER
            other = Side.LESSER if metric.better == "lower" else Side.GREATER
            alpha, units = min(experiment.plan.alpha, 0.49), experiment.plan.units or PLANNED_UNITS
            harm[at] = confidence_sequence(found, alpha, worse, units).p
            kept[at] = confidence_sequence(found, alpha, other, units, margin if worse is Side.GREATER else -margin).p
    harm, kept = holm(harm), holm(kept)
    judged = []
    for at, one in enumerate(answers):
        guard = None
        if one.metric in experiment.guardrails and one.segment == WHOLE:
            alpha = experiment.plan.alpha
            guard = Guard.KEPT if kept.get(at, 1.0) < alpha else Guard.BROKEN if harm.get(at, 1.0) < alpha else Guard.OPEN
        judged.append(replace(one, guard=guard))
    return judged


def _verdict(
    experiment: Experiment, metrics: Mapping[str, Metric], answers: Sequence[Answer], exposed: Mapping[str, Sums]
) -> tuple[Verdict, str]:
    """What to do, and why. The first metric decides unless the plan names another; guardrails come before it."""
    whole = [one for one in answers if one.segment == WHOLE]
    if broken := [one for one in whole if one.guard is Guard.BROKEN]:
        return Verdict.HARM, "; ".join(f"{one.metric} is worse in {one.variation}" for one in broken)
    primary = primary_of(experiment)
    asked = [one for one in whole if one.metric == primary]
    if not asked:
        return Verdict.WAIT, "it has no metric"
    read = [one for one in asked if one.read.always_valid is not None]
    if not read:
        refusal = asked[0].read.refusals[0]
        early = refusal.cause in (Cause.TINY, Cause.NO_DATA)
        return (Verdict.WAIT if early else Verdict.BROKEN), f"{refusal.cause}: {refusal.words}"
    sure = holm({one.variation: one.read.always_valid.p for one in read if one.read.always_valid})
    better = metrics[primary].better
    found = [one for one in read if sure[one.variation] < experiment.plan.alpha and one.read.effect]
    good = [one for one in found if one.read.effect and (one.read.effect.estimate > 0) is (better == "higher")]
    if good:
        best = max(good, key=lambda one: abs(one.read.effect.estimate) if one.read.effect else 0.0)
        return Verdict.SHIP, f"{best.variation} is better in {primary}"
    if len(found) == len(asked):
        return Verdict.STOP, f"{primary} is worse in {', '.join(one.variation for one in found)}"
    units, planned = sum(one.n for one in exposed.values()), experiment.plan.units
    if planned and units >= planned:
        return Verdict.SAME, f"{units:,} units, {planned:,} were planned"
    return Verdict.WAIT, f"{units:,} units" + (f" of {planned:,} planned" if planned else "; no end is planned")


def finer(
    experiment: Experiment, metrics: Mapping[str, Metric], steps: Mapping[int, Sequence[Row]], step_s: int
) -> dict[tuple[str, str], tuple[Point, ...]]:
    """`Report.over_time` by steps of `step_s` seconds: by their numbers, each with the rows of all that had happened by its end.

    The rows are of the plan's strata where it has any, and add up to the whole.
    """

    def known() -> Iterator[tuple[int, int, Mapping[Question, Sums]]]:
        for step, rows in sorted(steps.items()):
            of: dict[Question, list[Row]] = {}
            for row in rows:
                for segment in {WHOLE, _listed(experiment, row.segment)}:
                    of.setdefault((row.metric, segment, row.variation), []).append(row)
            yield step, ((step + 1) * step_s - 1) // DAY_S, {key: Sums().plus(one) for key, one in of.items()}

    return _over_time(experiment, metrics, known())


def _over_time(
    experiment: Experiment, metrics: Mapping[str, Metric], steps: Iterable[tuple[int, int, Mapping[Question, Sums]]]
) -> dict[tuple[str, str], tuple[Point, ...]]:
    """`steps`: each with the day that it ends in, and what is known by its end."""
    points: dict[tuple[str, str], list[Point]] = {}
    for step, day, known in steps:
        units = [known.get(("", WHOLE, one.key), NONE).n for one in experiment.variations]
        plan = _plan(experiment, _split_now(experiment, units))
        for key in experiment.measured:
            for answer in _answers(experiment, metrics[key], WHOLE, known, plan, day):
                point = Point(step, sum(units), answer.read)
                points.setdefault((key, answer.variation), []).append(point)
    return {question: tuple(found) for question, found in points.items()}


def _by_day(experiment: Experiment, table: Mapping[Question, Sequence[Row]]) -> Iterator[tuple[int, int, Mapping[Question, Sums]]]:
    """Each day with all that was known by its end, over all units and in the plan's strata."""
    by_day: dict[int, dict[Question, list[Row]]] = {}
    for question, rows in table.items():
        for row in rows if question[1].partition("=")[0] in (WHOLE, experiment.plan.strata) else ():
            by_day.setdefault(row.day, {}).setdefault(question, []).append(row)
    known: dict[Question, Sums] = {}
    for day, of in sorted(by_day.items()):
        known |= {question: known.get(question, NONE).plus(rows) for question, rows in of.items()}
        yield day, day, known
