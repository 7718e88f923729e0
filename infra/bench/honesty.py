"""Are results of experiments right as often as they say?

`--sessions` experiments (default 10,000) of each kind of metric, of skewed, rare, clustered and zero-inflated data, in batches; after each
batch somebody looks. A/A: how often anything is called different at any look (always-valid methods), at the end (fixed horizon, in three
times as many experiments), or by a fixed test that is looked at each time, as one must not. A/B with a known effect: how often each
interval holds it, at every look at once. Then the split and planned looks, each against what it promises.

`python -m infra.bench.honesty docs/experiments-statistics.md` writes the table of the last run there, and into `honesty.json` beside this
file, which a test holds against the code: the first experiments are done again, and every count must be the same.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import exp, floor, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.bench.harness import OUT, Figure, Options, say
from streams.experiments.statistics import exact, group_sequential, planning
from streams.experiments.statistics.always_valid import confidence_sequence, mixture_sprt
from streams.experiments.statistics.distributions import Undefined, normal_quantile
from streams.experiments.statistics.effects import Effect, effect
from streams.experiments.statistics.fixed import fixed_horizon
from streams.experiments.statistics.histogram import Histogram
from streams.experiments.statistics.planning import Design
from streams.experiments.statistics.readout import Plan, Variation, read_out
from streams.experiments.statistics.sample_ratio import SUSPECT, sequential
from streams.experiments.statistics.sufficient import ClusteredQuantile, Cuped, Mean, Metric, Proportion, Quantile, Ratio
from streams.playback.minute import BITS
from streams.playback.minute import bucket as bucket_of

ALPHA = 0.05
EXPERIMENTS = 10_000
MORE = 3
"""So many times the experiments are looked at once, at the end: what a fixed test promises is an equation, not a bound."""


def error(share: float, experiments: int = EXPERIMENTS) -> float:
    """Three standard errors of a share among so many experiments."""
    return 3 * sqrt(share * (1 - share) / experiments)


MOST, LEAST = ALPHA + error(ALPHA), 1 - ALPHA - error(ALPHA)
FIGURES = {
    "worst_always_valid_false_positives": Figure("share", MOST, MOST, higher=False),
    "worst_always_valid_coverage": Figure("share", LEAST, LEAST),
    "worst_fixed_false_positives_off": Figure("share", 0.005, 0.005, higher=False),
    "worst_fixed_coverage": Figure("share", LEAST, LEAST),
    "widest_sequence_of_fixed": Figure("×", 1.7, 1.7, higher=False),
    "peeking_false_positives": Figure("share"),
    "split_false_positives": Figure("share", MOST, MOST, higher=False),
    "split_refusals": Figure("share", SUSPECT + error(SUSPECT), SUSPECT + error(SUSPECT), higher=False),
    "group_sequential_false_positives": Figure("share", MOST, MOST, higher=False),
    "read_out_ms": Figure("ms", 0.5, 1.5, higher=False),
}
LOOKS, BATCH = 20, 250
"""Looks of an experiment, and units that come to each variation between them."""
UNITS = 2 * LOOKS * BATCH
LIFT = 0.1
"""The known effect, relative to a."""
LEVEL = 0.9
"""The quantile that is watched."""
BLOCK = 50
"""Experiments that are drawn from one seed: the first of them are the test's."""
RECORD = Path(__file__).with_name("honesty.json")

Floats = NDArray[np.float64]
Chance = np.random.Generator


@dataclass(frozen=True)
class Kind:
    """A metric: `draw` gives (columns, rows) of one variation with a relative effect, `truth` its true value.

    The columns are a statistic's sums, unit by unit, or whatever `looks` makes of them: what is known at each look.
    """

    says: str
    draw: Callable[[Chance, int, float], Floats]
    truth: Callable[[float], float]
    statistic: Callable[..., Metric]
    looks: Callable[[Floats, Sequence[int]], Sequence[Any]] | None = None
    exact: Callable[[Any, Any], float] | None = None
    """An exact always-valid p-value from what is known at a look, where there is one."""


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


def _stalling(chance: Chance, n: int, lift: float) -> Floats:
    y = chance.gamma(2, 600, n)
    x = y * chance.exponential(0.05, n) * (chance.random(n) < 0.2) * (1 + lift)  # four in five never rebuffer
    return np.array([x, x * x, y, y * y, x * y])


