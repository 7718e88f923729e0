"""What fill plans are made of: the facts as topics tell them, folded, and the plan that follows from them at a moment. Pure.

A title is offered where its announcement says, everywhere if nothing was announced. Demand is by the region that members watch from: what
is watched where no cache server stands is served from the regions that have storage servers, and counts there. A version of a title takes
the place of the one before it as soon as it is published.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from schemas.envelope import milliseconds
from schemas.network import unfit
from streams.delivery.demand import Expected, Offer, Played, expect, tally
from streams.delivery.plan import Asset, AssetKey, Oca, Plan, Tier, plan
from streams.delivery.plan_check import check

DAY_MS = 86_400_000
PAST_DAYS = 35
"""Days of demand that are looked at."""
AVOIDED_MS = 600_000
"""So long nothing is fetched from a server that a fill from it has failed at."""
BLAMED = frozenset({"unreachable", "broke", "slow", "lies", "checksum"})
"""Reasons of a failed fill that are the source's."""


class Unbelievable(ValueError):
    """An event that fits its contract and cannot be true: which, and why."""


@dataclass
class Facts:
    """What is known. `fold` takes one event of one topic; a later event replaces an earlier one of the same key."""

    ocas: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    content: dict[str, dict[AssetKey, int]] = field(default_factory=dict)
    """Bytes by (cid, version), by oca_id."""
    titles: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    releases: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    demand: dict[tuple[str, str, int], tuple[int, int]] = field(default_factory=dict)
    """Plays and bytes by cid, region and day since 1970."""
    absent: set[str] = field(default_factory=set)
    """Servers that are DOWN or DRAINING."""
    failed: dict[str, int] = field(default_factory=dict)
    """When a fill from a source failed last, by its oca_id."""
    setbacks: dict[str, int] = field(default_factory=dict)
    """How many fills of a server have failed, and titles have left it."""

    def fold(self, topic: str, event: Mapping[str, Any]) -> None:
        """Take one event that is no marker. Raises Unbelievable, and then has changed nothing."""
        match topic:
            case "delivery.oca":
                if event["retired"]:
                    self.ocas.pop(event["oca_id"], None)
                elif wrong := unfit(event):
                    raise Unbelievable(f"delivery.oca {event['oca_id']!r}: {'; '.join(wrong)}; it stays as it was")
                else:
                    self.ocas[event["oca_id"]] = event
            case "delivery.content":
                self._content(event)
            case "encoding.published":
                known = self.titles.get(event["cid"])
                if event["bytes"] <= 0:
                    raise Unbelievable(f"encoding.published {event['cid']!r} has {event['bytes']} bytes: an asset has some")
                if known is None or event["version"] >= known["version"]:
                    self.titles[event["cid"]] = event
            case "delivery.release":
                plays = event["expected_plays"]
                if plays is not None and not 0 <= plays < float("inf"):
                    raise Unbelievable(f"delivery.release {event['cid']!r}: {plays} plays are expected of it; a number from 0 on can be")
                if event["withdrawn"]:
                    self.releases.pop(event["cid"], None)
                else:
                    self.releases[event["cid"]] = event
            case "delivery.demand":
                if min(event["starts"], event["bytes"]) < 0:
                    raise Unbelievable(
                        f"delivery.demand {event['item']!r}: {event['starts']} starts, {event['bytes']} bytes; none is negative"
                    )
                self.demand[event["cid"], event["region"], milliseconds(event["day"]) // DAY_MS] = (event["starts"], event["bytes"])
            case "delivery.oca_health":
                (self.absent.add if event["state"] in ("DOWN", "DRAINING") else self.absent.discard)(event["oca_id"])
            case "delivery.fill":
                if event["kind"] == "FAILED":
                    self.setbacks[event["oca_id"]] = self.setbacks.get(event["oca_id"], 0) + 1
                    if event["reason"] in BLAMED:
                        self.failed[event["source"]] = milliseconds(event["event_time"])
            case _:
                raise Unbelievable(f"{topic} is none of the topics that plans are made of")

    def _content(self, event: Mapping[str, Any]) -> None:
        held = self.content.setdefault(event["oca_id"], {})
        key = (event["cid"], str(event["version"]))
        if not event["held"]:
            if held.pop(key, None) is not None:
                self.setbacks[event["oca_id"]] = self.setbacks.get(event["oca_id"], 0) + 1
        elif event["bytes"] <= 0:
            raise Unbelievable(f"delivery.content {event['item']!r} has {event['bytes']} bytes: an asset has some")
        else:
            held[key] = event["bytes"]

    def unavailable(self, now_ms: int) -> frozenset[str]:
        """Servers that nobody should fetch from now. The origin is not among them: there is nobody behind it."""
        avoided = {source for source, at_ms in self.failed.items() if now_ms - at_ms < AVOIDED_MS}
        origins = {oca_id for oca_id, oca in self.ocas.items() if oca["tier"] == Tier.ORIGIN}
        return frozenset((avoided | self.absent) - origins)


@dataclass(frozen=True)
class Planned:
    """A plan and what it was made of."""

    plan: Plan
    assets: tuple[Asset, ...]
    ocas: Mapping[str, Oca]
    absent: frozenset[str]

    @cached_property
    def bytes_of(self) -> Mapping[AssetKey, int]:
        """Sizes of the catalogue's assets."""
        return {asset.key: asset.bytes for asset in self.assets}


def plan_for(facts: Facts, now_ms: int) -> Planned:
    """The plan that follows from what is known, checked. Raises BadPlan where the facts contradict each other."""
    ocas = {oca_id: _oca(oca, now_ms) for oca_id, oca in sorted(facts.ocas.items())}
    caches = [oca for oca in ocas.values() if oca.tier is not Tier.ORIGIN]
    regions = sorted({oca.region for oca in caches})
    assets = tuple(_asset(title, facts.releases.get(cid), regions) for cid, title in sorted(facts.titles.items()))
    watched = _watched(facts)
    demand = {region: _expected(facts, assets, watched, region, caches, now_ms) for region in regions}
    held = {oca.oca_id: facts.content.get(oca.oca_id, {}) for oca in caches}
    absent = facts.unavailable(now_ms)
    made = plan(assets, demand, [*ocas.values()], held, absent=absent)
    check(made, assets, [*ocas.values()], held, absent)
    return Planned(made, assets, ocas, absent)


def window_ms(start_min: int, end_min: int, utc_offset_min: int, now_ms: int) -> tuple[int, int]:
    """The fill window that is open, from now on, or else the next one, ms since 1970; minutes are of the local day."""
    midnight_ms = (now_ms + utc_offset_min * 60_000) // DAY_MS * DAY_MS - utc_offset_min * 60_000
    length_min = end_min - start_min if end_min > start_min else end_min - start_min + 1440
    for day in (-1, 0, 1):
        opens_ms = midnight_ms + day * DAY_MS + start_min * 60_000
        closes_ms = opens_ms + length_min * 60_000
        if now_ms < closes_ms:
            return max(now_ms, opens_ms), closes_ms
    raise AssertionError


def _oca(told: Mapping[str, Any], now_ms: int) -> Oca:
    opens_ms, closes_ms = window_ms(told["window_start_min"], told["window_end_min"], told["utc_offset_min"], now_ms)
    tier = Tier(told["tier"])
    return Oca(told["oca_id"], told["site_id"], told["region"], tier, told["disk_bytes"], told["fill_bps"], opens_ms, closes_ms)


def _asset(title: Mapping[str, Any], release: Mapping[str, Any] | None, regions: Iterable[str]) -> Asset:
    offered = frozenset((release or {}).get("regions") or regions)
    unit = title["cid"] if release is None else release["unit"]
    return Asset(title["cid"], str(title["version"]), offered, title["bytes"], unit)


def _watched(facts: Facts) -> dict[str, list[Played]]:
    """What was played, by the region that members watch from; plays of older versions count for the newest."""
    newest = {cid: str(title["version"]) for cid, title in facts.titles.items()}
    found: dict[str, list[Played]] = defaultdict(list)
    for (cid, region, day), (plays, size) in facts.demand.items():
        found[region].append(Played(cid, newest.get(cid, ""), region, day, plays, size))
    return found


def _expected(
    facts: Facts, assets: Iterable[Asset], watched: Mapping[str, Sequence[Played]], region: str, caches: Iterable[Oca], now_ms: int
) -> dict[str, Expected]:
    """What is expected of each unit in a region tomorrow; today, as far as it has come, is the newest day that is known."""
    rows = [replace(row, region=region) for name in _served(region, caches, watched) for row in watched.get(name, ())]
    today = now_ms // DAY_MS
    first = min((row.day for of_region in watched.values() for row in of_region), default=today)
    days = range(max(today - PAST_DAYS, first), today + 1)
    units: dict[str, list[Asset]] = defaultdict(list)
    for asset in assets:
        if region in asset.regions:
            units[asset.unit].append(asset)
    offers = [_offer(unit, group, facts.releases, today) for unit, group in sorted(units.items())]
    unit_of = {asset.key: unit for unit, group in units.items() for asset in group}
    return expect(offers, tally(rows, unit_of, [offer.unit for offer in offers], region, days))


def _offer(unit: str, group: Iterable[Asset], releases: Mapping[str, Mapping[str, Any]], today: int) -> Offer:
    announced = [releases[asset.cid] for asset in group if asset.cid in releases]
    first = min((milliseconds(release["from_time"]) // DAY_MS for release in announced), default=today - PAST_DAYS)
    plays = [release["expected_plays"] for release in announced if release["expected_plays"] is not None]
    premiere = any(release["premiere"] for release in announced)
    if premiere and first == today:  # it is waited for until its first day is over
        first += 1
    return Offer(unit, sum(asset.bytes for asset in group), first, max(plays, default=None), premiere)


def _served(region: str, caches: Iterable[Oca], watched: Iterable[str]) -> frozenset[str]:
    """The regions whose members a region's servers are filled for."""
    with_servers = {oca.region for oca in caches}
    has_storage = any(oca.region == region and oca.tier is Tier.IX_STORAGE for oca in caches)
    return frozenset({region, *(name for name in watched if has_storage and name not in with_servers)})
