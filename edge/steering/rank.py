"""Which cache servers a play is sent to, in which order, and why each is where it is. Pure.

A client may use the servers that announced a prefix it lies in, and the origin. They are ordered by longest prefix, path class, length of
the AS path and MED (Open Connect), then by distance; what is equal after that shares the load by weighted rendezvous hashing (Schindelhauer
and Schomaker, "Weighted Distributed Hash Tables", 2005): a session's order stays when it asks again, another session has another one, and
a server that goes or comes moves its own sessions only. Its weight is what a server has free of its egress, times how its predicted
throughput compares with the best one's. So nobody is everybody's best, and a server fills up as the others do.

A server is not taken that is DOWN or DRAINING, or has not got the title and may not pull it. It steps back behind all that do not: when its
load comes near its egress (for a growing share of sessions, so that they do not all leave at once), when its throughput is predicted to be
far below the best one's, when it would have to pull the title; behind the origin when it is DEGRADED.

Of the equals that a play goes to first all are compared. What follows them is for the case that they fail: as many as are still wanted,
and one for each further step of the fallback chain, the better of two that are drawn (power of two choices: Mitzenmacher, 2001).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import log
from types import MappingProxyType
from typing import Any, NamedTuple

from edge.steering.routes import PathClass, Paths
from edge.steering.throughput import Throughput

WANTED = 3
"""Servers of an answer at least, where they are; fallbacks come on top."""
SPILL_FROM, SPILL_TO = 0.80, 0.98
"""Load from which on sessions go elsewhere, and at which all do."""
SLOW = 0.5
"""A server whose predicted throughput is below this share of the best one's steps back."""
SHARPNESS = 3.0
"""Power of the ratio of throughputs in a weight: how much a better path draws."""
LEAST_FREE = 0.02
"""Share of its egress that counts as free of a full server, so that the order among full ones is still theirs."""
NEARER_KM = 500.0
"""Distances count in steps of this: the path in the network is not the great circle."""
EARTH_KM = 6371.0
ORIGIN = "ORIGIN"
EMBEDDED = "EMBEDDED_FLASH"
STEPS = ("embedded", "private peering", "public peering", "transit", "origin")
_MASK = 2**64 - 1
Key = tuple[int, int, int, int, int]
"""A server's place in routing, the lower the better: origin or not, which of the prefixes, path class, length of the AS path, MED."""
NOWHERE = (1, 2**32, 0, 0, 0)
"""That of an origin that has announced nothing of the client's."""
_LAST, _ORIGIN, _BACK, _ROUTING = 1 << 35, 1 << 34, 1 << 32, 1 << 8
"""The order of servers is one number: DEGRADED, origin, how far it steps back (2 bits), group in routing, steps of distance (8 bits)."""


class Server(NamedTuple):
    """A cache server as steering needs it. `bit` is its place in masks of servers, `salt` 64 bits of its own for hashing."""

    oca_id: str
    site_id: str
    region: str
    tier: str
    isp_asn: int | None
    url: str
    egress_bps: int
    latitude_deg: float
    longitude_deg: float
    bit: int
    salt: int


class Health(NamedTuple):
    """What is thought of a server: UP, DEGRADED, DRAINING or DOWN, the share of its egress in use, and why, in words and as a cause."""

    state: str
    load: float
    reason: str
    cause: str = "HEALTH"
    """Of one that is DEGRADED: HEALTH, or LOAD if it is for what it sends alone."""


OUT = frozenset({"DOWN", "DRAINING"})
UNKNOWN = Health("UP", 0.0, "")
"""Of whom nothing has been said: there is no reason not to try."""
NOTHING: Mapping[str, Any] = MappingProxyType({})
UNKNOWN_THROUGHPUT = Throughput()


class Row(NamedTuple):
    """A server on a client's routes, with what does not depend on who asks, laid out for the loop over all rows of a question."""

    server: Server
    oca_id: str
    mask: int
    order: int
    """Rows that are equal in routing have the same; see `_LAST`."""
    far: int
    """Steps of `NEARER_KM` from the network's home; 0 where it has none."""
    step: int
    match: int
    """Which of the matches it has announced; -1: none, it is an origin."""
    words: str


