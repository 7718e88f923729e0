"""How much of each title will be played tomorrow: from the plays of past days, and from declared expectations for what is new.

A unit is what is placed as one: a title, or an interactive title with all its branches. Days are numbers of local days of one region.

A unit's level is a Gamma distribution of plays a day that forgets: each day its evidence is discounted (power discounting; M. West, J.
Harrison, Bayesian Forecasting and Dynamic Models, 2nd ed., §10.8). Models that forget at different speeds, grow, shrink or follow the
launch curve that earlier releases showed run side by side, and each unit weighs them by how well they foretold its past days (dynamic model
averaging; A. E. Raftery, M. Kárný, P. Ettler, Technometrics 52, 2010). The rhythm of the week is the region's, times the unit's own as far
as its plays show one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

PRIOR_CV = 0.75
"""Declared expectations are off by this share (coefficient of variation): they weigh as much as 1 / PRIOR_CV² plays."""

UNKNOWN_SHAPE = 0.2
"""Plays that the average of all units weighs where nothing was declared: next to nothing."""

LEAD_DAYS = 2
"""Premieres are placed so many days before their first one: two windows, so that a fill that fails can be planned again."""

WEEK_PLAYS = 25.0
"""Plays on a weekday at which a unit's own rhythm weighs as much as its region's: rhythms differ by some 20 %, and 1 / 0.2² = 25."""

BYTES_PLAYS = 10.0
"""Plays at which a unit's own bytes per play weigh as much as what is usual."""

FORGET = 0.9
"""What a day later is left of the evidence for a model."""

LAUNCH_DAYS = 14
"""Ages that have a point of their own on the launch curve; older units follow none."""


class Model(NamedTuple):
    """How a level moves from one day to the next: evidence halves in `half_life_days`, the level grows by `growth`, or along the launch
    curve.
    """

    half_life_days: float
    growth: float = 1.0
    launch: bool = False


MODELS = (
    Model(0.5),
    Model(2),
    Model(7),
    Model(28),
    Model(3, growth=0.85),
    Model(3, growth=1.12),
    Model(7, launch=True),
    Model(2, launch=True),
)


@dataclass(frozen=True)
class Played:
    """Plays of a title version that were started on a local day in a region, and the bytes served for them."""

    cid: str
    version: str
    region: str
    day: int
    plays: int
    bytes: int


@dataclass(frozen=True)
class Offer:
    """A unit in the catalogue of one region. `prior_plays` is the declared expectation for its first day; None: there is none."""

    unit: str
    bytes: int
    from_day: int
    prior_plays: float | None = None
    premiere: bool = False


@dataclass(frozen=True)
class Expected:
    """What is expected of a unit in a region tomorrow. `pinned`: to be there whatever it is worth, as its first viewers are being waited
    for.
    """

    plays: float
    bytes: float
    pinned: bool = False


@dataclass(frozen=True)
class Tally:
    """Plays and bytes by unit and day, (units, days), the oldest of consecutive days first."""

    plays: Floats
    bytes: Floats
    first_day: int


def tally(rows: Iterable[Played], unit_of: Mapping[tuple[str, str], str], units: Sequence[str], region: str, days: range) -> Tally:
    """The rows of one region by unit and day. `unit_of` tells the unit of a (cid, version); two versions of one unit share its history.

    Every play of an interactive title starts at its root, so a unit has as many plays as the most played of its titles, and the bytes of
    all. Raises ValueError for a negative count.
    """
    index = {unit: at for at, unit in enumerate(units)}
    of_cid: dict[tuple[int, str, int], int] = {}
    served = np.zeros((len(units), len(days)))
    for row in rows:
        if row.plays < 0 or row.bytes < 0:
            raise ValueError(
                f"{row.cid} {row.version} in {row.region} on day {row.day}: {row.plays} plays, {row.bytes} bytes; none can be negative"
            )
        at = index.get(unit_of.get((row.cid, row.version), ""))
        if at is None or row.region != region or row.day not in days:
            continue
        day = row.day - days.start
        served[at, day] += row.bytes
        of_cid[at, row.cid, day] = of_cid.get((at, row.cid, day), 0) + row.plays
    plays = np.zeros_like(served)
    for (at, _, day), count in of_cid.items():
        plays[at, day] = max(plays[at, day], count)
    return Tally(plays, served, days.start)


