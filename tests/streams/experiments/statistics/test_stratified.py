"""Strata are averaged as their authors say, and as a regression of the units themselves says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streams.experiments.statistics.distributions import Undefined
from streams.experiments.statistics.effects import effect, stratified
from streams.experiments.statistics.sufficient import Cuped, CupedRatio, Mean, Proportion, Ratio


def mean_of(y: Any) -> Mean:
    return Mean(len(y), float(y.sum()), float(y @ y))


def cuped_of(y: Any, x: Any) -> Cuped:
    return Cuped(len(y), float(y.sum()), float(y @ y), float(x.sum()), float(x @ x), float(x @ y))


def draw(chance: np.random.Generator, n: int, stratum: int, lift: float) -> tuple[Any, Any]:
    x = chance.gamma(3, 1 + stratum, n)
    return 5 * stratum + 0.7 * x + chance.normal(lift, 1, n), x


def test_the_effect_is_the_average_of_strata_and_its_error_counts_how_they_were_drawn() -> None:
    chance = np.random.default_rng(71)
    cells = [(draw(chance, 30 + 40 * k, k, 0)[0], draw(chance, 90 - 10 * k, k, 1)[0]) for k in range(3)]
    found = stratified([(mean_of(a), mean_of(b)) for a, b in cells])
    share = np.array([len(a) + len(b) for a, b in cells], float)
    n = share.sum()
    share /= n
    effects = np.array([b.mean() - a.mean() for a, b in cells])
    variances = np.array([a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b) for a, b in cells])
    assert found.estimate == pytest.approx(share @ effects, rel=1e-12)
    expected = (share**2) @ variances + (share @ effects**2 - (share @ effects) ** 2) / n
    assert found.standard_error**2 == pytest.approx(expected, rel=1e-9)
    assert found.strata == 3


def test_with_a_covariate_it_is_the_regression_of_each_stratum() -> None:
    chance = np.random.default_rng(72)
    cells = [(draw(chance, 60, k, 0), draw(chance, 80, k, 1)) for k in range(2)]
    found = stratified([(cuped_of(*a), cuped_of(*b)) for a, b in cells])
    slopes, variances = [], []
    for (y_a, x_a), (y_b, x_b) in cells:
        design = np.column_stack([np.ones(140), np.repeat([0, 1], [60, 80]), np.concatenate([x_a, x_b])])
        y = np.concatenate([y_a, y_b])
        fit, rest, *_ = np.linalg.lstsq(design, y)
        slopes.append(fit[1])
        variances.append(rest[0] / 137 * np.linalg.inv(design.T @ design)[1, 1])
    assert found.estimate == pytest.approx(np.mean(slopes), rel=1e-9)
    between = np.mean(np.square(slopes)) - np.mean(slopes) ** 2
    assert found.standard_error**2 == pytest.approx(np.mean(variances) / 2 + between / 280, rel=1e-9)
    plain = stratified([(mean_of(a[0]), mean_of(b[0])) for a, b in cells])
    assert found.standard_error < 0.7 * plain.standard_error


@pytest.mark.parametrize("relative", [False, True])
def test_its_intervals_cover_the_truth(relative: bool) -> None:
    chance = np.random.default_rng([73, relative])
    inside = 0
    for _ in range(300):
        sizes = chance.multinomial(600, [0.5, 0.3, 0.2])
        cells = []
        for k, size in enumerate(sizes):
            n_b = chance.binomial(size, 0.5)
            cells.append((cuped_of(*draw(chance, size - n_b, k, 0)), cuped_of(*draw(chance, n_b, k, 0.4))))
        found = stratified(cells, relative)
        baseline = sum(share * (5 * k + 0.7 * 3 * (1 + k)) for k, share in enumerate((0.5, 0.3, 0.2)))
        inside += abs(found.estimate - 0.4 / (baseline if relative else 1)) < 1.96 * found.standard_error
    assert abs(inside / 300 - 0.95) <= 4 * np.sqrt(0.05 * 0.95 / 300)


def test_a_stratum_that_cannot_stand_alone_joins_the_largest() -> None:
    chance = np.random.default_rng(74)
    large, small = (mean_of(chance.normal(3, 1, 50)), mean_of(chance.normal(4, 1, 40))), (Mean(1, 3.0, 9.0), Mean(4, 20.0, 101.0))
    middle = (mean_of(chance.normal(5, 1, 30)), mean_of(chance.normal(6, 1, 31)))
    joined = (large[0] + small[0], large[1] + small[1])
    assert stratified([small, large, middle]) == stratified([joined, middle])
    assert stratified([small, large]) == effect(*joined)


def test_ratios_and_proportions_are_stratified_too() -> None:
    chance = np.random.default_rng(75)
    y = chance.poisson(4, (4, 500)) + 1.0
    x = y * chance.gamma(4, 0.25, (4, 500))
    ratios = [Ratio(500, *(float(v) for v in (p.sum(), p @ p, q.sum(), q @ q, p @ q))) for p, q in zip(x, y, strict=True)]
    pooled = effect(ratios[0] + ratios[2], ratios[1] + ratios[3], relative=True)
    found = stratified([(ratios[0], ratios[1]), (ratios[2], ratios[3])], relative=True)
    assert found.estimate == pytest.approx(pooled.estimate, abs=2e-3)
    assert found.standard_error == pytest.approx(pooled.standard_error, rel=0.05)
    shares = [(Proportion(100, 40), Proportion(100, 50)), (Proportion(100, 10), Proportion(100, 20))]
    assert stratified(shares).estimate == pytest.approx(0.1)


def test_a_ratio_with_a_covariate_follows_its_definition() -> None:
    """One stratum twice is that stratum, with the regression of numerator and denominator on what was before."""
    chance = np.random.default_rng(76)
    sides = []
    for lift in (1.0, 1.2):
        v = chance.poisson(4, 800) + 1.0
        u = v * chance.gamma(4, 0.25, 800)
        y = v + chance.poisson(1, 800)
        x = lift * (u + chance.gamma(2, 0.2, 800))
        columns = (x, y, u, v)
        products = [float(p @ q) for p, q in ((x, x), (y, y), (u, u), (v, v), (x, y), (x, u), (x, v), (y, u), (y, v), (u, v))]
        sides.append((CupedRatio(800, *(float(c.sum()) for c in columns), *products), columns))
    (a, of_a), (b, of_b) = sides
    found = stratified([(a, b), (a, b)])
    design = np.column_stack(
        [np.ones(1600), np.repeat([0, 1], 800), np.concatenate([of_a[2], of_b[2]]), np.concatenate([of_a[3], of_b[3]])]
    )
    fits = [np.linalg.lstsq(design, np.concatenate([of_a[i], of_b[i]]))[0] for i in (0, 1)]
    center = design.mean(axis=0)
    at = [[fit @ [1, side, center[2], center[3]] for fit in fits] for side in (0, 1)]
    assert found.estimate == pytest.approx(at[1][0] / at[1][1] - at[0][0] / at[0][1], rel=1e-9)
    assert found.standard_error < stratified([(a.unadjusted(), b.unadjusted())] * 2).standard_error


def test_covariates_that_determine_one_another_are_left_out_of_their_stratum() -> None:
    chance = np.random.default_rng(78)

    def sums(n: int, tied: bool) -> CupedRatio:
        u = chance.integers(1, 90, n)
        columns = (u + chance.integers(0, 9, n), chance.integers(50, 99, n), u, 3 * u + 7 if tied else chance.integers(50, 99, n))
        pairs = ((0, 0), (1, 1), (2, 2), (3, 3), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
        return CupedRatio(n, *(int(one.sum()) for one in columns), *(int(columns[i] @ columns[j]) for i, j in pairs))

    free, tied = (sums(80, False), sums(90, False)), (sums(70, True), sums(60, True))
    found = stratified([free, tied])
    plain = stratified([(free[0].unadjusted(), free[1].unadjusted()), (tied[0].unadjusted(), tied[1].unadjusted())])
    assert found.strata == 2
    assert found.standard_error < plain.standard_error


def test_large_integers_cost_no_digits() -> None:
    """The same units in another unit and from another zero: a covariate of 10¹² with deviations of a few."""
    chance = np.random.default_rng(77)

    def sums(y: list[int], x: list[int]) -> Cuped:
        return Cuped(len(y), sum(y), sum(v * v for v in y), sum(x), sum(v * v for v in x), sum(v * w for v, w in zip(x, y, strict=True)))

    cells = []
    for lift in (0, 3, 1, 4):
        x = chance.integers(0, 40, 60).tolist()
        cells.append(([v + lift + int(chance.integers(0, 9)) for v in x], x))
    near = [sums(y, x) for y, x in cells]
    far = [sums([10**12 + v for v in y], [10**12 + v for v in x]) for y, x in cells]
    expected, found = (stratified([(one[0], one[1]), (one[2], one[3])]) for one in (near, far))
    assert found.estimate == pytest.approx(expected.estimate, abs=1e-3)  # 10¹² itself is a float of 1e-4
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-3)
    per_day = expected.scaled(-24)
    assert (per_day.estimate, per_day.standard_error) == (-24 * expected.estimate, 24 * expected.standard_error)


def test_nothing_is_averaged_from_nothing() -> None:
    with pytest.raises(Undefined, match="there is no stratum"):
        stratified([])
    zero = (Mean(10, 0.0, 0.0), Mean(10, 0.0, 0.0))
    with pytest.raises(Undefined, match="no variance"):
        stratified([zero, zero])
