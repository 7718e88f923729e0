"""How near do fill plans come to plans that know the future, and to caches that fill themselves when they are asked?

Worlds of 30 days (`--world FILE`, default infra/bench/worlds/fill.json; run n has seed + n) at each exponent of popularity and each size of
a site's flash, as a share of the catalogue's bytes. Everybody has two weeks of history before that, and begins with empty flash. Hit bytes,
of the same plays:

- `ours`: `streams.delivery` plans each day from the plays of past days and from declared expectations that are wrong by the world's factor;
- `oracle`: fills knowing each title's plays until the next window, one by one, with the same total disk, rates and windows as one big
server; - `lru`, `s3fifo`, `lfu`, `wtinylfu`, `belady`: libCacheSim's, one big cache each, filled by the miss itself at any hour and any
rate.

Each of our plans must pass `streams.delivery.plan_check`, or the run fails.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.bench import cachesim
from infra.bench.harness import OUT, Figure, Options, say
from producers.simulator.viewing import MEGABYTE, Catalogue, Fleet, Plays, Viewing, draw, load, times_of_day
from streams.delivery.demand import Expected, Offer, Tally, expect
from streams.delivery.plan import ORIGIN, Asset, AssetKey, Oca, Plan, Tier, plan
from streams.delivery.plan_check import check

FIGURES = {
    "worst_of_oracle": Figure("share", 0.95, 0.90),
    "worst_of_oracle_of_rates": Figure("share"),
    "edge_share": Figure("share", 0.98, 0.98),
    "flash_share": Figure("share"),
    "premiere_first_play_hit": Figure("share", 0.99, 0.99),
    "origin_of_new_content": Figure("×", 1.05, 1.05, higher=False),
    "bytes_outside_window": Figure("bytes", 0, 0, higher=False),
    "cells_a_reactive_policy_wins": Figure("cells"),
    "plan_s": Figure("s"),
}
WORLD = Path(__file__).parent / "worlds" / "fill.json"
REACTIVE = {"lru": "LRU", "s3fifo": "S3FIFO", "lfu": "LFU", "wtinylfu": "WTinyLFU", "belady": "Belady"}
"""Names that libCacheSim has for them."""

REMEMBERED_DAYS = 28
"""How many past days a plan is made from."""

HOUR_MS = 3_600_000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """Plays of one site in their order: (plays,) each. Hours are local, within the day; `ends` has where each day ends."""

    titles: Ints
    hours: Floats
    ends: Ints

    def day(self, day: int) -> slice:
        """The plays of a day."""
        return slice(int(self.ends[day - 1]) if day else 0, int(self.ends[day]))


@dataclass
class Score:
    """What a fleet served, of the measured days; plays in bytes."""

    flash: float = 0.0
    storage: float = 0.0
    origin: float = 0.0
    first_plays: list[bool] = field(default_factory=list)
    from_origin: float = 0.0
    outside_window: int = 0


def run(options: Options) -> list[dict[str, Any]]:
    """One mapping of figures per run, and the table. Raises BadWorld, and ModuleNotFoundError where libCacheSim is not installed."""
    cachesim.installed()
    world = load(options.world or WORLD)
    return [_one(world, options.seed + number) for number in range(options.runs)]


def _one(world: Viewing, seed: int) -> dict[str, Any]:
    table = [cell for exponent in world.exponents for cell in cells(world, exponent, seed)]
    largest = max(table, key=lambda cell: (cell["flash"], cell["exponent"]))
    wins = [
        f"{name} at exponent {cell['exponent']:g}, flash {cell['flash']:.0%}: {cell[name] / cell['ours']:.4f} of ours"
        for cell in table
        for name in REACTIVE
        if cell[name] > cell["ours"]
    ]
    return {
        "worst_of_oracle": min(cell["ours"] / cell["oracle"] for cell in table),
        "worst_of_oracle_of_rates": min(cell["ours"] / cell["oracle_of_rates"] for cell in table),
        "edge_share": largest["edge"],
        "flash_share": largest["ours"],
        "premiere_first_play_hit": min(cell["premiere_first_play_hit"] for cell in table),
        "origin_of_new_content": max(cell["origin_of_new_content"] for cell in table),
        "bytes_outside_window": sum(cell["bytes_outside_window"] for cell in table),
        "cells_a_reactive_policy_wins": len({win.split(" at ")[1].split(":")[0] for win in wins if not win.startswith("belady")}),
        "plan_s": fleet_plan_s(seed),
        "wins": wins,
        "table": table,
        "world_seed": seed,
    }


def cells(world: Viewing, exponent: float, seed: int) -> Iterator[dict[str, float]]:
    """The rows of the table at one exponent: shares of all bytes, and what the figures need."""
    catalogue, plays, truth = draw(world, exponent, seed)
    rng = np.random.default_rng([seed, round(1000 * exponent)])
    places = list(world.regions.values())
    streams = [
        stream(plays.counts[site], lambda count, at=at: times_of_day(places[at], count, rng)) for site, at in enumerate(plays.region)
    ]
    measured = [one.day(world.history_days).start for one in streams]
    weight = catalogue.bytes * world.completion
    total = sum(weight[one.titles[begin:]].sum() for one, begin in zip(streams, measured, strict=True))
    whole = int(catalogue.bytes[catalogue.from_day == 0].sum())
    demand = {region: expectations(world, catalogue, plays, region) for region in range(len(places))}
    counted = [until_next_window(one, len(catalogue.bytes), world.fleet.window_start_h) for one in streams]
    for share in world.flash_shares:
        disk = int(share * whole)
        scores = [
            _ours(
                world,
                catalogue,
                disk,
                whole,
                region,
                [one for one, at in zip(streams, plays.region, strict=True) if at == region],
                demand[region],
            )
            for region in range(len(places))
        ]
        new = catalogue.bytes[(catalogue.from_day > 0) & (catalogue.announced < world.history_days + world.days)].sum()
        row = {
            "exponent": exponent,
            "flash": share,
            "ours": sum(score.flash for score in scores) / total,
            "edge": sum(score.flash + score.storage for score in scores) / total,
            "oracle": sum(_oracle(world, catalogue, disk, one, known) for one, known in zip(streams, counted, strict=True)) / total,
            "oracle_of_rates": sum(
                _oracle(world, catalogue, disk, one, truth.expected[at]) for one, at in zip(streams, plays.region, strict=True)
            )
            / total,
            **{
                name: sum(reactive(name, catalogue, disk, one, begin) for one, begin in zip(streams, measured, strict=True))
                * world.completion
                / total
                for name in REACTIVE
            },
            "premiere_first_play_hit": float(np.mean([hit for score in scores for hit in score.first_plays]))
            if any(score.first_plays for score in scores)
            else 1.0,
            "origin_of_new_content": max(score.from_origin for score in scores) / max(int(new), 1),
            "bytes_outside_window": float(sum(score.outside_window for score in scores)),
        }
        say(" ".join(f"{name} {value:.4g}" for name, value in row.items()))
        yield row


def stream(counts: NDArray[np.int32], times: Any) -> Stream:
    """The plays of a site, (days, titles) of counts, at times of the day that `times` draws."""
    titles, hours = [], []
    for of_day in counts:
        named = np.repeat(np.arange(len(of_day)), of_day)
        at = times(len(named))
        order = np.argsort(at, kind="stable")
        titles.append(named[order])
        hours.append(at[order])
    return Stream(np.concatenate(titles), np.concatenate(hours), np.cumsum([len(one) for one in titles]))


def expectations(world: Viewing, catalogue: Catalogue, plays: Plays, region: int) -> list[dict[str, Expected]]:
    """What is expected of each day of a region, from the days before it."""
    counts = sum((plays.counts[site] for site, at in enumerate(plays.region) if at == region), np.zeros(plays.counts.shape[1:], np.int64)).T
    place = list(world.regions.values())[region]
    early = float((times_of_day(place, 10_000, np.random.default_rng(0)) < world.fleet.window_start_h + world.fleet.window_h / 2).mean())
    found = []
    for day in range(counts.shape[1]):
        known = np.flatnonzero((catalogue.announced <= day) & (day < catalogue.to_day))
        first = max(0, day - REMEMBERED_DAYS)
        past = counts[known, first:day].astype(np.float64)
        prior = catalogue.prior_plays[region]
        offers = [
            Offer(
                _unit(title),
                int(catalogue.bytes[title]),
                int(catalogue.from_day[title]),
                None if np.isnan(prior[title]) else float(prior[title]),
                bool(catalogue.premiere[title]),
            )
            for title in known.tolist()
        ]
        found.append(expect(offers, Tally(past, past * (catalogue.bytes[known] * world.completion)[:, None], first), early))
    return found


def fleet_plan_s(seed: int) -> float:
    """CPU seconds for the nightly plan of 20,000 titles on 204 servers, 48 embedded sites of four and three of storage, when demand has
    moved.
    """
    rng = np.random.default_rng(seed)
    regions = ("east", "north", "west")
    sizes = (6e9 * np.exp(rng.normal(0, 0.6, 20_000))).astype(np.int64).tolist()
    assets = [Asset(_unit(title), "1", frozenset(regions), size, _unit(title)) for title, size in enumerate(sizes)]
    said = Fleet(
        flash_servers=4,
        flash_fill_mbps=3_000,
        storage_servers=4,
        storage_fill_mbps=30_000,
        storage_share=1.2,
        window_start_h=2,
        window_h=12,
    )
    ocas = [oca for region in regions for oca in fleet(said, region, 16, sum(sizes) // 5, sum(sizes))]

    def demand(plays: Floats) -> dict[str, dict[str, Expected]]:
        return {
            region: {one.unit: Expected(count, count * one.bytes) for one, count in zip(assets, plays.tolist(), strict=True)}
            for region in regions
        }

    plays = rng.permutation(1e6 * np.arange(1.0, 20_001.0) ** -0.8)
    held: dict[str, dict[AssetKey, int]] = {oca.oca_id: {} for oca in ocas}
    for fill in plan(assets, demand(plays), ocas, held).fills:
        held[fill.oca_id][fill.unit, "1"] = sizes[int(fill.unit)]
    tomorrow = demand(plays * np.exp(rng.normal(0, 0.2, len(plays))))
    began = time.process_time()
    plan(assets, tomorrow, ocas, held)
    return time.process_time() - began


class Server:
    """What a server has at each moment of a day: (titles,) hours since when and until when, infinite where it does neither."""

    def __init__(self, titles: int) -> None:
        self.since, self.until = np.full(titles, np.inf), np.full(titles, np.inf)

    def next_day(self) -> None:
        """At midnight: what was there last is there from the first moment on."""
        self.since = np.where(np.isinf(self.since) | ~np.isinf(self.until), np.inf, 0.0)
        self.until[:] = np.inf

    def serves(self, titles: Ints, hours: Floats) -> NDArray[np.bool_]:
        """Which plays it has the title for."""
        return np.asarray((self.since[titles] <= hours) & (hours < self.until[titles]))


def _ours(
    world: Viewing,
    catalogue: Catalogue,
    disk: int,
    whole: int,
    region: int,
    streams: Sequence[Stream],
    demand: Sequence[Mapping[str, Expected]],
) -> Score:
    """A region under our plans, day by day."""
    name = list(world.regions)[region]
    parts = [assets_of(catalogue, title, name) for title in range(len(catalogue.bytes))]
    size = {asset.key: asset.bytes for group in parts for asset in group}
    weight = catalogue.bytes * world.completion
    opened = fleet(world.fleet, name, len(streams), disk, whole)
    held: dict[str, dict[AssetKey, int]] = {oca.oca_id: {} for oca in opened}
    servers = {oca.oca_id: Server(len(catalogue.bytes)) for oca in opened}
    _deploy(opened, [asset for title in np.flatnonzero(catalogue.from_day == 0) for asset in parts[title]], held, servers)
    flash = [[servers[oca.oca_id] for oca in opened if oca.site_id == f"{name}-{site}"] for site in range(len(streams))]
    storage = [servers[oca.oca_id] for oca in opened if oca.tier is Tier.IX_STORAGE]
    score = Score()
    seen: set[tuple[int, int]] = set()
    for day, expected in enumerate(demand):
        for server in servers.values():
            server.next_day()
        ocas = [
            replace(oca, window_start_ms=oca.window_start_ms + 24 * HOUR_MS * day, window_end_ms=oca.window_end_ms + 24 * HOUR_MS * day)
            for oca in opened
        ]
        assets = [
            asset for title in np.flatnonzero((catalogue.announced <= day) & (day < catalogue.to_day)).tolist() for asset in parts[title]
        ]
        made = plan(assets, {name: expected}, ocas, held)
        check(made, assets, ocas, held)
        _carry_out(made, day, held, servers, size)
        score.from_origin += sum(fill.bytes for fill in made.fills if fill.source == ORIGIN)
        score.outside_window += sum(fill.bytes for fill in made.fills if not _inside(world.fleet, day, fill.start_ms, fill.end_ms))
        for site, one in enumerate(streams):
            titles, hours = one.titles[one.day(day)], one.hours[one.day(day)]
            hit = np.any([server.serves(titles, hours) for server in flash[site]], axis=0)
            behind = ~hit & np.any([server.serves(titles, hours) for server in storage], axis=0)
            missed = float(weight[titles[~hit & ~behind]].sum())
            score.from_origin += missed
            first, where = np.unique(titles, return_index=True)
            for title, at in zip(first.tolist(), where.tolist(), strict=True):
                if catalogue.premiere[title] and (site, title) not in seen:
                    seen.add((site, title))
                    if day >= world.history_days:
                        score.first_plays.append(bool(hit[at]))
            if day >= world.history_days:
                score.flash += float(weight[titles[hit]].sum())
                score.storage += float(weight[titles[behind]].sum())
                score.origin += missed
    return score


def fleet(said: Fleet, region: str, sites: int, disk: int, whole: int) -> list[Oca]:
    """A region's servers, with the windows of day 0."""
    start_ms = round(said.window_start_h * HOUR_MS)
    end_ms = start_ms + round(said.window_h * HOUR_MS)

    def site(site_id: str, servers: int, tier: Tier, disk_bytes: float, mbps: float) -> list[Oca]:
        share = int(disk_bytes / servers)
        return [Oca(f"{site_id}-{number}", site_id, region, tier, share, round(mbps * 1e6), start_ms, end_ms) for number in range(servers)]

    embedded = [
        oca for at in range(sites) for oca in site(f"{region}-{at}", said.flash_servers, Tier.EMBEDDED_FLASH, disk, said.flash_fill_mbps)
    ]
    return [*site(f"{region}-ix", said.storage_servers, Tier.IX_STORAGE, said.storage_share * whole, said.storage_fill_mbps), *embedded]


