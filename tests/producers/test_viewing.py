"""Worlds of viewing: popularity has the exponent it is said to have, expectations are as wrong as they are said to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infra.bench.fill import WORLD
from producers.simulator.viewing import Viewing, draw, load, times_of_day
from producers.simulator.world import BadWorld


@pytest.fixture(scope="module")
def world() -> Viewing:
    return load(WORLD).model_copy(update={"titles": 400, "days": 6, "history_days": 8, "new_a_day": 6.0})


@pytest.mark.parametrize("exponent", [0.6, 1.0])
def test_popularity_has_its_exponent_on_every_day(world: Viewing, exponent: float) -> None:
    catalogue, _, truth = draw(world, exponent, 1)
    for day in (0, 7, 13):
        offered = np.flatnonzero(catalogue.offered(day))
        expected = truth.expected[0, day]
        ranked = np.sort(expected[offered])[::-1]
        assert ranked / ranked[0] == pytest.approx(np.arange(1, len(offered) + 1) ** -exponent)
        assert expected.sum() == pytest.approx(ranked.sum())
        assert ranked.sum() == pytest.approx(world.regions["north"].plays_a_day * world.weekday_factors[day % 7])


def test_the_same_seed_gives_the_same_world_and_plays_are_drawn_from_the_truth(world: Viewing) -> None:
    (catalogue, plays, truth), (_, again, _), (_, other, _) = draw(world, 0.8, 1), draw(world, 0.8, 1), draw(world, 0.8, 2)
    assert (plays.counts == again.counts).all()
    assert plays.counts.shape != other.counts.shape or (plays.counts != other.counts).any()
    deviation = (plays.counts[0] - truth.expected[0]) / np.sqrt(np.maximum(truth.expected[0], 1))
    assert abs(deviation[truth.expected[0] > 1].mean()) < 0.05
    assert deviation[truth.expected[0] > 1].std() == pytest.approx(1, abs=0.05)
    assert (plays.counts[:, ~np.array([catalogue.offered(day) for day in range(14)])] == 0).all()


def test_declared_expectations_are_wrong_by_the_factor(world: Viewing) -> None:
    catalogue, _, truth = draw(world, 0.8, 1)
    new = np.flatnonzero(catalogue.from_day > 0)
    off = catalogue.prior_plays[:, new] / truth.expected[:, catalogue.from_day[new], new]
    assert set(np.round(off, 6).ravel()) == {0.5, 2.0}
    assert np.isnan(catalogue.prior_plays[:, catalogue.from_day == 0]).all()
    assert (catalogue.announced[new] == catalogue.from_day[new] - world.announced_days).all()


def test_a_catalogue_loses_what_it_wins_and_premieres_are_big(world: Viewing) -> None:
    catalogue, _, truth = draw(world.model_copy(update={"premieres_a_week": 14.0}), 0.8, 1)
    assert {int(catalogue.offered(day).sum()) for day in range(14)} == {world.titles}
    at = np.flatnonzero(catalogue.premiere)
    first = truth.expected[0, catalogue.from_day[at], at]
    ranks = [(truth.expected[0, day] > plays).sum() for day, plays in zip(catalogue.from_day[at], first, strict=True)]
    assert np.median(ranks) < 20
    assert (catalogue.bytes % 1_000_000 == 0).all()
    assert set(catalogue.assets) == {1, world.branches}


def test_most_is_watched_at_the_peak(world: Viewing) -> None:
    place = world.regions["north"]
    hours = times_of_day(place, 200_000, np.random.default_rng(1))
    counts = np.histogram(hours, bins=24, range=(0, 24))[0] / (200_000 / 24)
    assert hours.min() >= 0
    assert hours.max() < 24
    assert counts[20] == pytest.approx(1 + place.swing, rel=0.05)
    assert counts[8] == pytest.approx(1 - place.swing, abs=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('"days": 30', '"days": 0'), "days: Input should be greater than 0"),
        (('"swing": 0.8', '"swing": 1.5'), "regions.north.swing: Input should be less than 1"),
        (('"drift"', '"drifts"'), "drift: Field required"),
        (("{", "["), "Invalid JSON"),
    ],
)
def test_a_file_that_is_no_world_is_refused(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    path = tmp_path / "world.json"
    path.write_text(WORLD.read_text().replace(*change, 1))
    with pytest.raises(BadWorld, match=words):
        load(path)