class Rejected(NamedTuple):
    """A server that is not answered; the reason begins with content, health or route."""

    oca_id: str
    tier: str
    reason: str


class Candidate(NamedTuple):
    """A server that is answered, and which step of the fallback chain it is."""

    server: Server
    step: int
    reason: str


class Ranking(NamedTuple):
    """The servers of an answer, those that are not taken, and why the first is not one that is best by routing (`NONE` if it is).

    The cause is CONTENT, HEALTH, LOAD, ROUTE, or OTHER, where its path promises too little.
    """

    candidates: list[Candidate]
    rejected: list[Rejected]
    cause: str


@dataclass(frozen=True)
class Plan:
    """The servers for everybody in a prefix, best first in groups, those that announced it in vain, and whose prefix it is."""

    groups: tuple[tuple[Row, ...], ...]
    """Rows of one group are equal in routing and distance."""
    refused: tuple[Rejected, ...]
    isp_asn: int | None
    region: str
    best: tuple[Server, ...]
    """The servers that are best by routing: what another one serves is a miss."""
    unrouted: bool
    """The best stand in the client's ISP, in a region of those that come first now, and none of them has announced its prefix."""


class Ask(NamedTuple):
    """What is particular to one question. `spread` is what sessions are told apart by: the sid, or what stands for it."""

    spread: str
    where: tuple[float, float] | None = None
    """Latitude and longitude of the client, if known."""
    current: str | None = None
    """The server that the session uses now."""
    measured_bps: Mapping[str, float] = NOTHING
    """What it got of late, by oca_id."""


class State(NamedTuple):
    """What is known of the servers now."""

    health: Mapping[str, Health] = NOTHING
    holders: int | None = None
    """Mask of the servers that hold the title version; None: nobody says what it holds, and whoever is asked must see."""
    parents: Callable[[Server], int] = lambda _: 0
    """Mask of the servers that a server may pull from."""
    throughput: Throughput = UNKNOWN_THROUGHPUT


def plan(announced: Sequence[Paths], has_default: bool, servers: Mapping[str, Server], origins: Collection[Server]) -> Plan:
    """The order of the servers that announced prefixes which lie in each other, by routing alone: the same wherever `announced` is.

    `announced` are the ways to each prefix, the longest first; with `has_default` the last of them is the default prefix.
    """
    seen: dict[str, tuple[Key, Server, str]] = {}
    refused: dict[str, Rejected] = {}
    isp_asn: int | None = None
    inside: list[tuple[float, float]] = []
    for match, paths in enumerate(announced):
        is_default = has_default and match == len(announced) - 1
        for path in paths.paths:
            server = servers.get(path.oca_id)
            if server is None:
                refused[path.oca_id] = Rejected(path.oca_id, "", "route: it announced the prefix, and no such server is installed")
            elif is_default and server.tier == EMBEDDED:
                refused[path.oca_id] = Rejected(path.oca_id, server.tier, "route: an embedded server cannot have the default prefix")
            elif path.oca_id not in seen:
                if not seen:
                    isp_asn = path.as_path[-1] if path.as_path else server.isp_asn
                if match == 0 and path.path_class is PathClass.EMBEDDED:
                    inside.append(_place(server))
                key = (int(server.tier == ORIGIN), match, int(path.path_class), len(path.as_path), path.med)
                seen[path.oca_id] = (key, server, f"AS path {len(path.as_path)}, MED {path.med}")
    for server in origins:
        seen.setdefault(server.oca_id, (NOWHERE, server, ""))
    at_home = bool(inside) and all(distance_km(inside[0], place) < NEARER_KM for place in inside)
    groups: list[list[Row]] = []
    routing = -1
    last: Key | None = None
    placed = [(key, _steps_away(inside[0], server) if at_home else 0, server, words) for key, server, words in seen.values()]
    for key, far, server, words in sorted(placed, key=lambda entry: (entry[0], entry[1], entry[2].oca_id)):
        routing += key != last
        if key != last or far != groups[-1][-1].far:
            groups.append([])
        last = key
        order = (_ORIGIN if key[0] else 0) + routing * _ROUTING
        match, step = (key[1] if words else -1), (len(STEPS) - 1 if key[0] else key[2])
        row = Row(server, server.oca_id, 1 << server.bit, order, far, step, match, f"{STEPS[key[2]]} by /%d, {words}")
        groups[-1].append(row)
    refusals = tuple(refusal for oca_id, refusal in refused.items() if oca_id not in seen)
    region = groups[0][0].server.region if groups else ""
    rows = [row for group in groups for row in group]
    best = tuple(row.server for row in rows if row.order == rows[0].order)
    nearby = () if isp_asn is None else _embedded(servers, isp_asn, {server.region for server in best})
    unrouted = bool(nearby) and seen.keys().isdisjoint(server.oca_id for server in nearby)
    return Plan(tuple(map(tuple, groups)), refusals, isp_asn, region, nearby if unrouted else best, unrouted)