def assets_of(catalogue: Catalogue, title: int, region: str) -> list[Asset]:
    """The assets of a title: one, or one a branch."""
    count, unit = int(catalogue.assets[title]), _unit(title)
    cids = [unit] if count == 1 else [f"{unit}.{branch}" for branch in range(count)]
    each = int(catalogue.bytes[title]) // count
    sizes = [int(catalogue.bytes[title]) - each * (count - 1), *[each] * (count - 1)]
    return [Asset(cid, "1", frozenset({region}), size, unit) for cid, size in zip(cids, sizes, strict=True)]


def _unit(title: int) -> str:
    return f"{title:06d}"


def _deploy(ocas: Sequence[Oca], assets: Sequence[Asset], held: dict[str, dict[AssetKey, int]], servers: Mapping[str, Server]) -> None:
    """Storage servers come with the catalogue of the first day."""
    delivered = [
        replace(oca, fill_bps=10**15, window_start_ms=0, window_end_ms=24 * HOUR_MS) for oca in ocas if oca.tier is Tier.IX_STORAGE
    ]
    made = plan(assets, {}, delivered, {})
    _carry_out(made, 0, held, servers, {asset.key: asset.bytes for asset in assets})


def _carry_out(
    made: Plan, day: int, held: dict[str, dict[AssetKey, int]], servers: Mapping[str, Server], size: Mapping[AssetKey, int]
) -> None:
    """Bring what is held to the state after a plan, and say from when to when the day's plays find it."""
    for gone in made.evictions:
        for key in gone.assets:
            del held[gone.oca_id][key]
        servers[gone.oca_id].until[int(gone.unit.partition(".")[0])] = gone.at_ms / HOUR_MS - 24 * day
    for fill in made.fills:
        held[fill.oca_id] |= {key: size[key] for key in fill.assets}
        servers[fill.oca_id].since[int(fill.unit)] = max(0.0, fill.end_ms / HOUR_MS - 24 * day)


