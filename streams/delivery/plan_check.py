"""Whether a fill plan may be carried out: it is played through, with nothing taken from the planner but fills and evictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise

from streams.delivery.plan import Asset, AssetKey, BadPlan, Eviction, Fill, Held, Oca, Plan, Tier

Presence = Mapping[AssetKey, tuple[int, int]]
"""From when to when a server has each asset, ms since 1970."""

ALWAYS_MS = 1 << 62


def check(plan: Plan, assets: Sequence[Asset], ocas: Sequence[Oca], held: Held, absent: Collection[str] = ()) -> None:
    """Raises BadPlan with what is wrong: a disk that overflows at any moment, a fill outside its window, faster than its rate, beside
    another, of a part of a unit, of what is there or not offered, from who does not have it then or is `absent`, or that the origin sends
    a region again.
    """
    if wrong := [*_wrong(plan, {asset.key: asset for asset in assets}, {oca.oca_id: oca for oca in ocas}, held, absent)]:
        raise BadPlan(f"the plan is refused for {len(wrong)} reasons: {'; '.join(wrong[:10])}")


def _wrong(plan: Plan, assets: Mapping[AssetKey, Asset], ocas: Mapping[str, Oca], held: Held, absent: Collection[str]) -> Iterator[str]:
    fills: dict[str, list[Fill]] = defaultdict(list)
    evictions: dict[str, list[Eviction]] = defaultdict(list)
    units: dict[str, set[AssetKey]] = defaultdict(set)
    for asset in assets.values():
        units[asset.unit].add(asset.key)
    for fill in plan.fills:
        fills[fill.oca_id].append(fill)
        if strange := [key for key in fill.assets if key not in assets]:
            yield f"{fill.oca_id} is to fetch {strange[0]}, which is not in the catalogue"
            return
    for gone in plan.evictions:
        evictions[gone.oca_id].append(gone)
    if unknown := sorted((fills.keys() | evictions.keys()) - ocas.keys()):
        yield f"{unknown[0]} is no cache server"
        return
    there: dict[str, Presence] = {}
    for oca_id in sorted(ocas):
        mine = sorted(fills[oca_id], key=lambda fill: fill.start_ms)
        yield from _limits(ocas[oca_id], mine, evictions[oca_id], assets)
        there[oca_id] = presence = _presence(held.get(oca_id, {}), mine, evictions[oca_id])
        yield from _disk(ocas[oca_id], mine, evictions[oca_id], held.get(oca_id, {}), assets)
        for unit in sorted({fill.unit for fill in mine} | {gone.unit for gone in evictions[oca_id]}):
            has = {key for key in units[unit] if key in presence and presence[key][1] == ALWAYS_MS}
            if has and has != units[unit]:
                yield f"{oca_id} would have {len(has)} of the {len(units[unit])} assets of {unit}: a unit is whole or not there"
    yield from _sources(plan.fills, ocas, there, units, absent)


def _limits(oca: Oca, fills: Sequence[Fill], evictions: Sequence[Eviction], assets: Mapping[AssetKey, Asset]) -> Iterator[str]:
    """What is wrong with times, rates and bytes."""
    for fill in fills:
        what = f"{oca.oca_id} would fetch {fill.unit}"
        if not oca.window_start_ms <= fill.start_ms <= fill.end_ms <= oca.window_end_ms:
            yield f"{what} outside its window"
        if fill.bytes * 8_000 > oca.fill_bps * (fill.end_ms - fill.start_ms):
            yield f"{what} faster than {oca.fill_bps} bit/s"
        if fill.bytes != sum(assets[key].bytes for key in fill.assets):
            yield f"{what} with another number of bytes than its assets have"
        if not all(oca.region in assets[key].regions for key in fill.assets):
            yield f"{what}, which is not offered in {oca.region}"
    for one, next_one in pairwise(fills):
        if next_one.start_ms < one.end_ms:
            yield f"{oca.oca_id} would fetch {one.unit} and {next_one.unit} at once"
    for gone in evictions:
        if not oca.window_start_ms <= gone.at_ms <= oca.window_end_ms:
            yield f"{oca.oca_id} would let {gone.unit} go outside its window"


def _disk(
    oca: Oca, fills: Sequence[Fill], evictions: Sequence[Eviction], held: Mapping[AssetKey, int], assets: Mapping[AssetKey, Asset]
) -> Iterator[str]:
    """What is wrong with what is on the disk from event to event; room is taken when a fill begins."""
    there, used = dict(held), sum(held.values())
    events: list[tuple[int, int, Eviction | Fill]] = [(gone.at_ms, 0, gone) for gone in evictions]
    events += [(fill.start_ms, 1, fill) for fill in fills]
    for at_ms, _, event in sorted(events, key=lambda event: event[:2]):
        if isinstance(event, Eviction):
            for key in event.assets:
                if key not in there:
                    yield f"{oca.oca_id} would let go {key}, which it does not have"
                used -= there.pop(key, 0)
            continue
        if again := [key for key in event.assets if key in there]:
            yield f"{oca.oca_id} would fetch {again[0]}, which it has"
        there |= {key: assets[key].bytes for key in event.assets}
        used += event.bytes
        if used > oca.disk_bytes:
            yield f"{oca.oca_id} would hold {used} bytes at {at_ms}, and has a disk of {oca.disk_bytes}"
    if used > oca.disk_bytes:
        yield f"{oca.oca_id} would hold {used} bytes in the end, and has a disk of {oca.disk_bytes}"


def _presence(held: Mapping[AssetKey, int], fills: Sequence[Fill], evictions: Sequence[Eviction]) -> Presence:
    gone = {key: eviction.at_ms for eviction in evictions for key in eviction.assets}
    there = {key: (0, gone.get(key, ALWAYS_MS)) for key in held}
    return there | {key: (fill.end_ms, ALWAYS_MS) for fill in fills for key in fill.assets}


def _sources(
    fills: Sequence[Fill],
    ocas: Mapping[str, Oca],
    there: Mapping[str, Presence],
    units: Mapping[str, set[AssetKey]],
    absent: Collection[str],
) -> Iterator[str]:
    """What is wrong with where fills come from."""
    kept: dict[tuple[str, AssetKey], str] = {}
    for oca_id, presence in there.items():
        if oca_id in absent:
            continue
        stays = {key for key, (since, until) in presence.items() if since == 0 and until == ALWAYS_MS}
        kept |= {(ocas[oca_id].region, key): oca_id for keys in units.values() if keys <= stays for key in keys}
    sent: set[tuple[str, AssetKey]] = set()
    for fill in fills:
        region = ocas[fill.oca_id].region
        source = ocas.get(fill.source)
        if source is None or source.tier is Tier.ORIGIN:
            for key in fill.assets:
                if (region, key) in sent:
                    yield f"the origin would send {key} to {region} twice"
                if (region, key) in kept:
                    yield f"the origin would send {key} to {region}, where {kept[region, key]} has it"
                sent.add((region, key))
            continue
        if fill.source in absent:
            yield f"{fill.oca_id} would fetch {fill.unit} from {fill.source}, which is not there now"
        if source.region != region or source.oca_id == fill.oca_id:
            yield f"{fill.oca_id} would fetch {fill.unit} from {source.oca_id} in {source.region}"
        for key in fill.assets:
            since, until = there[source.oca_id].get(key, (ALWAYS_MS, 0))
            if since > fill.start_ms or until < fill.end_ms:
                yield f"{fill.oca_id} would fetch {key} from {source.oca_id}, which does not have it then"
