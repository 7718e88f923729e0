"""What each cache server holds tomorrow: a fill plan, from expected demand, under the limits of disks, fill rates and windows.

A unit (a title, or an interactive title with all its branches) is worth the bytes that are expected to be served of it for each byte
stored, as Open Connect ranks. Each site is filled greedily by that value. Where it is held it is worth `margin` more, because moving bytes
costs: a unit is replaced only by one that is worth more by that. The cache servers of a site share its units by consistent hashing with
bounded loads (V. Mirrokni, M. Thorup, M. Zadimoghaddam, SODA 2018), bounded by disk, by fill window and by demand; units that are too hot
for one server have copies on several. A unit stays where it is held, since its place in the ring is worth less than a fill.

A region gets each byte from the origin once. Storage servers come first, and everybody else fills from a server that keeps the unit, or
from one that is about to have it, then.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from hashlib import blake2b
from itertools import groupby, islice

import numpy as np
from numpy.typing import NDArray

from streams.delivery.demand import Expected

AssetKey = tuple[str, str]
"""(cid, version)."""

MARGIN = 0.2
"""A newcomer must be worth so much more than what it replaces: a forecast of fifty plays a day is off by as much, and a fill costs."""

LOAD_SLACK = 0.25
"""A server may be expected to serve so much more than its share of its site before newcomers go to the next one (ε of the paper)."""

HOT_SHARE = 0.25
"""A unit has as many copies as it takes that none is expected to serve more than this part of a server's share."""

RING_POINTS = 64
"""Points of a server on its site's ring."""

ORIGIN = "origin"
"""What a fill's source is called where no server of tier ORIGIN is given."""


class Tier(StrEnum):
    """What kind of cache server it is."""

    EMBEDDED_FLASH = "EMBEDDED_FLASH"
    IX_STORAGE = "IX_STORAGE"
    ORIGIN = "ORIGIN"


class Why(StrEnum):
    """Why a unit is on a server, goes from it, or is not on it."""

    WORTH = "is worth more than what is left out"
    PREMIERE = "is a premiere, and waited for"
    KEPT = "was there, and is worth more than what is left out"
    ROOM = "is not worth its place, but nobody needs that yet"
    REPLACED = "is worth less than what takes its place"
    GONE = "is no longer offered here"
    DAMAGED = "is there with another size than the catalogue says"
    INCOMPLETE = "is there in part only, and not worth the rest"
    SURPLUS = "is on as many other servers of the site as it needs"
    ELSEWHERE = "is on another server of the site"
    CUT = "is worth less than what is held"
    WINDOW = "does not fit into the fill window behind what is worth more"
    LATE = "could be had from a neighbour only after the fill window"
    LARGE = "is larger than the disk"
    UNPLAYED = "is not expected to be played"
    REGION = "is not offered in this region"


class BadPlan(ValueError):
    """Input that no plan can be made of, or a plan that must not be carried out; the message says what is wrong, and where."""


@dataclass(frozen=True)
class Asset:
    """A title version, the regions it is offered in, and the unit it is placed with."""

    cid: str
    version: str
    regions: frozenset[str]
    bytes: int
    unit: str

    @property
    def key(self) -> AssetKey:
        """What names it."""
        return self.cid, self.version


