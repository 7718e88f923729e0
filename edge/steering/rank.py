"""Which cache servers a play is sent to, in which order, and why each is where it is. Pure.

A client may use the servers that announced a prefix it lies in, and the origin. They are ordered by longest prefix, path class, length of
the AS path and MED (Open Connect), then by distance; what is equal after that shares the load by weighted rendezvous hashing (Schindelhauer
and Schomaker, "Weighted Distributed Hash Tables", 2005): a session's order stays when it asks again, another session has another one, and
a server that goes or comes moves its own sessions only. Its weight is what a server has free of its egress, times how its predicted
throughput compares with the best one's. So nobody is everybody's best, and a server fills up as the others do.

A server is not taken that is DOWN or DRAINING, or has not got the title and may not pull it. It steps back behind all that do not: when its
load comes near its egress (for a growing share of sessions, so that they do not all leave at once), when its throughput is predicted to be
far below the best one's, when it would have to pull the title; behind the origin when it is DEGRADED.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from edge.steering.routes import Match, PathClass
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
"""A server's place in routing, the lower the better: origin or not, less the prefix length, path class, length of the AS path, MED."""
NOWHERE = (1, 1, 0, 0, 0)
"""That of an origin that has announced nothing of the client's."""


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
    """What is thought of a server: UP, DEGRADED, DRAINING or DOWN, the share of its egress in use, and why."""

    state: str
    load: float
    reason: str


UNKNOWN = Health("UP", 0.0, "")
"""Of whom nothing has been said: there is no reason not to try."""


class Row(NamedTuple):
    """A server on a client's routes, with what does not depend on who asks. Rows of one `group` are equal in routing."""

    server: Server
    step: int
    group: int
    far: int
    """Steps of `NEARER_KM` from the network's home; 0 where it has none."""
    reason: str


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

    rows: tuple[Row, ...]
    refused: tuple[Rejected, ...]
    isp_asn: int | None
    region: str
    best: tuple[str, ...]
    """The servers that are best by routing, by oca_id: what another one serves is a miss."""
    unrouted: bool
    """The best stand in the client's ISP and region, and have not announced its prefix."""


@dataclass(frozen=True)
class Ask:
    """What is particular to one question. `spread` is what sessions are told apart by: the sid, or what stands for it."""

    spread: str
    where: tuple[float, float] | None = None
    """Latitude and longitude of the client, if known."""
    current: str | None = None
    """The server that the session uses now."""
    measured_bps: Mapping[str, float] = field(default_factory=dict)
    """What it got of late, by oca_id."""


@dataclass(frozen=True)
class State:
    """What is known of the servers now."""

    health: Mapping[str, Health] = field(default_factory=dict)
    holders: int | None = None
    """Mask of the servers that hold the title version; None: nobody says what it holds, and whoever is asked must see."""
    parents: Callable[[Server], int] = lambda _: 0
    """Mask of the servers that a server may pull from."""
    throughput: Throughput = field(default_factory=Throughput)


def plan(matches: Sequence[Match], servers: Mapping[str, Server], origins: Collection[Server]) -> Plan:
    """The order of the servers that announced what an address lies in, by routing alone; the same for all with these `matches`."""
    seen: dict[str, tuple[Key, Server, str]] = {}
    refused: dict[str, Rejected] = {}
    isp_asn: int | None = None
    inside: list[tuple[float, float]] = []
    for length, paths in matches:
        for path in paths.paths:
            server = servers.get(path.oca_id)
            if server is None:
                refused[path.oca_id] = Rejected(path.oca_id, "", "route: it announced the prefix, and no such server is installed")
            elif length == 0 and server.tier == EMBEDDED:
                refused[path.oca_id] = Rejected(path.oca_id, server.tier, "route: an embedded server cannot have the default prefix")
            elif path.oca_id not in seen:
                if not seen:
                    isp_asn = path.as_path[-1] if path.as_path else server.isp_asn
                if length == matches[0][0] and path.path_class is PathClass.EMBEDDED:
                    inside.append(_place(server))
                key = (int(server.tier == ORIGIN), -length, int(path.path_class), len(path.as_path), path.med)
                words = f"{STEPS[path.path_class]} by /{length}, AS path {len(path.as_path)}, MED {path.med}"
                seen[path.oca_id] = (key, server, words)
    for server in origins:
        seen.setdefault(server.oca_id, (NOWHERE, server, "origin: it serves everybody"))
    at_home = bool(inside) and all(distance_km(inside[0], place) < NEARER_KM for place in inside)
    rows: list[Row] = []
    group = -1
    last: Key | None = None
    for key, server, words in sorted(seen.values(), key=lambda entry: (entry[0], entry[1].oca_id)):
        group += key != last
        last = key
        far = _steps_away(inside[0], server) if at_home else 0
        rows.append(Row(server, len(STEPS) - 1 if key[0] else key[2], group, far, words))
    refusals = tuple(refusal for oca_id, refusal in refused.items() if oca_id not in seen)
    region = rows[0].server.region if rows else ""
    unrouted = () if isp_asn is None or any(row.server.tier == EMBEDDED for row in rows) else _embedded(servers, isp_asn, region)
    best = unrouted or tuple(row.server.oca_id for row in rows if row.group == 0)
    return Plan(tuple(rows), refusals, isp_asn, region, best, bool(unrouted))


def _embedded(servers: Mapping[str, Server], isp_asn: int, region: str) -> tuple[str, ...]:
    """The servers inside an ISP in a region, by oca_id."""
    inside = (s.oca_id for s in servers.values() if s.tier == EMBEDDED and s.isp_asn == isp_asn and s.region == region)
    return tuple(sorted(inside))


