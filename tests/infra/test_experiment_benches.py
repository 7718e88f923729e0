"""Benchmarks of experiments: that what they compare can differ, and that theory is found where it is known to hold."""

from __future__ import annotations

import numpy as np
import pytest

from infra.bench import allocation, power
from producers.simulator.world import load


def test_units_that_are_dealt_differently_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    units = [f"mémbre-{n}-漢" for n in range(300)]
    assert allocation.disagreements(units) == 0
    right = allocation.allocate
    monkeypatch.setattr(allocation, "allocate", lambda salt, units, ranges: np.where(np.arange(300) < 7, 9, right(salt, units, ranges)))
    assert allocation.disagreements(units) == 7


def test_a_covariate_leaves_of_the_variance_what_theory_says() -> None:
    chance = np.random.default_rng(5)
    x, rest = chance.normal(5, 1, (2, 5_000))
    members = power.Members(x, 0.6 * x + 0.8 * rest, 0.6 * x + 0.8 * rest + 0.1)
    assert power.covariate(members, 2_000, chance) == pytest.approx(0.64, rel=0.15)
    found = power.power(members, 400, chance)
    assert found["covariate_units_of_fixed"] == pytest.approx(0.64, rel=0.05)
    assert found["worst_power_off"] < 0.08
    assert found["bias"] < 0.15


def test_members_watch_as_they_did_before_and_longer_with_the_effect() -> None:
    world = load(power.WORLD).model_copy(update={"members": 500})
    members = power.watched(world, 3)
    assert {len(column) for column in (members.before, members.without, members.given)} == {500}
    assert np.corrcoef(members.before, members.without)[0, 1] > 0.3
    assert 1.02 < members.given.mean() / members.without.mean() < 1.15  # a title's end comes for everybody
    again = power.watched(world, 3)
    assert np.array_equal(again.given, members.given)
