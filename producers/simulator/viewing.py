"""What the members of a service watch, day by day and region by region: worlds in which cache servers are filled.

A world is data (infra/bench/worlds/fill.json is one). Each title has a score in each region; the title of the k-th highest score has a part
of the day's plays in proportion to k to the power of -exponent (Zipf), so popularity has that exponent on every day, whatever moves the
scores: drift, taste, the launch of new titles, weekends, and flash crowds that nobody announced. A score is in nats of rank: one more
divides the rank by e.

What a planner may know (the catalogue, declared expectations, the plays of past days) and what only an oracle knows are two objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from producers.simulator.world import BadWorld

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DRIFT_RETURNS_DAYS = 30.0
"""A title that drifted has come half of e back to where it was after so many days: scores do not spread without end."""


MEGABYTE = 1_000_000
"""Titles are so many whole ones large: traces of other cache simulators have room for four thousand million units a title."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Place(_Model):
    """A region: plays a day of one site in it, and how many embedded sites there are, all of the same taste."""

    plays_a_day: PositiveInt
    sites: PositiveInt = 1
    peak_h: float = Field(20.5, ge=0, lt=24)
    swing: float = Field(0.8, ge=0, lt=1)


class Fleet(_Model):
    """Cache servers of each site, what they take in, and the local hours in which they may. Storage disks are a share of the catalogue."""

    flash_servers: PositiveInt
    flash_fill_mbps: PositiveFloat
    storage_servers: PositiveInt
    storage_fill_mbps: PositiveFloat
    storage_share: PositiveFloat
    window_start_h: float = Field(ge=0, lt=24)
    window_h: float = Field(gt=0, le=24)


class Viewing(_Model):
    """A world. `prior_factor`: what is declared of new titles is too high or too low by that factor."""

    days: PositiveInt
    history_days: PositiveInt
    titles: PositiveInt
    title_bytes: PositiveInt
    title_bytes_sigma: NonNegativeFloat
    completion: float = Field(gt=0, le=1)
    interactive_share: float = Field(ge=0, le=1)
    branches: PositiveInt
    exponents: tuple[NonNegativeFloat, ...] = Field(min_length=1)
    flash_shares: tuple[PositiveFloat, ...] = Field(min_length=1)
    regions: Mapping[str, Place] = Field(min_length=1)
    fleet: Fleet
    taste: NonNegativeFloat
    drift: NonNegativeFloat
    weekday_factors: tuple[PositiveFloat, ...] = Field(min_length=7, max_length=7)
    weekend_taste: NonNegativeFloat
    new_a_day: NonNegativeFloat
    launch: NonNegativeFloat
    launch_days: PositiveFloat
    premieres_a_week: NonNegativeFloat
    premiere_rank: PositiveInt
    announced_days: PositiveInt
    prior_factor: float = Field(ge=1)
    flash_crowds_a_week: NonNegativeFloat
    flash_crowd_rank: PositiveInt
    flash_crowd_days: PositiveFloat


def load(path: Path) -> Viewing:
    """The world in a file. Raises BadWorld, OSError."""
    try:
        return Viewing.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadWorld(f"{path}: {where}: {first['msg']}" if where else f"{path}: {first['msg']}") from error


@dataclass(frozen=True)
class Catalogue:
    """What is announced. Titles are numbers; (titles,) each: bytes, assets (an interactive title has several), the first day and the day
    after the last one, whether it is a premiere. `prior_plays`, (regions, titles): declared plays of all sites on the first day, NaN for
    what was there from the beginning. `announced`: the day on which a title becomes known.
    """

    bytes: Ints
    assets: Ints
    from_day: Ints
    to_day: Ints
    announced: Ints
    premiere: NDArray[np.bool_]
    prior_plays: Floats

    def offered(self, day: int) -> NDArray[np.bool_]:
        """Which titles may be played on a day."""
        return (self.from_day <= day) & (day < self.to_day)


@dataclass(frozen=True)
class Plays:
    """What was played, as reports tell of past days: (sites, days, titles), and the site's region, by number."""

    counts: NDArray[np.int32]
    region: tuple[int, ...]


@dataclass(frozen=True)
class Truth:
    """What nobody knows: plays of a day that are expected of each site, (regions, days, titles)."""

    expected: Floats


def draw(world: Viewing, exponent: float, seed: int) -> tuple[Catalogue, Plays, Truth]:
    """History and days of a world, the same for the same arguments. Day 0 is the first day of history."""
    rng = np.random.default_rng(seed)
    days = world.history_days + world.days
    catalogue, launch = _catalogue(world, days, rng)
    expected = _expected(world, exponent, catalogue, launch, days, rng)
    scale = np.array([place.sites for place in world.regions.values()])[:, None]
    opening = expected[:, np.minimum(catalogue.from_day, days - 1), np.arange(len(catalogue.bytes))] * scale
    wrong = world.prior_factor ** rng.choice([-1.0, 1.0], len(catalogue.bytes))
    catalogue.prior_plays[:] = np.where(catalogue.from_day > 0, opening * wrong, np.nan)
    region = tuple(at for at, place in enumerate(world.regions.values()) for _ in range(place.sites))
    counts = np.stack([rng.poisson(expected[at]).astype(np.int32) for at in region])
    return catalogue, Plays(counts, region), Truth(expected)


