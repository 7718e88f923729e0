"""Planned looks: published bounds, the error they spend, the power they have."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import multivariate_normal  # type: ignore[import-untyped]

from streams.experiments.statistics import ld98, planning
from streams.experiments.statistics.fixed import Side
from streams.experiments.statistics.group_sequential import adjusted_alpha, bounds, crossing, obrien_fleming, pocock, power
from streams.experiments.statistics.planning import Design
from tests.kit import vectors

FIVE = [0.2, 0.4, 0.6, 0.8, 1.0]


def test_five_looks_are_those_of_the_textbooks() -> None:
    """Two-sided 0.05, as Lan-DeMets programs have printed them for decades, with what their search leaves open."""
    assert bounds(FIVE) == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=1.5e-4)
    assert bounds(FIVE, spending=pocock) == pytest.approx([2.4380, 2.4268, 2.4101, 2.3966, 2.3859], abs=1.5e-4)
    assert bounds([1.0]) == pytest.approx([1.959964], abs=1e-6)
    assert bounds([1.0], sides=1) == pytest.approx([1.644854], abs=1e-6)


@pytest.mark.parametrize("spending", [obrien_fleming, pocock, power(2)])
def test_bounds_spend_what_they_may(spending: object) -> None:
    information = [0.05, 0.07, 0.3, 0.31, 0.9, 1.0]
    upper = bounds(information, 0.05, spending)  # type: ignore[arg-type]
    allowed = [spending(0.025, t) for t in information]  # type: ignore[operator]
    assert crossing(information, np.where(np.isinf(upper), 99, upper)) == pytest.approx(allowed, abs=1e-9)


def test_the_recursion_agrees_with_a_multiple_normal_integral() -> None:
    t = np.array([0.4, 1.0])
    upper = bounds(t.tolist(), 0.05, pocock, sides=1)
    correlated = multivariate_normal(mean=1.5 * np.sqrt(t), cov=np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t)))
    assert 1 - correlated.cdf(upper) == pytest.approx(crossing(t.tolist(), upper, 1.5)[-1], abs=1e-9)


def test_the_programs_bounds_are_the_recorded_ones() -> None:
    for case in json.loads((vectors("stats") / "group_sequential_bounds.json").read_text()):
        if "t" in case:
            found = ld98.bounds(case["t"], case["alpha"], power(case["phi"]), case["sides"])
            np.testing.assert_allclose(found, case["expected_upper_bounds"], case["rtol"], case["atol"])
        else:  # more units came than were expected: the information is theirs
            units = [sum(counts) for counts in zip(case["count_1"], case["count_2"], strict=True)]
            information = [count / max(*units, case["total_expected"]) for count in units]
            for program in (ld98.bounds, bounds):
                found = adjusted_alpha(program(information, case["alpha"], power(2), case["sides"]), case["sides"])
                np.testing.assert_allclose(found, case["expected_adjusted_alpha"], atol=case["atol"])


def test_the_program_is_near_the_exact_bounds_when_looks_are_few() -> None:
    assert ld98.bounds(FIVE, 0.05, obrien_fleming) == pytest.approx(bounds(FIVE), rel=2e-3)


@pytest.mark.parametrize("information", [[], [0.0, 1.0], [0.5, 0.5], [0.9, 0.5], [0.5, 1.1], [float("nan"), 1.0]])
def test_information_that_cannot_be_is_refused(information: list[float]) -> None:
    with pytest.raises(ValueError, match="information must increase"):
        bounds(information)


def test_planned_units_have_the_planned_power() -> None:
    """By simulation of the test itself, at one look and at five."""
    chance = np.random.default_rng(21)
    design = Design(effect=0.2, variance=4.0, variance_b=5.0, share_b=0.4)
    n, runs = planning.fixed_units(design), 20_000
    assert planning.fixed_power(design, n) == pytest.approx(0.8, abs=1e-3)
    assert planning.smallest_effect(design, n) == pytest.approx(0.2, rel=1e-3)
    z = chance.normal(design.drift(n), 1, runs)
    assert np.mean(z > 1.959964) == pytest.approx(0.8, abs=0.01)
    n = planning.group_sequential_units(design, FIVE)
    walk = chance.normal(0, np.sqrt(0.2), (runs, 5)).cumsum(axis=1) + design.drift(n) * np.array(FIVE)
    assert np.mean((walk / np.sqrt(FIVE) > bounds(FIVE)).any(axis=1)) == pytest.approx(0.8, abs=0.012)


def test_looking_costs_units_and_always_looking_costs_more() -> None:
    design = Design.of_proportion(0.1, 0.01)
    one, five, always = planning.fixed_units(design), planning.group_sequential_units(design, FIVE), planning.always_valid_units(design)
    assert one < five < always < 3 * one
    halved = planning.fixed_units(Design(design.effect, design.variance / 2, None if design.variance_b is None else design.variance_b / 2))
    assert halved == pytest.approx(one / 2, abs=1)
    assert planning.days(one, 10_000, 0.5) == -(-one // 5000)


def test_more_power_or_less_alpha_needs_more_units() -> None:
    units = [planning.always_valid_units(Design(1.0, 9.0, alpha=alpha, side=Side.GREATER)) for alpha in (0.1, 0.05, 0.01)]
    assert all(a < b for a, b in pairwise(units))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"effect": 0.0}, "no number of units finds none"),
        ({"variance": -1.0}, "variance is"),
        ({"power": 1.0}, "power is"),
        ({"share_b": 0.0}, "share_b"),
    ],
)
def test_what_cannot_be_planned_is_refused(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Design(**{"effect": 1.0, "variance": 1.0, **wrong})