def _embedded(servers: Mapping[str, Server], isp_asn: int, regions: Collection[str]) -> tuple[Server, ...]:
    """The servers inside an ISP in any of some regions."""
    inside = (s for s in servers.values() if s.tier == EMBEDDED and s.isp_asn == isp_asn and s.region in regions)
    return tuple(sorted(inside, key=lambda s: s.oca_id))


def rank(of: Plan, lengths: Sequence[int], prefix: str, ask: Ask, state: State) -> Ranking:
    """The servers for one play, best first: `WANTED` and of two sites where there are, one for each further step of the fallback chain.

    `lengths` are those of the prefixes that `of` is the plan for, `prefix` is the longest of them.
    """
    digest = hashlib.blake2b(ask.spread.encode("utf-8", "replace"), digest_size=16).digest()
    seed, other_seed = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
    able = partial(_able, state.health.get, -1 if state.holders is None else state.holders, state.parents)
    rejected = list(of.refused)
    predicted, best_bps = _predictions(of, able, prefix, ask, state.throughput)
    where = ask.where
    found: Found = []
    sites: set[str] = set()
    steps: set[int] = set()
    clean = 0  # servers that have no reason to step back

    def look(rows: Sequence[Row]) -> None:
        nonlocal clean
        for row, health, held in able(rows, rejected):
            server, load = row.server, health.load
            key, why = row.order, ""
            free = 1.0 - load
            weight = server.egress_bps * (free if free > LEAST_FREE else LEAST_FREE)
            if not held:
                key, why = key + 2 * _BACK, "; it would have to pull it"
            elif load > SPILL_FROM and unit(other_seed, server.salt) < (load - SPILL_FROM) / (SPILL_TO - SPILL_FROM):
                key, why = key + _BACK, f"; load {load:.2f}: this session is one that spills over"
            if predicted and (bps := predicted.get(row.oca_id)) is not None:
                weight *= (max(1.0, bps) / best_bps) ** SHARPNESS
                if not why and bps < SLOW * best_bps:
                    key, why = key + _BACK, f"; throughput: {bps / 1e6:.1f} Mbit/s where {best_bps / 1e6:.1f} can be had"
            if health.state == "DEGRADED":
                key, why = key + _LAST, f"{why}; DEGRADED: {health.reason}"
            if not why:
                clean += 1
                sites.add(server.site_id)
                steps.add(row.step)
            key += row.far if where is None else _steps_away(where, server)
            found.append((key, -log(unit(seed, server.salt)) / weight, row, why))

    for group in of.groups:
        step, size = group[0].step, len(group)
        if clean < WANTED or len(sites) < 2 or step not in steps:
            if not clean or size <= 2 or where is not None or ask.current is not None:
                look(group)
                continue
            first = other_seed % size
            second = (first + 1 + (other_seed >> 32) % (size - 1)) % size
            look((group[first], group[second]))
            if clean < WANTED or len(sites) < 2 or step not in steps:
                look([row for n, row in enumerate(group) if n not in (first, second)])
    found.sort()
    if ask.current is not None:
        _stay(found, ask.current)
    candidates = [Candidate(row.server, row.step, _reason(row, lengths) + why) for _, _, row, why in _chosen(found)]
    return Ranking(candidates, rejected, "NONE" if candidates and candidates[0].server in of.best else _cause(of, state))