def expect(offers: Sequence[Offer], past: Tally, early_share: float = 0.1) -> dict[str, Expected]:
    """What is expected of each unit on the day after the last of `past`; row n of `past` is that of `offers[n]`.

    What may be played only from the day after that one counts with `early_share`, the share of a day's plays before that day's fills are
    done. Raises ValueError where there are not as many rows as offers, or a declared expectation is no number from 0 on.
    """
    if len(offers) != len(past.plays):
        raise ValueError(f"{len(offers)} offers, and plays of {len(past.plays)} units: give a row to each")
    for offer in offers:
        if offer.prior_plays is not None and not 0 <= offer.prior_plays < math.inf:
            raise ValueError(f"{offer.unit}: {offer.prior_plays} plays are expected of it; give a number from 0 on, or None")
    days = past.first_day + np.arange(past.plays.shape[1])
    tomorrow = past.first_day + past.plays.shape[1]
    first = np.array([offer.from_day for offer in offers], np.int64)
    prior = np.array([np.nan if offer.prior_plays is None else offer.prior_plays for offer in offers], np.float64)
    plays = forecast(past.plays, first[:, None] <= days, days % 7, tomorrow % 7, prior)
    per_play = _bytes_per_play(past, np.array([offer.bytes for offer in offers], np.float64))
    found = {}
    for at, offer in enumerate(offers):
        pinned = offer.premiere and tomorrow <= offer.from_day <= tomorrow + LEAD_DAYS
        share = 1.0 if pinned or offer.from_day <= tomorrow else early_share if offer.from_day == tomorrow + 1 else 0.0
        found[offer.unit] = Expected(float(share * plays[at]), float(share * plays[at] * per_play[at]), pinned)
    return found


def forecast(plays: Floats, offered: Bools, weekdays: NDArray[np.int64], tomorrow: int, prior_plays: Floats) -> Floats:
    """Plays that each unit of a region will have tomorrow, (units,).

    `plays` and `offered` are (units, days), the oldest day first; days on which a unit was not offered say nothing about it. `weekdays` are
    (days,) and, as `tomorrow`, from 0 to 6. `prior_plays` are (units,), of the first day, NaN where nothing is declared: then a unit that
    never was offered is not expected to be played.
    """
    total = plays.sum(axis=0)
    seen = offered & (total > 0)  # a day without a single play was not a day, but an outage
    if not seen.any():
        return np.nan_to_num(prior_plays)
    mean = total[total > 0].mean()
    of_weekday = _of_weekday(total, weekdays)
    exposure = np.broadcast_to(total / mean, plays.shape)
    usual = mean / seen.sum(axis=0).max()
    start = np.where(np.isnan(prior_plays), usual, np.maximum(prior_plays, 1e-3))
    shape = np.where(np.isnan(prior_plays), UNKNOWN_SHAPE, PRIOR_CV**-2)
    curve = launch_curve(plays / np.maximum(exposure, 1e-9), seen)
    own = _own_rhythm(plays, exposure, seen, weekdays)
    level = _level(plays, seen, exposure * own[:, weekdays], start, shape, curve)
    never = ~seen.any(axis=1)
    return np.where(never, np.nan_to_num(prior_plays), level * own[:, tomorrow] * of_weekday[tomorrow] / mean)


def launch_curve(plays: Floats, seen: Bools) -> Floats:
    """How plays go on from each age in days to the next, (LAUNCH_DAYS,): a ratio over all units whose first day is among those seen.

    `plays` are (units, days), freed of the week's rhythm.
    """
    first = _first_day(seen)
    ages = np.arange(plays.shape[1] - 1) - first[:, None]
    counts = seen[:, :-1] & seen[:, 1:] & (first > 0)[:, None] & (ages >= 0) & (ages < LAUNCH_DAYS)
    at = np.where(counts, ages, 0)
    before = np.bincount(at.ravel(), np.where(counts, plays[:, :-1], 0.0).ravel(), minlength=LAUNCH_DAYS)
    after = np.bincount(at.ravel(), np.where(counts, plays[:, 1:], 0.0).ravel(), minlength=LAUNCH_DAYS)
    return (after + 100.0) / (before + 100.0)  # a hundred plays that know of no curve


