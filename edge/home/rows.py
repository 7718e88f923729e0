"""The rows of a page, from the online table of features and the catalogue. Pure: time and chance are arguments.

    row                    its titles                                                        by
    continue_watching      begun and not completed, the newest first                         member_title_watching
    my_list                added and not removed, the newest first                           member_title_list
    because_you_watched    watched after one of the member's titles, against how often it    title_after_plays, title_plays
                           is watched at all
    trending               rising in the region                                              title_region_heat
    top_10                 most played in the region today, or anywhere where that is none   title_region_plays, title_plays
    new                    released within NEW_DAYS, drawn: what was shown least comes       title_impressions
                           first most often, so that every new title gets to be known
    popular                most played, then the catalogue's newest; never empty while       title_plays
                           the catalogue has a title that the viewer may see

A title is in one row only, but for the two that are rankings: those are told as they are. Where there are no features, or not yet, the
rows that need them are left out, and `popular` is the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import sqrt
from random import Random
from typing import Any

from edge.home.titles import Title, Viewer, may_see
from schemas.recommendations.definition import DAY_MS
from streams.recommendations.engine import BETWEEN
from streams.recommendations.table import Table
from streams.recommendations.tiles import as_mapping

MOST, LEAST = 20, 3
"""Titles of a row at most; a row that is because of something has so many at least."""
REACH = 10 * MOST
"""So far down a ranking is looked for titles that no row above has shown."""
TOP = 10
NEW_DAYS = 30
SEEDS = 2
"""Rows that are because of a title."""
KEPT_MS = 1_000
"""So old a ranking may be, which everybody shares."""
RANKINGS_KEPT = 2_000
VERSION, FALLBACK = "popularity-1", "fallback"
BEGUN = ("play", "rewatch", "skip")


@dataclass(frozen=True)
class Item:
    """A title at a place. `propensity`: with which probability it, with this picture, was drawn for it; None where nothing was drawn."""

    cid: str
    propensity: float | None = None
    artwork_variant: str | None = None


@dataclass(frozen=True)
class Row:
    """One row. `because`: the title that it is because of."""

    kind: str
    title: str
    items: tuple[Item, ...]
    model_version: str = VERSION
    because: str | None = None


@dataclass
class Rankings:
    """Rankings of titles by a feature, each worked out once in KEPT_MS of the times that are asked for."""

    _kept: dict[tuple[str, str, str], tuple[int, list[tuple[str, float]]]] = field(default_factory=dict)

    def of(self, table: Table, name: str, at_ms: int, **about: str) -> list[tuple[str, float]]:
        """(what the key is about besides, value), the greatest first; nothing where no such feature is kept."""
        if name not in table.plan.values:
            return []
        key = (name, *(next(iter(about.items())) if about else ("", "")))
        made_ms, found = self._kept.get(key, (0, []))
        if not 0 <= at_ms - made_ms < KEPT_MS:
            found = table.ranked(name, len(table), at_ms, about)
            while len(self._kept) >= RANKINGS_KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = at_ms, found
        return found


@dataclass(frozen=True)
class Page:
    """What rows are made from. `table`: None while there are no features."""

    table: Table | None
    titles: Mapping[str, Title]
    viewer: Viewer
    at_ms: int
    random: Random
    rankings: Rankings

    def rows(self) -> list[Row]:
        """The rows, from the top of the page; none is empty, and the last is `popular`, if there is any title to show."""
        shown: set[str] = set()
        found = []
        for row in self._all():
            ranking = row.kind in ("top_10", "popular")
            items = [item for item in row.items if ranking or item.cid not in shown][:MOST]
            if len(items) >= (LEAST if row.because else 1):
                shown |= set() if ranking else {item.cid for item in items}
                found.append(Row(row.kind, row.title, tuple(map(self._with_artwork, items)), row.model_version, row.because))
        return found

    def _all(self) -> Iterator[Row]:
        if self.table is not None:
            yield from self._members(self.table)
            region = self.viewer.region
            if region is not None:
                yield self._row("trending", f"Trending in {region}", self._ranked("title_region_heat_1d", region=region))
            yield self._top(region)
        yield self._new()
        yield self._popular()

    def _row(self, kind: str, title: str, cids: Iterable[str], version: str = VERSION, because: str | None = None) -> Row:
        return Row(kind, title, tuple(map(Item, islice(self._seen(cids), REACH))), version, because)

    def _seen(self, cids: Iterable[str]) -> Iterator[str]:
        """Those that the viewer may see."""
        return (cid for cid in cids if cid in self.titles and may_see(self.titles[cid], self.viewer))

    def _ranked(self, name: str, **about: str) -> list[str]:
        return [cid for cid, _ in self.rankings.of(self.table, name, self.at_ms, **about)] if self.table is not None else []

    def _members(self, table: Table) -> Iterator[Row]:
        member = self.viewer.member_id
        if member is None:
            return
        states = _states(table, member, self.at_ms)
        begun = [cid for cid, told in states.items() if told.get("member_title_watching_30d") in BEGUN]
        yield self._row("continue_watching", "Continue watching", begun)
        listed = [cid for cid, told in states.items() if told.get("member_title_list_30d") == "list_add"]
        yield self._row("my_list", "My list", listed)
        completed = {cid for cid, told in states.items() if told.get("member_title_watching_30d") == "completion"}
        rows = 0
        for seed in self._seen(_seeds(table, member, self.at_ms)):
            after = [cid for cid in self._after(table, seed) if cid not in completed and cid != seed]
            row = self._row("because_you_watched", f"Because you watched {self.titles[seed].name}", after, because=seed)
            if len(row.items) >= LEAST and rows < SEEDS:
                rows += 1
                yield row

    def _after(self, table: Table, seed: str) -> list[str]:
        """What is watched after `seed`, by how often, against the root of how often it is watched at all, lest hits come after all."""
        pairs = self.rankings.of(table, "title_after_plays_30d", self.at_ms, previous=seed)[: 10 * MOST]
        if not pairs or "title_plays_30d" not in table.plan.values:
            return [cid for cid, _ in pairs]
        plays = table.lookup(["title_plays_30d"], {"title": [cid for cid, _ in pairs]}, self.at_ms)["title_plays_30d"].of.tolist()
        scored = sorted((-often / sqrt(max(played, 1)), cid) for (cid, often), played in zip(pairs, plays, strict=True))
        return [cid for _, cid in scored]

    def _top(self, region: str | None) -> Row:
        there = list(self._seen(self._ranked("title_region_plays_1d", region=region))) if region is not None else []
        if len(there) >= TOP:
            return self._row("top_10", f"Top 10 in {region} today", there[:TOP])
        return self._row("top_10", "Top 10 today", list(self._seen(self._ranked("title_plays_1d")))[:TOP])

    def _new(self) -> Row:
        since = self.at_ms - NEW_DAYS * DAY_MS
        new = [one for one in self.titles.values() if one.released_ms is not None and since < one.released_ms <= self.at_ms]
        cids = sorted(self._seen(one.cid for one in new))
        shown = self._number("title_impressions_7d", cids)
        return Row("new", "New", tuple(draw({cid: 1 / (1 + shown[cid]) for cid in cids}, MOST, self.random)))

    def _popular(self) -> Row:
        played = self._ranked("title_plays_30d")
        return self._row("popular", "Popular", self._with_rest(played), VERSION if played else FALLBACK)

    def _with_rest(self, cids: Sequence[str]) -> Iterator[str]:
        """Titles, and after them all others, the newest first; those are only put in order where they are needed."""
        yield from cids
        known = set(cids)
        rest = (one for one in self.titles.values() if one.cid not in known)
        yield from (one.cid for one in sorted(rest, key=lambda one: (-(one.released_ms or 0), one.name, one.cid)))

    def _number(self, name: str, cids: Sequence[str]) -> dict[str, float]:
        if self.table is None or not cids or name not in self.table.plan.values:
            return dict.fromkeys(cids, 0.0)
        return dict(zip(cids, self.table.lookup([name], {"title": cids}, self.at_ms)[name].of.tolist(), strict=True))

    def _with_artwork(self, item: Item) -> Item:
        variants = self.titles[item.cid].artwork_variants
        if not variants:
            return item
        drawn = 1.0 if item.propensity is None else item.propensity
        return Item(item.cid, drawn / len(variants) if len(variants) > 1 else item.propensity, self.random.choice(variants))


def draw(weights: Mapping[str, float], most: int, random: Random) -> list[Item]:
    """Titles drawn for one place after the other, each with its probability among those that were left for that place."""
    left, found = dict(weights), list[Item]()
    while left and len(found) < most:
        total = sum(left.values())
        cid = random.choices(list(left), list(left.values()))[0]
        found.append(Item(cid, left.pop(cid) / total))
    return found


def _states(table: Table, member: str, at_ms: int) -> dict[str, dict[str, Any]]:
    """What is known of the member with each title, the newest first."""
    group = "member.title"
    if group not in table.plan.layouts:
        return {}
    keys = sorted(table.keys(group, {"member": member}), key=lambda key: (-table.head(group, key)[0], key))
    cids = [key.split(BETWEEN)[1] for key in keys]
    names = [value.name for value in table.plan.of(group)]
    found = table.lookup(names, {"member": member, "title": cids}, at_ms) if cids else {}
    return {cid: as_mapping(found, n) for n, cid in enumerate(cids)}


def _seeds(table: Table, member: str, at_ms: int) -> list[str]:
    """Titles that the member is known by: the last one, then his favourites."""
    known = [name for name in ("member_last_title_30d", "member_favourites_30d") if name in table.plan.values]
    told = as_mapping(table.lookup(known, {"member": member}, at_ms), 0)
    last, favourites = told.get("member_last_title_30d"), told.get("member_favourites_30d") or []
    return list(dict.fromkeys([*([last] if last else []), *(cid for cid, _ in favourites)]))