@dataclass(frozen=True)
class Oca:
    """A cache server. It is filled at `fill_bps` at most, and only from `window_start_ms` to `window_end_ms`, ms since 1970."""

    oca_id: str
    site_id: str
    region: str
    tier: Tier
    disk_bytes: int
    fill_bps: int
    window_start_ms: int
    window_end_ms: int

    def fill_ms(self, size_bytes: int) -> int:
        """How long it takes to fetch so many bytes; longer than any window where nothing may be fetched."""
        return -(-8_000 * size_bytes // self.fill_bps) if self.fill_bps else 1 << 62


@dataclass(frozen=True)
class Fill:
    """The assets of a unit that a server lacks, to be fetched from `source`, a server of its region or the origin, between two times."""

    oca_id: str
    unit: str
    assets: tuple[AssetKey, ...]
    bytes: int
    source: str
    start_ms: int
    end_ms: int
    rank: int


@dataclass(frozen=True)
class Eviction:
    """Assets that a server lets go at a time."""

    oca_id: str
    unit: str
    assets: tuple[AssetKey, ...]
    at_ms: int
    why: Why


@dataclass(frozen=True)
class Explanation:
    """Why a unit is, or is not, on a server. `value` is `expected_bytes` a byte stored; `rank` counts from 1 in the order in which the
    site's units were considered, None where it was not; `cut` is the value of the best unit that the site has no place for, 0 where it has
    a place for all. `ocas` are the servers of the site that the plan gives the unit to.
    """

    oca_id: str
    unit: str
    why: Why
    here: bool
    rank: int | None
    of: int
    value: float
    expected_plays: float
    expected_bytes: float
    bytes: int
    cut: float
    source: str | None
    ocas: tuple[str, ...]


@dataclass(frozen=True)
class Region:
    """What a region's sites decide upon, by unit: (units,) each, in the order of `names`."""

    names: tuple[str, ...]
    bytes: NDArray[np.int64]
    offered: NDArray[np.bool_]
    plays: NDArray[np.float64]
    expected_bytes: NDArray[np.float64]
    value: NDArray[np.float64]
    pinned: NDArray[np.bool_]

    @cached_property
    def number(self) -> Mapping[str, int]:
        """Units by name."""
        return {name: at for at, name in enumerate(self.names)}

    @cached_property
    def by_value(self) -> Sequence[int]:
        """Units, the most valuable first."""
        return [int(at) for at in np.argsort(-self.value, kind="stable")]


@dataclass(frozen=True)
class Site:
    """How a site decided: `rank` of each unit from 0, -1 where it was not considered; servers by unit that has a place; reasons of the
    others; and what stays on each server although it has no place, because nobody needs the room yet.
    """

    region: Region
    rank: NDArray[np.int32]
    placed: Mapping[int, tuple[str, ...]]
    left_out: Mapping[int, Why]
    idle: Mapping[str, frozenset[int]]
    cut: float

    @cached_property
    def considered(self) -> int:
        """How many units could have been held."""
        return int((self.rank >= 0).sum())


@dataclass(frozen=True)
class Plan:
    """Fills and evictions, by server and time, and what each site thought."""

    fills: tuple[Fill, ...]
    evictions: tuple[Eviction, ...]
    sites: Mapping[str, Site] = field(compare=False, repr=False)
    site_of: Mapping[str, str] = field(compare=False, repr=False)

    @cached_property
    def fills_of(self) -> Mapping[str, Sequence[Fill]]:
        """Fills by server."""
        found: dict[str, list[Fill]] = defaultdict(list)
        for fill in self.fills:
            found[fill.oca_id].append(fill)
        return found

    @cached_property
    def evictions_of(self) -> Mapping[str, Sequence[Eviction]]:
        """Evictions by server."""
        found: dict[str, list[Eviction]] = defaultdict(list)
        for gone in self.evictions:
            found[gone.oca_id].append(gone)
        return found

    @cached_property
    def fill_of(self) -> Mapping[tuple[str, str], Fill]:
        """Fills by server and unit."""
        return {(fill.oca_id, fill.unit): fill for fill in self.fills}

    @cached_property
    def eviction_of(self) -> Mapping[tuple[str, str], Eviction]:
        """Evictions by server and unit, the first of each."""
        return {(gone.oca_id, gone.unit): gone for gone in reversed(self.evictions)}


Held = Mapping[str, Mapping[AssetKey, int]]
"""What each server holds now: bytes by asset, by oca_id."""


def plan(
    assets: Sequence[Asset],
    demand: Mapping[str, Mapping[str, Expected]],
    ocas: Sequence[Oca],
    held: Held,
    margin: float = MARGIN,
    absent: Collection[str] = (),
) -> Plan:
    """The plan for the next window of each server. `demand` is by region and unit; a unit that it lacks is not expected to be played.
    From servers that are `absent` nothing is fetched now; they keep their places, and are planned for.

    The same input gives the same plan, in whatever order it comes. Raises BadPlan.
    """
    catalogue = _Catalogue(assets)
    _refuse(demand, ocas, held)
    origin = min((oca.oca_id for oca in ocas if oca.tier is Tier.ORIGIN), default=ORIGIN)
    caches = sorted((oca for oca in ocas if oca.tier is not Tier.ORIGIN), key=_storage_first)
    fills: list[Fill] = []
    evictions: list[Eviction] = []
    told: dict[str, Site] = {}
    for name, of_region in groupby(caches, key=lambda oca: oca.region):
        region = catalogue.region(name, demand.get(name, {}))
        sites = [
            _Site(region, [_Place(oca, catalogue, region, held.get(oca.oca_id, {})) for oca in of_site])
            for _, of_site in groupby(of_region, key=lambda oca: oca.site_id)
        ]
        for site in sites:
            site.place(catalogue, margin)
        sent = _schedule(sites, catalogue, origin, absent)
        for site in sites:
            for place in site.places:
                evictions += place.evictions(catalogue, region, site.placed, sent)
                fills += place.fills
            told[site.places[0].oca.site_id] = site.told()
    return Plan(tuple(fills), tuple(evictions), told, {oca.oca_id: oca.site_id for oca in caches})


def explain(made: Plan, oca_id: str, unit: str) -> Explanation:
    """Why a unit is, or is not, on a server when the plan is carried out. Raises BadPlan for a server or a unit that the plan does not
    know.
    """
    if oca_id not in made.site_of:
        raise BadPlan(f"the plan has no cache server {oca_id}; it has {', '.join(sorted(made.site_of)[:5])} …")
    site = made.sites[made.site_of[oca_id]]
    region = site.region
    if unit not in region.number:
        raise BadPlan(f"the plan has no unit {unit}: it is not in the catalogue it was made for")
    at = region.number[unit]
    fill, eviction = made.fill_of.get((oca_id, unit)), made.eviction_of.get((oca_id, unit))
    ocas = site.placed.get(at, ())
    here = oca_id in ocas or at in site.idle[oca_id]
    if oca_id in ocas:
        why = Why.PREMIERE if region.pinned[at] else Why.WORTH if fill else Why.KEPT
    elif here:
        why = Why.ROOM
    elif eviction:
        why = eviction.why
    elif not region.offered[at]:
        why = Why.REGION
    else:
        why = Why.ELSEWHERE if ocas else site.left_out.get(at, Why.CUT if site.rank[at] >= 0 else Why.UNPLAYED)
    rank = int(site.rank[at])
    return Explanation(
        oca_id=oca_id,
        unit=unit,
        why=why,
        here=here,
        rank=rank + 1 if rank >= 0 else None,
        of=site.considered,
        value=float(region.value[at]),
        expected_plays=float(region.plays[at]),
        expected_bytes=float(region.expected_bytes[at]),
        bytes=int(region.bytes[at]),
        cut=site.cut,
        source=fill.source if fill else None,
        ocas=ocas,
    )


def explanations(made: Plan, oca_id: str, beyond: int) -> Iterator[Explanation]:
    """`explain` for every unit that the plan moves, keeps or lets go on a server or its site, and for the `beyond` best of the others."""
    site = made.sites[made.site_of[oca_id]]
    moved = {change.unit for changes in (made.fills_of, made.evictions_of) for change in changes.get(oca_id, ())}
    numbers = {*site.placed, *site.idle[oca_id], *(site.region.number[unit] for unit in moved if unit in site.region.number)}
    others = (at for at in site.region.by_value if at not in numbers)
    for at in (*sorted(numbers), *islice(others, beyond)):
        yield explain(made, oca_id, site.region.names[at])


class _Catalogue:
    """Units by number, in the order of their names. Raises BadPlan for an asset that is there twice or has no bytes."""

    def __init__(self, assets: Sequence[Asset]) -> None:
        of_unit: dict[str, list[Asset]] = defaultdict(list)
        self.asset_of: dict[AssetKey, tuple[str, int]] = {}
        for asset in sorted(assets, key=lambda asset: asset.key):
            if asset.bytes <= 0:
                raise BadPlan(f"{asset.cid} {asset.version} has {asset.bytes} bytes: an asset has some")
            if asset.key in self.asset_of:
                raise BadPlan(f"{asset.cid} {asset.version} is in the catalogue twice: give each version once")
            self.asset_of[asset.key] = asset.unit, asset.bytes
            of_unit[asset.unit].append(asset)
        self.names = tuple(sorted(of_unit))
        self.number = {name: unit for unit, name in enumerate(self.names)}
        self.assets = [of_unit[name] for name in self.names]
        self.bytes = np.array([sum(asset.bytes for asset in group) for group in self.assets], np.int64)
        self.points = np.array([_point(name) for name in self.names], np.uint64)

    def region(self, name: str, demand: Mapping[str, Expected]) -> Region:
        """The units as a region sees them; one is offered where all its assets are."""
        nothing = Expected(0.0, 0.0)
        expected = [demand.get(unit, nothing) for unit in self.names]
        of_region = np.array([one.bytes for one in expected], np.float64)
        return Region(
            self.names,
            self.bytes,
            np.array([all(name in asset.regions for asset in group) for group in self.assets], np.bool_),
            np.array([one.plays for one in expected], np.float64),
            of_region,
            of_region / np.maximum(self.bytes, 1),
            np.array([one.pinned for one in expected], np.bool_),
        )


class _Place:
    """A server while its plan is made: what it holds of each unit, and what it has been given so far. `room_bytes` is what those leave that
    were given a place, `spare_bytes` what is left beside everything that is there.
    """

    def __init__(self, oca: Oca, catalogue: _Catalogue, region: Region, held: Mapping[AssetKey, int]) -> None:
        self.oca = oca
        self.held_bytes = sum(held.values())
        self.strays: list[tuple[str, AssetKey, int, Why]] = []
        there: dict[int, list[AssetKey]] = defaultdict(list)
        for key, size in held.items():
            name, right = catalogue.asset_of.get(key, (key[0], 0))
            unit = catalogue.number[name] if right else -1
            if unit < 0 or not region.offered[unit]:
                self.strays.append((name, key, size, Why.GONE))
            elif size != right:
                self.strays.append((name, key, size, Why.DAMAGED))
            else:
                there[unit].append(key)
        self.whole = {unit for unit, keys in there.items() if len(keys) == len(catalogue.assets[unit])}
        self.part = {unit: keys for unit, keys in there.items() if unit not in self.whole}
        self.new: set[int] = set()
        self.kept: set[int] = set()
        self.fills: list[Fill] = []
        self.idle: frozenset[int] = frozenset()
        self.room_bytes = oca.disk_bytes
        self.spare_bytes = oca.disk_bytes - self.held_bytes + sum(size for _, _, size, _ in self.strays)
        self.load = 0.0
        self.closed = False
        self.left_ms = oca.window_end_ms - oca.window_start_ms
        self.free_at_ms = oca.window_start_ms

    def missing(self, unit: int, catalogue: _Catalogue) -> list[Asset]:
        """The assets of a unit that are not there."""
        return [asset for asset in catalogue.assets[unit] if asset.key not in self.part.get(unit, ())]

    def lacking_bytes(self, unit: int, size: int, catalogue: _Catalogue) -> int:
        """The bytes of the assets of a unit, of `size` in all, that are not there."""
        return size - sum(catalogue.asset_of[key][1] for key in self.part.get(unit, ()))

    def evictions(self, catalogue: _Catalogue, region: Region, placed: Mapping[int, Sequence[str]], sent: frozenset[int]) -> list[Eviction]:
        """What goes: at once what serves nobody; of what has no place the least worth first, when its room is needed."""
        first_ms, name = self.oca.window_start_ms, self.oca.oca_id
        unfinished = [(unit, key) for unit, keys in self.part.items() if unit not in self.new for key in keys]
        parts = [(catalogue.names[unit], key, catalogue.asset_of[key][1], Why.INCOMPLETE) for unit, key in unfinished]
        gone = sorted([*self.strays, *parts])
        found = [Eviction(name, unit, (key,), first_ms, why) for unit, key, _, why in gone]
        used = self.held_bytes - sum(size for _, _, size, _ in gone)
        surplus = {unit for unit in self.whole if unit in placed}
        leaving = self.leaving(region, placed)
        for at_ms, size in [(first_ms, 0), *((fill.start_ms, fill.bytes) for fill in self.fills)]:
            used += size
            while used > self.oca.disk_bytes:
                unit = leaving.pop()
                used -= int(catalogue.bytes[unit])
                keys = tuple(asset.key for asset in catalogue.assets[unit])
                found.append(Eviction(name, catalogue.names[unit], keys, at_ms, Why.SURPLUS if unit in surplus else Why.REPLACED))
        for unit in leaving:
            if unit in sent:  # the origin has sent it to a neighbour, because it was to go from here
                keys = tuple(asset.key for asset in catalogue.assets[unit])
                found.append(Eviction(name, catalogue.names[unit], keys, self.oca.window_end_ms, Why.REPLACED))
        self.idle = frozenset(leaving) - sent
        return found

    def leaving(self, region: Region, placed: Mapping[int, Sequence[str]]) -> list[int]:
        """What is there and has no place; what goes first is last."""
        return sorted(self.whole - self.kept, key=lambda unit: (unit not in placed, region.value[unit], unit))[::-1]

    def surely_idle(self, catalogue: _Catalogue, region: Region, placed: Mapping[int, Sequence[str]]) -> list[int]:
        """What is there, has no place, and stays all the same, even when everything else that is planned comes."""
        leaving, room = self.leaving(region, placed), self.room_bytes
        staying = np.cumsum(catalogue.bytes[leaving]) if leaving else np.zeros(0)
        return leaving[: int(np.searchsorted(staying, room, side="right"))]


class _Site:
    """The servers of a site while its plan is made."""

    def __init__(self, region: Region, places: list[_Place]) -> None:
        self.region = region
        self.places = places
        self.storage = places[0].oca.tier is Tier.IX_STORAGE
        self.placed: dict[int, list[str]] = {}
        self.left_out: dict[int, Why] = {}
        self.new: list[tuple[int, _Place]] = []
        self.rank = np.full(len(region.names), -1, np.int32)
        self.bounds: list[float] = []

    def place(self, catalogue: _Catalogue, margin: float) -> None:
        """Give each unit its places, the most valuable first."""
        region, places = self.region, self.places
        holders: dict[int, list[int]] = defaultdict(list)
        for at, place in enumerate(places):
            for unit in place.whole:
                holders[unit].append(at)
        score = region.value.copy()
        there = np.fromiter(holders, np.int64, len(holders))
        score[there] *= 1 + margin
        candidate = region.offered & ((score > 0) | region.pinned | self.storage)  # a storage server is to hold the long tail, too
        candidate[there] = True
        order = np.lexsort((-score, ~region.pinned))
        order = order[candidate[order]]
        self.rank[order] = np.arange(len(order))
        copies = self._copies(candidate)
        self.bounds = self._bounds(order, copies)
        walks = _Ring([place.oca.oca_id for place in places]).walks(catalogue.points[order])
        sizes, loads = region.bytes[order].tolist(), (region.expected_bytes / copies)[order].tolist()
        largest = max(place.oca.disk_bytes for place in places)
        free = max(place.room_bytes for place in places)
        for unit, size, load, wanted, walk in zip(order.tolist(), sizes, loads, copies[order].tolist(), walks, strict=True):
            held_by = holders.get(unit, [])
            if not held_by and size > free:
                if size > largest:
                    self.left_out[unit] = Why.LARGE
                continue
            given = self._keep(unit, size, load, wanted, held_by if len(held_by) < 2 else [at for at in walk if at in held_by])
            if len(given) < wanted and size <= free:
                given += self._give(unit, size, load, wanted - len(given), [at for at in walk if at not in held_by], catalogue)
            if given:
                self.placed[unit] = [places[at].oca.oca_id for at in given]
            free = max(0 if place.closed else place.room_bytes for place in places)

    def _keep(self, unit: int, size: int, load: float, wanted: int, held_by: list[int]) -> list[int]:
        """Which of the servers that hold a unit keep their place for it."""
        given: list[int] = []
        for at in held_by:
            place = self.places[at]
            if len(given) == wanted:
                break
            if size <= place.room_bytes:
                place.kept.add(unit)
                place.room_bytes -= size
                place.load += load
                given.append(at)
            else:
                place.closed = True  # what is worth less must not take the room that this one nearly had
        return given

    def _give(self, unit: int, size: int, load: float, lacking: int, walk: list[int], catalogue: _Catalogue) -> list[int]:
        """Which of the servers that do not hold a unit are to fetch it: in the ring's order, those first that have a part of it, then those
        with less demand than their bound, then those where nothing must go for it.
        """
        places = self.places
        able = [at for at in walk if size <= places[at].room_bytes and not places[at].closed]
        needs_ms = {at: places[at].oca.fill_ms(places[at].lacking_bytes(unit, size, catalogue)) for at in able}
        given = [at for at in able if needs_ms[at] <= places[at].left_ms]
        if able and not given:
            self.left_out[unit] = Why.WINDOW
        given.sort(key=lambda at: (unit not in places[at].part, places[at].load + load > self.bounds[at], places[at].spare_bytes < size))
        del given[lacking:]
        for at in given:
            place = places[at]
            place.new.add(unit)
            place.room_bytes -= size
            place.spare_bytes -= size
            place.load += load
            place.left_ms -= needs_ms[at]
            self.new.append((unit, place))
        return given

    def _copies(self, candidate: NDArray[np.bool_]) -> NDArray[np.int64]:
        """On how many servers each unit is to be."""
        demand = np.where(candidate, self.region.expected_bytes, 0.0)
        share = demand / max(demand.sum(), 1e-9)
        return np.asarray(np.clip(np.ceil(share * len(self.places) / HOT_SHARE), 1, len(self.places)).astype(np.int64))

    def _bounds(self, order: NDArray[np.int64], copies: NDArray[np.int64]) -> list[float]:
        """What each server may be expected to serve: of what the site can hold, its share by disk, and the slack."""
        disks = np.array([place.oca.disk_bytes for place in self.places], np.float64)
        holds = np.cumsum(self.region.bytes[order] * copies[order]) <= disks.sum()
        total = self.region.expected_bytes[order][holds].sum()
        return [float(bound) for bound in (1 + LOAD_SLACK) * total * disks / max(disks.sum(), 1.0)]

    def told(self) -> Site:
        """How it decided."""
        placed = {unit: tuple(ocas) for unit, ocas in self.placed.items()}
        cut_off = self.rank >= 0
        cut_off[[*placed, *self.left_out]] = False
        cut = float(self.region.value[cut_off].max(initial=0.0))
        return Site(self.region, self.rank, placed, self.left_out, {place.oca.oca_id: place.idle for place in self.places}, cut)


class _Ring:
    """Consistent hashing: servers have points on a ring, and a unit goes to the first server from its own point on."""

    def __init__(self, oca_ids: Sequence[str]) -> None:
        points = sorted((_point(f"{oca_id} {number}"), at) for at, oca_id in enumerate(oca_ids) for number in range(RING_POINTS))
        self.points = np.array([point for point, _ in points], np.uint64)
        self.walk: list[tuple[int, ...]] = []
        walk: tuple[int, ...] = tuple(dict.fromkeys(at for _, at in points))
        for _, at in reversed(points):
            walk = (at, *(other for other in walk if other != at))
            self.walk.append(walk)
        self.walk.reverse()

    def walks(self, points: NDArray[np.uint64]) -> list[tuple[int, ...]]:
        """All servers, in the order in which a unit at each point would take them."""
        return [self.walk[at] for at in (np.searchsorted(self.points, points) % len(self.points)).tolist()]


def _schedule(sites: Sequence[_Site], catalogue: _Catalogue, origin: str, absent: Collection[str]) -> frozenset[int]:
    """Give the fills of a region's sites, storage servers first, their sources and times; what cannot be had in time loses its place.

    Returns what the origin sends.
    """
    keepers: dict[int, list[tuple[bool, _Site, _Place]]] = defaultdict(list)
    wanted = {unit for site in sites for unit, _ in site.new}
    for site in sites:
        for place in site.places:
            if place.oca.oca_id in absent:
                continue
            idle = place.surely_idle(catalogue, site.region, site.placed)
            for unit in wanted & place.kept.union(idle):
                keepers[unit].append((site.storage, site, place))
    coming: dict[int, list[tuple[int, str, bool, _Site]]] = defaultdict(list)
    sent: dict[str, int] = defaultdict(int)
    by_origin: set[int] = set()

    def source(unit: int, site: _Site) -> tuple[str, int]:
        """Whom to fetch it from, and from when: who keeps it (here, on storage, elsewhere), who is about to, the origin."""
        if kept := keepers.get(unit):
            near = [place for _, other, place in kept if other is site] or [place for storage, _, place in kept if storage]
            idlest = min(near or [place for _, _, place in kept], key=lambda place: (sent[place.oca.oca_id], place.oca.oca_id))
            return idlest.oca.oca_id, 0
        if soon := coming.get(unit):
            at_ms, oca_id, _, _ = min(soon, key=lambda one: (one[3] is not site, not one[2], one[0], one[1]))
            return oca_id, at_ms
        return origin, 0

    for site in sites:
        first: set[int] = set()
        later: list[tuple[int, _Place]] = []
        now: list[tuple[int, _Place]] = []
        for unit, place in site.new:
            (later if unit in first else now).append((unit, place))
            first.add(unit)
        for jobs in (now, later):
            waiting = [(*source(unit, site), unit, place) for unit, place in jobs]
            waiting.sort(key=lambda job: max(job[1], job[3].oca.window_start_ms))  # stable: by value among those that wait for nobody
            for sender, at_ms, unit, place in waiting:
                lacking = place.missing(unit, catalogue)
                size = place.lacking_bytes(unit, int(catalogue.bytes[unit]), catalogue)
                start_ms = max(place.free_at_ms, at_ms)
                end_ms = start_ms + place.oca.fill_ms(size)
                if end_ms > place.oca.window_end_ms:
                    place.new.discard(unit)
                    site.placed[unit].remove(place.oca.oca_id)
                    if not site.placed[unit]:
                        site.left_out[unit] = Why.LATE
                        del site.placed[unit]
                    continue
                keys = tuple(asset.key for asset in lacking)
                rank = int(site.rank[unit]) + 1
                place.fills.append(Fill(place.oca.oca_id, catalogue.names[unit], keys, size, sender, start_ms, end_ms, rank))
                place.free_at_ms = end_ms
                sent[sender] += size
                if sender == origin:
                    by_origin.add(unit)
                if place.oca.oca_id not in absent:
                    coming[unit].append((end_ms, place.oca.oca_id, site.storage, site))
    return frozenset(by_origin)


def _storage_first(oca: Oca) -> tuple[str, bool, str, str]:
    """The order of servers: by region, in it storage before flash, then by site."""
    return oca.region, oca.tier is not Tier.IX_STORAGE, oca.site_id, oca.oca_id


def _refuse(demand: Mapping[str, Mapping[str, Expected]], ocas: Sequence[Oca], held: Held) -> None:
    """Raises BadPlan for input that contradicts itself."""
    known: dict[str, Oca] = {}
    sites: dict[str, Oca] = {}
    for oca in ocas:
        if oca.oca_id in known:
            raise BadPlan(f"two cache servers are called {oca.oca_id}: give each an id of its own")
        if min(oca.disk_bytes, oca.fill_bps) < 0 or oca.window_end_ms < oca.window_start_ms:
            raise BadPlan(f"{oca.oca_id}: disk_bytes and fill_bps must not be negative, and its window must not end before it begins")
        known[oca.oca_id] = oca
        other = sites.setdefault(oca.site_id, oca)
        if (other.region, other.tier) != (oca.region, oca.tier):
            raise BadPlan(f"site {oca.site_id} has {other.oca_id} and {oca.oca_id}, of different regions or tiers: a site has one of each")
    if strange := sorted(held.keys() - known.keys()):
        raise BadPlan(f"content is known of {strange[0]}, which is no cache server: leave it out, or add the server")
    for region, of_region in demand.items():
        for unit, expected in of_region.items():
            if not (0 <= expected.plays < math.inf and 0 <= expected.bytes < math.inf):
                raise BadPlan(f"{unit} in {region}: {expected.plays} plays and {expected.bytes} bytes are expected; give numbers from 0 on")


def _point(text: str) -> int:
    """A place on a ring of 2⁶⁴."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
