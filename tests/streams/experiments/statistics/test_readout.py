"""Read-outs: numbers where they mean something, a refusal in words where they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streams.experiments.statistics.effects import effect
from streams.experiments.statistics.histogram import Histogram
from streams.experiments.statistics.multiple import benjamini_hochberg
from streams.experiments.statistics.readout import Cause, Plan, ReadOut, Variation, adjusted, read_out
from streams.experiments.statistics.sufficient import Cuped, Mean, Proportion, Quantile, Ratio
from streams.experiments.statistics.survival import Survival

A = Variation("calm", 0.5, 10_000, Mean, [(10_000, 50_000, 400_000)])
B = Variation("bold", 0.5, 10_100, Mean, [(10_100, 52_000, 430_000)])
PLAN = Plan(planned_units=20_000)


def causes(found: ReadOut) -> set[Cause]:
    return {refusal.cause for refusal in found.refusals}


def test_a_sound_experiment_has_numbers_and_says_what_they_assume() -> None:
    found = read_out(A, B, PLAN)
    assert found.refusals == ()
    assert found.effect == effect(Mean(*A.sums[0]), Mean(*B.sums[0]), relative=True)
    assert found.fixed is not None
    assert found.always_valid is not None
    assert found.always_valid.low < found.fixed.low < found.effect.estimate < found.fixed.high < found.always_valid.high
    assert any("looked at once, at 20,000 units" in words for words in found.assumes)
    assert any("any number of times" in words for words in found.assumes)


@pytest.mark.parametrize(
    ("changes", "cause", "words"),
    [
        ({"units": 11_000, "sums": [(11_000, 52_000, 430_000)]}, Cause.SPLIT, "calm 10,000 for weight 0.5, bold 11,000 for weight 0.5"),
        ({"allocated": 12_000}, Cause.EXPOSURE, "calm 98.0%, bold 84.2%"),
        ({"allocated": 12_000, "in_several": 60}, Cause.EXPOSURE, "calm 98.0%, bold 84.7%"),
        ({"allocated": 9_000}, Cause.EXPOSURE, "more units are exposed than were allocated in bold"),
        ({"in_several": 900}, Cause.SEVERAL, "900 of 21,000 units"),
        ({"sums": [(9_000, 52_000, 430_000)]}, Cause.MISSING, "missing are calm 0.0%, bold 10.9%"),
        ({"with_data": 11_000}, Cause.MISSING, "more units have the metric than are exposed in bold"),
        ({"sums": [(0, 0, 0)]}, Cause.NO_DATA, "bold has 10,100 units and 0 values"),
        ({"sums": [(12, 60, 400)]}, Cause.TINY, "bold has 12 units of the 50"),
        ({"sums": [(10_100, float("nan"), 1.0)]}, Cause.NOT_FINITE, "bold: Mean.sum_x is nan"),
        ({"sums": [(10_100, 1e4, float("inf"))]}, Cause.NOT_FINITE, "bold: Mean.sum_xx is inf"),
        ({"sums": [(10_100, 0, 0)]}, Cause.UNDEFINED, "has no variance"),
        ({"kind": Proportion, "sums": [(10_100, 3)]}, Cause.TINY, "3 of 10,100 units"),
        ({"kind": Proportion, "sums": [(10_100, 5000)]}, Cause.UNDEFINED, "a Mean cannot be compared with a Proportion"),
    ],
)
def test_a_broken_one_has_no_numbers_but_a_reason(changes: dict[str, Any], cause: Cause, words: str) -> None:
    found = read_out(replace(A, allocated=10_200), replace(B, **{"allocated": 10_300, **changes}), PLAN)
    assert found.effect is found.fixed is found.always_valid is None
    assert cause in causes(found)
    assert any(words in refusal.words for refusal in found.refusals), found.refusals


def test_every_variation_is_looked_at_not_only_the_two() -> None:
    third = replace(A, name="third", units=7_000, sums=[(7_000, 35_000, 280_000)])
    assert causes(read_out(A, B, PLAN, [third])) == {Cause.SPLIT}
    off = replace(third, name="off", weight=0.0, units=0, sums=[(0, 0, 0)])
    assert causes(read_out(A, B, PLAN, [off])) == set()
    assert causes(read_out(A, B, PLAN, [replace(off, units=1)])) == {Cause.SPLIT}


def test_a_sequential_test_of_the_split_is_believed() -> None:
    assert causes(read_out(A, B, replace(PLAN, split_p=1e-4))) == {Cause.SPLIT}


def test_what_is_relative_to_about_zero_is_refused_and_the_absolute_effect_is_not() -> None:
    noisy = [replace(one, sums=[(one.units, 100, 40_000 * one.units)]) for one in (A, B)]
    assert causes(read_out(noisy[0], noisy[1], PLAN)) == {Cause.NEAR_ZERO}
    assert causes(read_out(noisy[0], noisy[1], replace(PLAN, relative=False))) == set()
    ratio = [replace(one, kind=Ratio, sums=[(one.units, 5000, 9000, 20, 90_000, 50)]) for one in (A, B)]
    assert causes(read_out(ratio[0], ratio[1], replace(PLAN, relative=False))) == {Cause.NEAR_ZERO}


def test_covariates_strata_and_quantiles_are_read() -> None:
    chance = np.random.default_rng(51)

    def units(n: int) -> list[tuple[Any, ...]]:
        x = chance.integers(0, 100, n)
        y = x + chance.integers(0, 30, n)
        return [(n, int(y.sum()), int((y * y).sum()), int(x.sum()), int((x * x).sum()), int((x * y).sum()))]

    a, b = (replace(one, kind=Cuped, sums=units(one.units)) for one in (A, B))
    found = read_out(a, b, PLAN)
    assert found.gain == pytest.approx(0.917, abs=0.01)
    assert any("before the exposure" in words for words in found.assumes)
    halves = [replace(one, kind=Cuped, sums=units(one.units // 2) + units(one.units // 2)) for one in (A, B)]
    stratified = read_out(halves[0], halves[1], PLAN)
    assert stratified.effect is not None
    assert stratified.effect.strata == 2
    assert stratified.gain == pytest.approx(0.917, abs=0.01)
    levels = [Histogram.of(chance.integers(0, 10_000, one.units).tolist()).quantile(0.95) for one in (A, B)]
    sums = [[(level.n, level.level, level.estimate, level.low, level.high, level.n_interval)] for level in levels]
    tails = read_out(*(replace(one, kind=Quantile, sums=s) for one, s in zip((A, B), sums, strict=True)), PLAN)  # type: ignore[misc]
    assert tails.effect is not None
    assert abs(tails.effect.estimate) < 0.02


def test_a_time_to_an_event_is_read() -> None:
    chance = np.random.default_rng(52)
    sums = []
    for units, mean in ((10_000, 20.0), (10_100, 24.0)):
        event, seen = np.ceil(chance.exponential(mean, units)).astype(int), chance.integers(10, 31, units)
        found = Survival.of(np.minimum(event, seen) - 1, event <= seen, 30)
        sums.append([(found.events, found.censored)])
    a, b = (replace(one, kind=Survival, sums=said) for one, said in zip((A, B), sums, strict=True))
    found = read_out(a, b, replace(PLAN, relative=False))
    truth = [sum(np.exp(-t / mean) for t in range(30)) for mean in (20.0, 24.0)]
    assert found.always_valid is not None
    assert 0 < found.always_valid.low < truth[1] - truth[0] < found.always_valid.high
    never = replace(b, sums=[((0,) * 30, (10_100,) + (0,) * 29)])
    assert causes(read_out(a, never, PLAN)) == {Cause.UNDEFINED}


def test_strata_that_are_not_the_same_are_refused() -> None:
    halves = replace(B, sums=[(5_050, 26_000, 215_000)] * 2)
    assert causes(read_out(A, halves, PLAN)) == {Cause.UNDEFINED}


def test_strata_of_too_few_units_are_refused() -> None:
    split = [replace(one, sums=[(one.units - n, 50_000, 400_000), (n, 200, 1_300)]) for one, n in ((A, 60), (B, 49))]
    assert causes(read_out(split[0], split[1], PLAN)) == {Cause.TINY}
    assert causes(read_out(split[0], replace(B, sums=[(B.units - 50, 50_000, 400_000), (50, 200, 1_300)]), PLAN)) == set()


def test_many_questions_are_adjusted_and_refused_ones_are_none() -> None:
    found = {
        ("hours", "bold"): read_out(A, B, PLAN),
        ("starts", "bold"): read_out(A, A, PLAN),
        ("broken", "bold"): read_out(A, replace(B, units=1), PLAN),
    }
    for procedure in (benjamini_hochberg, None):
        p = adjusted(found) if procedure is None else adjusted(found, procedure)
        assert set(p) == {("hours", "bold"), ("starts", "bold")}
        assert found["hours", "bold"].always_valid is not None
        assert p["hours", "bold"] == pytest.approx(min(1.0, 2 * found["hours", "bold"].always_valid.p))