def _sessions(chance: Chance, n: int, lift: float) -> Floats:
    """(4, values): look, bucket, 2i - 1 and m of each value, the i-th smallest of the m of its unit, as in experiments.statistic."""
    m = 1 + chance.poisson(1, n)
    unit = np.repeat(np.arange(n), m)
    x = np.exp(6 + 0.7 * chance.normal(0, 1, n)[unit] + 0.7 * chance.normal(0, 1, len(unit))) * (1 + lift)
    order = np.lexsort((x, unit))
    i = np.arange(len(unit)) - np.repeat(np.cumsum(m) - m, m) + 1
    whole = np.rint(x[order]).astype(np.int64)
    shift = np.maximum(0, np.frexp(whole)[1] - BITS)
    return np.array([unit // BATCH, (shift << BITS - 1) + (whole >> shift), 2 * i - 1, m[unit]], float)


def _buckets_so_far(columns: Floats, looks: Sequence[int]) -> list[ClusteredQuantile]:
    look, bucket = columns[:2].astype(np.int64)
    width = int(bucket.max()) + 1
    weights = np.array([np.ones(len(look)), columns[2], columns[3]])
    sums = np.array([np.bincount(look * width + bucket, one, LOOKS * width).reshape(LOOKS, width).cumsum(axis=0) for one in weights])
    found = []
    for number in looks:
        count, square, product = sums[:, number]
        histogram = Histogram({at: int(count[at]) for at in np.flatnonzero(count).tolist()})
        estimate = histogram.quantile(LEVEL).estimate
        below = slice(0, bucket_of(floor(estimate + 0.5)) + 1)
        sides = (count[below].sum(), square[below].sum(), count.sum(), product.sum(), product[below].sum())
        found.append(histogram.clustered(LEVEL, Ratio((number + 1) * BATCH, *(int(one) for one in sides))))
    return found


def _rates_p(a: Mean, b: Mean) -> float:
    return exact.rate_ratio(int(a.sum_x), int(b.sum_x)).p


def _shares_p(a: Proportion, b: Proportion) -> float:
    low, high = exact.proportion_difference((a.sum_x, a.n), (b.sum_x, b.n), ALPHA, UNITS / 2)
    return 0.0 if low > 0 or high < 0 else 1.0


def _quantiles_p(a: Floats, b: Floats) -> float:
    return exact.quantile_difference_p(exact.Sample.of(a), exact.Sample.of(b), LEVEL, UNITS / 2)


def _itself(found: Metric) -> Metric:
    return found


KINDS = {
    "mean_skewed": Kind("log-normal values", _skewed, lambda lift: exp(0.5) * (1 + lift), Mean),
    "mean_zero_inflated": Kind("zero for four in five", _zero_inflated, lambda lift: 2 * (1 + lift), Mean),
    "mean_with_covariate": Kind("and the same before, ρ = 0.85", _with_covariate, lambda lift: 2.6 * (1 + lift), Cuped),
    "proportion_rare": Kind("one in twenty", _rare, lambda lift: 0.05 * (1 + lift), Proportion, exact=_shares_p),
    "count": Kind("Poisson, 0.3 per unit", _count, lambda lift: 0.3 * (1 + lift), Mean, exact=_rates_p),
    "ratio_clustered": Kind("a unit's events share its rate", _clustered, lambda lift: 1 + lift, Ratio),
    "ratio_zero_inflated": Kind("rebuffering over watching; none for four in five", _stalling, lambda lift: 0.01 * (1 + lift), Ratio),
    "quantile": Kind(
        "0.9 of log-normal values",
        _values,
        lambda lift: exp(6 + normal_quantile(LEVEL)) * (1 + lift),
        lambda values: Quantile.of(values, LEVEL),
        looks=lambda columns, looks: [columns[0][: (look + 1) * BATCH] for look in looks],
        exact=_quantiles_p,
    ),
    "quantile_clustered": Kind(
        "the same from buckets; a unit brings several",
        _sessions,
        lambda lift: exp(6 + normal_quantile(LEVEL) * sqrt(0.98)) * (1 + lift),
        _itself,
        looks=_buckets_so_far,
    ),
}


@dataclass
class Honesty:
    """Counts of experiments: A/A called different at any look by each always-valid method, at the end by a fixed test (`fixed`, of `ends`),
    at any look by it; A/B in which an interval held the known effect at all looks (the fixed one: at the end). `width` is the sum of the
    sequence's width at the end over that of the fixed interval.
    """

    experiments: int = 0
    false_positives: dict[str, int] = field(default_factory=dict)
    covered: int = 0
    ends: int = 0
    fixed: int = 0
    fixed_covered: int = 0
    peeking: int = 0
    width: float = 0.0

    def __iadd__(self, other: Honesty) -> Honesty:
        for one in fields(self):
            mine, its = getattr(self, one.name), getattr(other, one.name)
            both = {method: mine.get(method, 0) + count for method, count in its.items()} if isinstance(its, dict) else mine + its
            setattr(self, one.name, both)
        return self


def honesty(name: str, seed: int, blocks: range) -> Honesty:
    """Of the experiments of this kind in these blocks, of BLOCK each."""
    found = Honesty()
    for block in blocks:
        chance = np.random.default_rng([seed, *name.encode(), block])
        for _ in range(BLOCK):
            found += _experiment(KINDS[name], chance)
    return found


def _experiment(kind: Kind, chance: Chance) -> Honesty:
    a, same, better = (_looks(kind, kind.draw(chance, LOOKS * BATCH, lift)) for lift in (0, 0, LIFT))
    truth, deviation = kind.truth(LIFT) - kind.truth(0), LIFT * kind.truth(0)
    wrong = {"sequence": False, "sprt": False} | ({"exact": False} if kind.exact else {})
    peeks = last = False
    width = 0.0
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
        width = (sequence.high - sequence.low) / (once.high - once.low)
    inside, held = True, False
    for x, y in zip(a, better, strict=True):
        found = _effect(kind, x, y)
        if found is not None:
            sequence = confidence_sequence(found, ALPHA, planned_units=UNITS)
            inside &= sequence.low <= truth <= sequence.high
            once = fixed_horizon(found, ALPHA)
            held = once.low <= truth <= once.high
    ends = int(last)
    for _ in range(MORE - 1):
        x, y = (_looks(kind, kind.draw(chance, LOOKS * BATCH, 0), [LOOKS - 1])[0] for _ in range(2))
        found = _effect(kind, x, y)
        ends += found is not None and fixed_horizon(found, ALPHA).p <= ALPHA
    counts = {method: int(was) for method, was in wrong.items()}
    return Honesty(1, counts, int(inside), MORE, ends, int(held), int(peeks), width)


def _looks(kind: Kind, columns: Floats, looks: Sequence[int] = range(LOOKS)) -> Sequence[Any]:
    """What is known of a variation at each of these looks: its statistic, or what that is made from."""
    if kind.looks is not None:
        return kind.looks(columns, looks)
    sums = columns.reshape(len(columns), LOOKS, BATCH).sum(axis=2).cumsum(axis=1).T.tolist()
    return [kind.statistic((look + 1) * BATCH, *sums[look]) for look in looks]


def _effect(kind: Kind, x: Any, y: Any) -> Effect | None:
    try:
        return effect(kind.statistic(x), kind.statistic(y)) if kind.looks is not None else effect(x, y)
    except Undefined:  # nothing has happened in one of them yet
        return None


def run(options: Options) -> list[dict[str, Any]]:
    """One mapping of figures and the table, for one seed: the experiments are the repetition."""
    blocks = -(-(options.sessions or EXPERIMENTS) // BLOCK)
    experiments = blocks * BLOCK
    table = {}
    for name in KINDS:
        first = honesty(name, options.seed, range(1))
        table[name] = {"all": honesty(name, options.seed, range(1, blocks)), "first": first}
        table[name]["all"] += first
        say(_row(name, table[name]["all"]))
    rates = {name: rates_of(found["all"]) for name, found in table.items()}
    chance = np.random.default_rng([options.seed, 0])
    splits = split(experiments, chance)
    return [
        {
            "worst_always_valid_false_positives": max(max(one.false_positives.values()) for one in rates.values()),
            "worst_always_valid_coverage": min(one.coverage for one in rates.values()),
            "worst_fixed_false_positives_off": max(abs(one.fixed - ALPHA) for one in rates.values()),
            "worst_fixed_coverage": min(one.fixed_coverage for one in rates.values()),
            "widest_sequence_of_fixed": max(one.width for one in rates.values()),
            "peeking_false_positives": max(one.peeking for one in rates.values()),
            "split_false_positives": float(np.mean(splits <= ALPHA)),
            "split_refusals": float(np.mean(splits < SUSPECT)),
            "group_sequential_false_positives": planned_looks(experiments, chance),
            "read_out_ms": read_out_ms(),
            "table": {name: {part: asdict(counts) for part, counts in found.items()} for name, found in table.items()},
        }
    ]


@dataclass(frozen=True)
class Rates:
    """The same as shares, and the mean width."""

    false_positives: dict[str, float]
    coverage: float
    fixed: float
    fixed_coverage: float
    peeking: float
    width: float


def rates_of(found: Honesty) -> Rates:
    """Shares of the experiments that were counted."""
    n = found.experiments
    return Rates(
        {method: count / n for method, count in found.false_positives.items()},
        found.covered / n,
        found.fixed / found.ends,
        found.fixed_covered / n,
        found.peeking / n,
        found.width / n,
    )


def _row(name: str, found: Honesty) -> str:
    rates = rates_of(found)
    methods = " | ".join(f"{rates.false_positives[method]:.2%}" if method in rates.false_positives else "" for method in METHODS)
    shares = (rates.coverage, rates.fixed, rates.fixed_coverage, rates.peeking)
    return f"| `{name}`: {KINDS[name].says} | {methods} | {' | '.join(f'{share:.2%}' for share in shares)} | {rates.width:.3f} |"


METHODS = ("sequence", "sprt", "exact")
BEGIN, END = "<!-- honesty: written by infra.bench.honesty -->", "<!-- end of honesty -->"


def _table(record: dict[str, Any]) -> Iterator[str]:
    counts = {name: Honesty(**found["all"]) for name, found in record["table"].items()}
    (experiments,), (ends,) = ({getattr(one, name) for one in counts.values()} for name in ("experiments", "ends"))
    yield f"{experiments:,} experiments of each kind with seed {record['seed']}, {LOOKS} looks, {UNITS:,} units at the end, α = {ALPHA:g}."
    yield f"Three standard errors are {error(ALPHA, experiments):.2%}; {error(ALPHA, ends):.2%} of the fixed test's {ends:,} at the end."
    yield ""
    yield "| metric | A/A called different at any look: sequence | mixture SPRT | exact | effect covered at all looks |" + (
        " fixed: different at the end | covered | different at any look | width of the sequence ÷ fixed, at the end |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    yield from (_row(name, found) for name, found in counts.items())
    yield ""
    shares = [f"{record[name]:.2%}" for name in ("split_false_positives", "split_refusals", "group_sequential_false_positives")]
    yield f"Of sound splits the sequential test calls {shares[0]} broken at p ≤ {ALPHA:g}, at any of {SPLITS} looks, and {shares[1]} at"
    yield f"p < {SUSPECT:g}, at which read-outs refuse. Five planned looks err in {shares[2]}."


def renewed(text: str, record: dict[str, Any]) -> str:
    """`text` with the table between its marks renewed. ValueError where it has no place."""
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"the table needs the lines {BEGIN} and {END}")
    return "\n".join([before + BEGIN, "", *_table(record), "", END + after])


SPLITS = 60
"""Looks at a split."""


def split(experiments: int, chance: Chance) -> Floats:
    """(experiments,): the sequential test's p after so many looks at splits that are as designed."""
    weights = [0.5, 0.3, 0.2]
    drawn = chance.multinomial(200, weights, (experiments, SPLITS)).tolist()
    return np.array([sequential(batches, weights)[-1].p for batches in drawn])


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


def planned_looks(experiments: int, chance: Chance) -> float:
    """How often a group-sequential test without any effect crosses a bound, on either side."""
    design, five = Design(effect=0.2, variance=4.0, variance_b=5.0), [0.2, 0.4, 0.6, 0.8, 1.0]
    upper = group_sequential.bounds(five, ALPHA)
    looks = _normal(design, planning.group_sequential_units(design, five), five, experiments, chance, 0.0)
    return sum(any(abs(at.estimate / at.standard_error) > edge for at, edge in zip(one, upper, strict=True)) for one in looks) / experiments


def read_out_ms() -> float:
    """Milliseconds of this process for a read-out of two variations with a covariate, with all its checks."""
    sums = ((9_900, 50_000, 400_000, 40_000, 300_000, 320_000), (10_000, 51_000, 410_000, 40_000, 300_000, 320_000))
    a, b = (Variation(name, 0.5, one[0], Cuped, [one]) for name, one in zip("ab", sums, strict=True))
    began = time.process_time()
    for _ in range(2000):
        if read_out(a, b, Plan()).refusals:
            raise AssertionError("the read-out that is timed was refused")
    return (time.process_time() - began) / 2000 * 1000


def _record(told: dict[str, Any]) -> dict[str, Any]:
    names = ("table", "split_false_positives", "split_refusals", "group_sequential_false_positives")
    return {"seed": told["seed"], **{name: told["runs"][0][name] for name in names}}


if __name__ == "__main__":
    record = _record(json.loads((OUT / "honesty.json").read_text()))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    document = Path(sys.argv[1])
    document.write_text(renewed(document.read_text(), record))
