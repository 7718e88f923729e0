"""Expected demand: what past plays, the week, launches and declared expectations say about tomorrow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.delivery.demand import LEAD_DAYS, Expected, Floats, Offer, Played, Tally, expect, forecast, launch_curve, tally

DAYS = 28
STEADY = np.linspace(20, 400, 40)
"""Plays a day of titles that nothing happens to."""


def tomorrow(*units: Floats, offered: Floats | None = None, prior: Floats | None = None) -> Floats:
    """The forecast of units beside forty steady ones, from `DAYS` days that begin on weekday 0."""
    days = len(units[0])
    plays = np.vstack([np.array(units, np.float64), np.outer(STEADY, np.ones(days))])
    there = np.ones(plays.shape, np.bool_)
    priors = np.full(len(plays), np.nan)
    if offered is not None:
        there[: len(units)] = offered
    if prior is not None:
        priors[: len(units)] = prior
    return forecast(plays, there, np.arange(days) % 7, days % 7, priors)[: len(units)]


def test_what_was_steady_stays() -> None:
    assert tomorrow(np.full(DAYS, 150.0))[0] == pytest.approx(150, rel=0.02)


def test_a_level_that_jumped_is_followed_and_noise_is_not() -> None:
    jumped = np.where(np.arange(DAYS) < DAYS - 2, 30.0, 300.0)
    noisy = np.random.default_rng(1).poisson(30, DAYS).astype(np.float64)
    noisy[-1] = 40
    up, still = tomorrow(jumped, noisy)
    assert up > 250
    assert 26 < still < 36


def test_a_trend_goes_on() -> None:
    rising, falling = 50 * 1.1 ** np.arange(DAYS), 2000 * 0.85 ** np.arange(DAYS)
    up, down = tomorrow(rising, falling)
    assert up > 0.97 * rising[-1]
    assert down < 0.92 * falling[-1]


def test_the_region_s_week_and_the_title_s_own() -> None:
    weekend = np.arange(DAYS) % 7 >= 5
    factor = np.where(weekend, 1.5, 1.0)
    plays = np.vstack([np.outer(STEADY, factor), 200 * np.where(weekend, 3.0, 1.0), np.full(DAYS, 200.0)])
    there = np.ones(plays.shape, np.bool_)
    unknown = np.full(len(plays), np.nan)
    on = {
        day: forecast(plays[:, : DAYS - 7 + day], there[:, : DAYS - 7 + day], np.arange(DAYS - 7 + day) % 7, day, unknown) for day in (2, 5)
    }
    assert on[5][20] / on[2][20] == pytest.approx(1.5, rel=0.08)
    assert on[5][-2] / on[2][-2] == pytest.approx(3, rel=0.15)
    assert on[5][-1] / on[2][-1] == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
def test_a_wrong_expectation_is_put_right_by_the_first_day(factor: float) -> None:
    truth = 200.0
    plays, offered = np.zeros(DAYS), np.zeros(DAYS, np.bool_)
    plays[-1], offered[-1] = truth, True
    before = tomorrow(np.zeros(DAYS), offered=np.zeros(DAYS, np.bool_), prior=np.array([factor * truth]))[0]
    after = tomorrow(plays, offered=offered, prior=np.array([factor * truth]))[0]
    assert before == pytest.approx(factor * truth)
    assert after == pytest.approx(truth, rel=0.12)


def test_a_launch_follows_the_curve_of_earlier_launches() -> None:
    days, first = 40, np.arange(4, 38, 2)
    age = np.arange(days) - first[:, None]
    plays = np.where(age >= 0, 1000 * 0.6 ** np.clip(age, 0, 4), 0.0)
    curve = launch_curve(np.vstack([plays, np.full(days, 500.0)]), np.vstack([age >= 0, np.full(days, True)]))
    assert curve[:4] == pytest.approx(0.6, abs=0.03)
    assert curve[5:8] == pytest.approx(1, abs=0.03)
    all_units = forecast(
        np.vstack([plays, np.outer(STEADY, np.ones(days))]),
        np.vstack([age >= 0, np.ones((len(STEADY), days), np.bool_)]),
        np.arange(days) % 7,
        days % 7,
        np.concatenate([np.full(len(first), 1000.0), np.full(len(STEADY), np.nan)]),
    )
    assert first[-1] == days - 4
    assert all_units[len(first) - 1] == pytest.approx(1000 * 0.6**4, rel=0.2)


def test_a_day_without_a_play_is_an_outage() -> None:
    plays = np.full(DAYS, 100.0)
    plays[-3] = 0
    alone = forecast(plays[None], np.ones((1, DAYS), np.bool_), np.arange(DAYS) % 7, 0, np.array([np.nan]))
    assert alone[0] == pytest.approx(100, rel=0.05)


@given(st.lists(st.lists(st.integers(0, 10**6), min_size=9, max_size=9), min_size=1, max_size=6), st.integers(0, 8))
def test_a_forecast_is_a_number_from_0_on(rows: list[list[int]], first: int) -> None:
    plays = np.array(rows, np.float64)
    offered = np.ones(plays.shape, np.bool_)
    offered[0, :first] = False
    prior = np.full(len(rows), np.nan)
    prior[0] = 0.0
    found = forecast(plays * offered, offered, np.arange(9) % 7, 2, prior)
    assert np.isfinite(found).all()
    assert (found >= 0).all()


def test_two_versions_share_a_history_and_branches_are_one_unit() -> None:
    rows = [
        Played("film", "1", "north", 10, 4, 400),
        Played("film", "2", "north", 10, 2, 300),
        Played("quest.root", "1", "north", 11, 5, 50),
        Played("quest.left", "1", "north", 11, 3, 30),
        Played("film", "2", "south", 11, 99, 99),
        Played("film", "2", "north", 12, 99, 99),
        Played("gone", "1", "north", 11, 99, 99),
    ]
    unit_of = {("film", "1"): "film", ("film", "2"): "film", ("quest.root", "1"): "quest", ("quest.left", "1"): "quest"}
    found = tally(rows, unit_of, ["film", "quest"], "north", range(10, 12))
    assert found.plays.tolist() == [[6, 0], [0, 5]]
    assert found.bytes.tolist() == [[700, 0], [0, 80]]
    assert found.first_day == 10


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="film 1 in north on day 3: -1 plays, 5 bytes; none can be negative"):
        tally([Played("film", "1", "north", 3, -1, 5)], {}, [], "north", range(4))


def past(units: int, days: int = DAYS, plays: float = 50.0, share: float = 0.5) -> Tally:
    """Steady plays of units of 1,000 bytes, of each of which `share` is served; the first of the days is number 100."""
    counts = np.full((units, days), plays)
    return Tally(counts, counts * 1_000 * share, 100)


def test_bytes_are_what_a_play_usually_is_served() -> None:
    offers = [Offer("old", 1_000, 0), Offer("new", 10_000, 100 + DAYS, prior_plays=30)]
    known = past(2)
    known.plays[1], known.bytes[1] = 0, 0
    found = expect(offers, known)
    assert found["old"].bytes == pytest.approx(50 * 500, rel=0.02)
    assert found["new"].plays == 30
    assert found["new"].bytes == pytest.approx(30 * 5_000)


def test_a_premiere_is_waited_for_from_its_lead_to_its_first_day() -> None:
    first = 100 + DAYS
    pinned = []
    for days in range(DAYS - LEAD_DAYS - 1, DAYS + 2):
        known = past(2, days)
        known.plays[0, DAYS:] = 50
        found = expect([Offer("premiere", 1_000, first, 80, premiere=True), Offer("old", 1_000, 0)], known)["premiere"]
        pinned.append(found.pinned)
        if days <= DAYS:
            assert found.plays == (80 if found.pinned else 0)
    assert pinned == [False, *[True] * (LEAD_DAYS + 1), False]


def test_what_begins_tomorrow_night_counts_as_far_as_it_is_played_before_the_next_fills() -> None:
    offers = [Offer("soon", 1_000, 100 + DAYS + 1, 80), Offer("later", 1_000, 100 + DAYS + 2, 80), Offer("old", 1_000, 0)]
    known = past(3)
    known.plays[:2] = 0
    found = expect(offers, known, early_share=0.25)
    assert (found["soon"].plays, found["later"]) == (20, Expected(0, 0))


@pytest.mark.parametrize("prior", [-1.0, math.nan, math.inf])
def test_a_declared_expectation_that_is_no_number_is_refused(prior: float) -> None:
    with pytest.raises(ValueError, match=r"film: .* plays are expected of it"):
        expect([Offer("film", 1_000, 0, prior)], past(1))


def test_rows_and_offers_belong_together() -> None:
    with pytest.raises(ValueError, match="1 offers, and plays of 2 units"):
        expect([Offer("film", 1_000, 0)], past(2))