def _cause(of: Plan, state: State) -> str:
    """What keeps the first, by name, of the best that hold the title from being the first of the answer. In a site a title is on one."""
    if of.unrouted or not of.best:
        return "ROUTE"
    server = next((server for server in of.best if state.holders is None or state.holders >> server.bit & 1), None)
    if server is None:
        return "CONTENT"
    health = state.health.get(server.oca_id, UNKNOWN)
    if health.state in OUT:
        return "HEALTH"
    if health.state == "DEGRADED":
        return health.cause
    return "LOAD" if health.load > SPILL_FROM else "OTHER"


def unit(seed: int, salt: int) -> float:
    """A number in (0, 1] that a session and a server decide: multiply-shift hashing (Dietzfelbinger et al., 1997), the upper bits of a
    product with an odd number. Of random seeds it is uniform, and of two salts as good as independent."""
    return ((seed * salt & _MASK) + 1) / 2**64


def salt(oca_id: str) -> int:
    """64 bits that belong to a server, the last of them 1."""
    return int.from_bytes(hashlib.blake2b(oca_id.encode(), digest_size=8).digest(), "big") | 1


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Along the great circle (haversine) between two places of latitude and longitude in degrees."""
    (lat_a, lon_a), (lat_b, lon_b) = ((math.radians(lat), math.radians(lon)) for lat, lon in (a, b))
    h = math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(h)))


Found = list[tuple[int, float, Row, str]]
"""Servers that can be answered: what puts them in order, their score among equals (the lower the better), and what is to be said."""


def _reason(row: Row, lengths: Sequence[int]) -> str:
    return "origin: it serves everybody" if row.match < 0 else row.words % lengths[row.match]


def _able(
    health_of: Callable[[str, Health], Health],
    holders: int,
    parents: Callable[[Server], int],
    rows: Sequence[Row],
    rejected: list[Rejected],
) -> list[tuple[Row, Health, bool]]:
    """Those of `rows` that can be answered, and whether each holds the title; the others are added to `rejected`."""
    able = []
    for row in rows:
        health = health_of(row.oca_id, UNKNOWN)
        held = holders & row.mask
        if health.state in OUT:
            rejected.append(Rejected(row.oca_id, row.server.tier, f"health: {health.state}, {health.reason}"))
        elif held or holders & parents(row.server):
            able.append((row, health, held != 0))
        else:
            rejected.append(Rejected(row.oca_id, row.server.tier, "content: it has not got this version"))
    return able


def _predictions(
    of: Plan,
    able: Callable[[Sequence[Row], list[Rejected]], list[tuple[Row, Health, bool]]],
    prefix: str,
    ask: Ask,
    throughput: Throughput,
) -> tuple[dict[str, float], float]:
    """Bit/s by oca_id, of those that can be answered and something is known of; and the highest of them."""
    predicted: dict[str, float] = {}
    if throughput or ask.measured_bps:
        for row, _, _ in (entry for group in of.groups for entry in able(group, [])):
            bps = ask.measured_bps.get(row.oca_id)
            if bps is None:
                bps = throughput.predict_bps(prefix, of.isp_asn, of.region, row.oca_id)
            if bps is not None:
                predicted[row.oca_id] = bps
    return predicted, max((1.0, *predicted.values()))


def _place(server: Server) -> tuple[float, float]:
    return server.latitude_deg, server.longitude_deg


def _steps_away(where: tuple[float, float], server: Server) -> int:
    return int(distance_km(where, _place(server)) / NEARER_KM)


def _stay(found: Found, current: str) -> None:
    """Let a session stay where it is if no other server is better than equal: a flapping order would cost it a switch each time."""
    for n, entry in enumerate(found):
        if entry[2].oca_id == current and entry[0] == found[0][0]:
            found.insert(0, found.pop(n))
            return


def _chosen(found: Found) -> Found:
    """The first `WANTED`, one of a second site, and one for each further step of the fallback chain, in their order."""
    taken = set(range(min(WANTED, len(found))))
    sites = {found[n][2].server.site_id for n in taken}
    steps = {found[n][2].step for n in taken}
    for n in range(len(taken), len(found)):
        key, row = found[n][0], found[n][2]
        if len(sites) < 2 and row.server.site_id not in sites:
            taken.add(n)
            sites.add(row.server.site_id)
            steps.add(row.step)
        elif row.step not in steps and key < _LAST:
            taken.add(n)
            steps.add(row.step)
    return [found[n] for n in sorted(taken)]