def _inside(said: Fleet, day: int, start_ms: int, end_ms: int) -> bool:
    start_h, end_h = start_ms / HOUR_MS - 24 * day, end_ms / HOUR_MS - 24 * day
    return said.window_start_h - 1e-6 <= start_h <= end_h <= said.window_start_h + said.window_h + 1e-6


def until_next_window(one: Stream, titles: int, window_start_h: float) -> Floats:
    """Plays of each title from the beginning of each day's window to that of the next, (days, titles)."""
    day: Ints = np.repeat(np.arange(len(one.ends)), np.diff(one.ends, prepend=0)) - (one.hours < window_start_h)
    at = (day * titles + one.titles)[day >= 0]
    return np.bincount(at, minlength=len(one.ends) * titles).reshape(-1, titles).astype(np.float64)


def _oracle(world: Viewing, catalogue: Catalogue, disk: int, one: Stream, known: Floats) -> float:
    """Hit bytes of the measured days of one server as large and as fast as a site, that knows plays, (days, titles), as they will be."""
    count = len(catalogue.bytes)
    weight = catalogue.bytes * world.completion
    sizes = catalogue.bytes.tolist()
    bytes_per_h = world.fleet.flash_servers * world.fleet.flash_fill_mbps * 1e6 / 8 * 3600
    server, holds, hits = Server(count), np.zeros(count, np.bool_), 0.0
    for day, coming in enumerate(known):
        server.next_day()
        titles, hours = one.titles[one.day(day)], one.hours[one.day(day)]
        order = np.lexsort((~holds, -coming))  # among equals what is there stays
        order = order[(coming[order] > 0) | holds[order]]
        room, budget, at_h = disk, bytes_per_h * world.fleet.window_h, world.fleet.window_start_h
        stays = np.zeros(count, np.bool_)
        fills = []
        for title in order.tolist():
            if sizes[title] > room:
                continue
            if not holds[title]:
                if sizes[title] > budget:
                    continue
                budget -= sizes[title]
                fills.append(title)
            room -= sizes[title]
            stays[title] = True
        free = disk - int(catalogue.bytes[holds].sum())
        leaving = sorted(np.flatnonzero(holds & ~stays).tolist(), key=lambda title: -coming[title])
        for title in fills:
            while free < sizes[title]:
                goes = leaving.pop()
                free += sizes[goes]
                server.until[goes], holds[goes] = at_h, False
            free -= sizes[title]
            at_h += sizes[title] / bytes_per_h
            server.since[title], holds[title] = at_h, True
        if day >= world.history_days:
            hits += float(weight[titles[server.serves(titles, hours)]].sum())
    return hits


def reactive(name: str, catalogue: Catalogue, disk: int, one: Stream, begin: int) -> float:
    """Bytes of the titles that a cache had when they were asked for, from play number `begin` on."""
    path = OUT / "fill.bin"
    _write(path, catalogue, one)
    (missed,) = cachesim.simulate(path, [(REACTIVE[name], disk // MEGABYTE)], begin)
    return float((1 - missed.share_of_bytes) * catalogue.bytes[one.titles[begin:]].sum())


def _write(path: Path, catalogue: Catalogue, one: Stream) -> None:
    """A site's plays as a trace."""
    records = np.empty(len(one.titles), cachesim.TRACE)
    day = np.repeat(np.arange(len(one.ends)), np.diff(one.ends, prepend=0))
    records["time_s"] = (3600 * (24 * day + one.hours)).astype(np.int64)
    records["object"], records["bytes"] = one.titles, catalogue.bytes[one.titles] // MEGABYTE  # a size has 32 bits: megabytes
    records["next"] = cachesim.next_requests(records["object"])
    path.parent.mkdir(parents=True, exist_ok=True)
    records.tofile(path)