def _first_day(seen: Bools) -> NDArray[np.int64]:
    """The column of each unit's first day; 0 also where it has none."""
    return np.asarray(seen.argmax(axis=1))


def _of_weekday(total: Floats, weekdays: NDArray[np.int64]) -> Floats:
    """All plays of a day by weekday, (7,): recent weeks weigh more, and half a day of the mean keeps what was seldom seen near it."""
    weight = np.where(total > 0, 0.97 ** np.arange(len(total))[::-1], 0.0)
    mean = (weight * total).sum() / weight.sum()
    plays = np.bincount(weekdays, weight * total, minlength=7)
    return np.asarray((plays + 0.5 * mean) / (np.bincount(weekdays, weight, minlength=7) + 0.5))


def _own_rhythm(plays: Floats, exposure: Floats, seen: Bools, weekdays: NDArray[np.int64]) -> Floats:
    """The unit's own factor for each weekday, (units, 7), shrunk to 1: days against the week around them, which has every weekday once.

    What is beyond thrice that, either way, was an event and no rhythm.
    """
    factors = np.ones((len(plays), 7))
    if plays.shape[1] < 7:
        return factors
    week, usual = (sliding_window_view(one, 7, axis=1).sum(axis=2) for one in (plays, exposure))
    expected = week / np.maximum(usual, 1e-9) * exposure[:, 3:-3]
    played = np.clip(plays[:, 3:-3], expected / 3, 3 * expected)
    whole = sliding_window_view(seen, 7, axis=1).all(axis=2)
    for weekday in range(7):
        counts = whole & (weekdays[3:-3] == weekday)
        factors[:, weekday] = (np.where(counts, played, 0).sum(axis=1) + WEEK_PLAYS) / (
            np.where(counts, expected, 0).sum(axis=1) + WEEK_PLAYS
        )
    return factors


def _level(plays: Floats, seen: Bools, exposure: Floats, start: Floats, shape: Floats, curve: Floats) -> Floats:
    """The level of tomorrow, (units,), of Gamma distributions that begin with `shape` at `start`."""
    units, days = plays.shape
    discount = np.array([[0.5 ** (1 / model.half_life_days)] for model in MODELS])
    growth = np.array([[model.growth] for model in MODELS])
    launch = np.array([[model.launch] for model in MODELS])
    first = _first_day(seen)
    known = (first > 0) & seen.any(axis=1)
    a, b = np.tile(shape, (len(MODELS), 1)), np.tile(shape / start, (len(MODELS), 1))
    evidence = np.zeros((len(MODELS), units))
    for day in range(days):
        played, times, there = plays[:, day], exposure[:, day], seen[:, day]
        foretold = a / b * times
        variance = 1 + foretold / a  # of twice the root of a negative binomial count (F. J. Anscombe, Biometrika 35, 1948)
        off = 2 * (np.sqrt(played + 0.375) - np.sqrt(foretold + 0.375))
        evidence = np.where(there, FORGET * evidence - 0.5 * (off**2 / variance + np.log(variance)), evidence)
        age = np.clip(day - first, 0, LAUNCH_DAYS - 1)
        step = np.where(launch, np.where(known & (day - first < LAUNCH_DAYS), curve[age], 1.0), growth)
        a, b = np.where(there, discount * (a + played), a), np.where(there, discount * (b + times) / step, b)
    weight = np.exp(evidence - evidence.max(axis=0))
    return np.asarray((weight * a / b).sum(axis=0) / weight.sum(axis=0))


def _bytes_per_play(past: Tally, unit_bytes: Floats) -> Floats:
    """Bytes that a play is served, (units,): the unit's own mean, shrunk to the share of a unit that a play usually is."""
    plays, served = past.plays.sum(axis=1), past.bytes.sum(axis=1)
    whole = (plays * unit_bytes).sum()
    usual = served.sum() / whole if whole else 1.0
    return np.asarray((served + BYTES_PLAYS * usual * unit_bytes) / (plays + BYTES_PLAYS))