def times_of_day(place: Place, count: int, rng: np.random.Generator) -> Floats:
    """Local hours of plays, in no order: 1 + swing · cos(2π (h − peak) / 24)."""
    hours = np.linspace(0, 24, 289)
    density = 1 + place.swing * np.cos(2 * np.pi * (hours - place.peak_h) / 24)
    share = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.asarray(np.interp(rng.random(count), share / share[-1], hours))


def _catalogue(world: Viewing, days: int, rng: np.random.Generator) -> tuple[Catalogue, Floats]:
    """Titles, and the height of each one's launch: how many nats above its place it begins."""
    old = world.titles
    new = rng.poisson(world.new_a_day, days - 1)
    premieres = np.minimum(new, rng.poisson(world.premieres_a_week / 7, days - 1))
    starts = np.repeat(np.arange(1, days), new)
    first = np.concatenate([[0], np.cumsum(new)[:-1]])
    premiere = np.zeros(old + len(starts), np.bool_)
    for begin, number in zip(first, premieres, strict=True):
        premiere[old + begin : old + begin + number] = True
    count = len(premiere)
    from_day = np.concatenate([np.zeros(old, np.int64), starts])
    to_day = np.full(count, days + 1, np.int64)
    for day, leaving in enumerate(new, 1):  # as many go as come
        there = np.flatnonzero((from_day < day) & (to_day > days))
        to_day[rng.choice(there, min(leaving, len(there) - 1), replace=False)] = day
    interactive = rng.random(count) < world.interactive_share
    assets = np.where(interactive, world.branches, 1)
    sizes = world.title_bytes * np.exp(rng.normal(0, world.title_bytes_sigma, count)) * np.where(interactive, 2, 1)
    launch = np.where(from_day > 0, world.launch * rng.lognormal(0, 0.3, count), 0.0)
    regions = len(world.regions)
    return (
        Catalogue(
            bytes=MEGABYTE * np.maximum(sizes / MEGABYTE, 1).astype(np.int64),
            assets=assets,
            from_day=from_day,
            to_day=to_day,
            announced=np.where(from_day > 0, from_day - world.announced_days, 0),
            premiere=premiere,
            prior_plays=np.zeros((regions, count)),
        ),
        launch,
    )


def _expected(world: Viewing, exponent: float, catalogue: Catalogue, launch: Floats, days: int, rng: np.random.Generator) -> Floats:
    """Expected plays of a site, (regions, days, titles)."""
    regions, count = len(world.regions), len(catalogue.bytes)
    quality = rng.exponential(1, count)
    quality[catalogue.premiere] = np.log(world.titles / world.premiere_rank) + rng.normal(0, 0.5, int(catalogue.premiere.sum()))
    fades_days = world.launch_days * rng.lognormal(0, 0.4, count)
    taste = rng.normal(0, world.taste, (regions, count))
    weekend = rng.normal(0, world.weekend_taste, count)
    drifted = np.zeros((regions, count))
    crowd = np.zeros((days, count))
    for day in np.flatnonzero(rng.random(days) < min(1.0, world.flash_crowds_a_week / 7)):
        title = rng.choice(np.flatnonzero(catalogue.offered(int(day))))
        height = np.log(world.titles / world.flash_crowd_rank) - quality[title]
        crowd[day:, title] += max(0.0, height) * np.exp(-np.arange(days - day) / world.flash_crowd_days)
    expected = np.zeros((regions, days, count))
    for day in range(days):
        drifted += rng.normal(0, world.drift, (regions, count)) - drifted / DRIFT_RETURNS_DAYS
        age = np.maximum(day - catalogue.from_day, 0)
        fresh = launch * np.exp(-age / fades_days)
        fallen = np.where(catalogue.premiere, quality * (1 - np.exp(-age / fades_days)) / 2, 0.0)  # a premiere becomes a title like others
        there = catalogue.offered(day)
        for at, place in enumerate(world.regions.values()):
            score = quality - fallen + fresh + taste[at] + drifted[at] + crowd[day] + weekend * (day % 7 >= 5)
            rank = np.empty(count)
            rank[np.argsort(-np.where(there, score, -np.inf), kind="stable")] = np.arange(1, count + 1)
            weight = np.where(there, rank**-exponent, 0.0)
            expected[at, day] = place.plays_a_day * world.weekday_factors[day % 7] * weight / weight.sum()
    return expected