def rank(of: Plan, prefix: str, ask: Ask, state: State) -> Ranking:
    """The servers for one play, best first: `WANTED` and of two sites where there are, one for each further step of the fallback chain."""
    able, rejected = _able(of, state)
    predicted = _predictions(of, able, prefix, ask, state.throughput)
    best_bps = max((1.0, *predicted.values()))
    seed = int.from_bytes(hashlib.blake2b(ask.spread.encode("utf-8", "replace"), digest_size=8).digest(), "big")
    found: Found = []
    causes = {refusal.oca_id: refusal.reason.partition(":")[0].upper() for refusal in rejected}
    for row, health, held in able:
        server, load = row.server, health.load
        back, why, weight = 0, "", server.egress_bps * max(LEAST_FREE, 1.0 - load)
        if not held:
            back, why, causes[server.oca_id] = 2, "; it would have to pull it", "CONTENT"
        elif load > SPILL_FROM and unit(~seed & _MASK, server.salt) < (load - SPILL_FROM) / (SPILL_TO - SPILL_FROM):
            back, why, causes[server.oca_id] = 1, f"; load {load:.2f}: this session is one that spills over", "LOAD"
        if predicted and (bps := predicted.get(server.oca_id)) is not None:
            weight *= (max(1.0, bps) / best_bps) ** SHARPNESS
            if not back and bps < SLOW * best_bps:
                back, why = 1, f"; throughput: {bps / 1e6:.1f} Mbit/s where {best_bps / 1e6:.1f} can be had"
        last = health.state == "DEGRADED"
        if last:
            causes[server.oca_id] = "LOAD" if load > SPILL_FROM else "HEALTH"
            why += f"; DEGRADED: {health.reason}"
        far = row.far if ask.where is None else _steps_away(ask.where, server)
        key = (last, server.tier == ORIGIN, back, row.group, far)
        found.append((key, -math.log(unit(seed, server.salt)) / weight, row, why))
    found.sort(key=_by_key_and_score)
    if ask.current is not None:
        _stay(found, ask.current)
    cause = "NONE"
    if not found or found[0][2].server.oca_id not in of.best:
        cause = "ROUTE" if of.unrouted else next((causes[oca_id] for oca_id in of.best if oca_id in causes), "OTHER")
    return Ranking([Candidate(row.server, row.step, row.reason + why) for _, _, row, why in _chosen(found)], rejected, cause)


def unit(seed: int, salt: int) -> float:
    """A number in (0, 1] that the two decide: the finaliser of SplitMix64 (Steele et al., 2014)."""
    x = seed ^ salt
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _MASK
    return ((x ^ x >> 31) + 1) / 2**64


def salt(oca_id: str) -> int:
    """64 bits that belong to a server."""
    return int.from_bytes(hashlib.blake2b(oca_id.encode(), digest_size=8).digest(), "big")


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Along the great circle (haversine) between two places of latitude and longitude in degrees."""
    (lat_a, lon_a), (lat_b, lon_b) = ((math.radians(lat), math.radians(lon)) for lat, lon in (a, b))
    h = math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(h)))


Found = list[tuple[tuple[bool, bool, int, int, int], float, Row, str]]
"""Servers that can be answered: what puts them in order, their score among equals (the lower the better), and what is to be said."""
_by_key_and_score = itemgetter(0, 1)


def _able(of: Plan, state: State) -> tuple[list[tuple[Row, Health, bool]], list[Rejected]]:
    """The servers that can be answered, whether each holds the title, and those that cannot."""
    able, rejected = [], list(of.refused)
    health_of, holders = state.health.get, state.holders
    for row in of.rows:
        server = row.server
        health = health_of(server.oca_id, UNKNOWN)
        held = holders is None or bool(holders >> server.bit & 1)
        if health.state in ("DOWN", "DRAINING"):
            rejected.append(Rejected(server.oca_id, server.tier, f"health: {health.state}, {health.reason}"))
        elif not held and not (holders or 0) & state.parents(server):
            rejected.append(Rejected(server.oca_id, server.tier, "content: it has not got this version"))
        else:
            able.append((row, health, held))
    return able, rejected


def _predictions(of: Plan, able: Sequence[tuple[Row, Health, bool]], prefix: str, ask: Ask, throughput: Throughput) -> dict[str, float]:
    """Bit/s by oca_id, of those that something is known of."""
    predicted: dict[str, float] = {}
    if throughput:
        for row, _, _ in able:
            bps = throughput.predict_bps(prefix, of.isp_asn, of.region, row.server.oca_id)
            if bps is not None:
                predicted[row.server.oca_id] = bps
    if ask.measured_bps:
        predicted.update({row.server.oca_id: bps for row, _, _ in able if (bps := ask.measured_bps.get(row.server.oca_id)) is not None})
    return predicted


def _place(server: Server) -> tuple[float, float]:
    return server.latitude_deg, server.longitude_deg


def _steps_away(where: tuple[float, float], server: Server) -> int:
    return int(distance_km(where, _place(server)) / NEARER_KM)


def _stay(found: Found, current: str) -> None:
    """Let a session stay where it is if no other server is better than equal: a flapping order would cost it a switch each time."""
    for n, entry in enumerate(found):
        if entry[2].server.oca_id == current and entry[0] == found[0][0]:
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
        elif row.step not in steps and not key[0]:
            taken.add(n)
            steps.add(row.step)
    return [found[n] for n in sorted(taken)]
