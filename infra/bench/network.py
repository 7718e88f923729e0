"""A delivery network of any size, drawn from a seed: servers, routes, titles, and the questions that are asked of it. Pure.

An ISP announces its aggregates (/14, /32) to the storage servers of its exchanges, and the prefixes of its customers, which lie in them, to
its own servers: that is what makes the longest prefix win. A world file has the fields of `World`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from edge.steering.routes import V4_BITS, V6_BITS, Prefix

DEFAULT = Path(__file__).parent / "worlds" / "steering.json"
V4_AGGREGATE, V6_AGGREGATE = 14, 32
V4_SPECIFIC, V6_SPECIFIC = (19, 20, 21, 22, 23, 24, 24, 24, 24), (36, 40, 44, 48, 48, 48)
SITES_PER_ISP = 2


class World(BaseModel):
    """How large the network is. `prefixes` are those of customers, each announced to `announced_to` of its ISP's servers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    isps: PositiveInt
    embedded_per_isp: PositiveInt
    exchanges: PositiveInt
    storage_per_exchange: PositiveInt
    exchanges_per_isp: PositiveInt
    origins: PositiveInt
    prefixes: PositiveInt
    aggregates_per_isp: PositiveInt
    ipv6_share: float = Field(ge=0, le=1)
    announced_to: PositiveInt
    titles: PositiveInt
    held_share: float = Field(ge=0, le=1)
    """Share of the titles that an embedded server holds; storage servers and origins hold all."""


class Network:
    """The network of a world and a seed; the same for the same two."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        chance = random.Random(f"network/{seed}")
        self._seed = seed
        self._exchanges_of = [
            chance.sample(range(world.exchanges), min(world.exchanges_per_isp, world.exchanges)) for _ in range(world.isps)
        ]
        count = world.isps * world.aggregates_per_isp
        v4, v6 = chance.sample(range(4, 2**V4_AGGREGATE), count), chance.sample(range(0x2A000000, 0x2B000000), count)
        self._v4 = [Prefix(V4_BITS, V4_AGGREGATE, head) for head in v4]
        self._v6 = [Prefix(V6_BITS, V6_AGGREGATE, head) for head in v6]
        self.customers = list(self._customers(chance))
        """(ISP, prefix), each prefix once."""

    def ocas(self) -> Iterator[dict[str, Any]]:
        """Every server as `delivery.oca` has it."""
        chance = random.Random(f"ocas/{self._seed}")
        for isp in range(self.world.isps):
            place = (chance.uniform(-55, 65), chance.uniform(-180, 180))
            for n in range(self.world.embedded_per_isp):
                yield self._oca(f"in-{isp}-{n}", f"isp-{isp}-{n % SITES_PER_ISP}", "EMBEDDED_FLASH", 64_512 + isp, 18 * 10**9, place)
        for exchange in range(self.world.exchanges):
            place = (chance.uniform(-55, 65), chance.uniform(-180, 180))
            for n in range(self.world.storage_per_exchange):
                yield self._oca(f"ix-{exchange}-{n}", f"ix-{exchange}", "IX_STORAGE", None, 96 * 10**9, place)
        for n in range(self.world.origins):
            yield self._oca(f"origin-{n}", f"origin-{n}", "ORIGIN", None, 400 * 10**9, (50.0, 8.0))

    def routes(self) -> Iterator[dict[str, Any]]:
        """Every route as `delivery.route` has it."""
        world = self.world
        for n, to in enumerate((*self._v4, *self._v6)):
            isp = n % len(self._v4) // world.aggregates_per_isp
            for at, exchange in enumerate(self._exchanges_of[isp]):
                for server in range(world.storage_per_exchange):
                    yield _route(f"ix-{exchange}-{server}", to, "PUBLIC_PEERING" if at else "PRIVATE_PEERING", [64_512 + isp])
        for n, (isp, to) in enumerate(self.customers):
            first = n % world.embedded_per_isp
            for server in range(min(world.announced_to, world.embedded_per_isp)):
                yield _route(f"in-{isp}-{(first + server) % world.embedded_per_isp}", to, "EMBEDDED", [])

    def published(self) -> Iterator[dict[str, Any]]:
        """Every title as `encoding.published` has it."""
        for n in range(self.world.titles):
            below = f"tt-{n}/v1"
            paths = {"dash_path": f"{below}/manifest.mpd", "hls_path": f"{below}/master.m3u8"}
            yield {"cid": f"tt-{n}", "version": 1, "title": f"Title {n}", "duration_ms": 1, "rungs": 1, "bytes": 1, "sha256": "", **paths}

    def holders(self) -> Iterator[tuple[str, list[bool]]]:
        """Each title, and which of the servers, in the order of `ocas`, hold it."""
        world, chance = self.world, random.Random(f"holders/{self._seed}")
        embedded, others = world.isps * world.embedded_per_isp, world.exchanges * world.storage_per_exchange + world.origins
        for n in range(world.titles):
            bits = chance.getrandbits(embedded * 8)  # a byte a server: 256 steps are fine enough
            limit = round(world.held_share * 256)
            yield f"tt-{n}", [byte < limit for byte in bits.to_bytes(embedded, "little")] + [True] * others

    def client(self, chance: random.Random) -> str:
        """The address of a customer."""
        _, to = self.customers[chance.randrange(len(self.customers))]
        host = chance.getrandbits(to.bits - to.length)
        return str(Prefix(to.bits, to.bits, to.head << to.bits - to.length | host)).partition("/")[0]

    def _customers(self, chance: random.Random) -> Iterator[tuple[int, Prefix]]:
        seen: set[Prefix] = set()
        while len(seen) < self.world.prefixes:
            v6 = chance.random() < self.world.ipv6_share
            n = chance.randrange(len(self._v4))
            inside, lengths = (self._v6[n], V6_SPECIFIC) if v6 else (self._v4[n], V4_SPECIFIC)
            length = chance.choice(lengths)
            more = length - inside.length
            to = Prefix(inside.bits, length, inside.head << more | chance.getrandbits(more))
            if to not in seen:
                seen.add(to)
                yield n // self.world.aggregates_per_isp, to

    @staticmethod
    def _oca(oca_id: str, site_id: str, tier: str, asn: int | None, egress_bps: int, place: tuple[float, float]) -> dict[str, Any]:
        return {
            "oca_id": oca_id, "site_id": site_id, "region": "world", "tier": tier, "isp_asn": asn, "url": f"http://{oca_id}.example:80",
            "egress_bps": egress_bps, "disk_bytes": 10**14, "fill_bps": 10**9, "window_start_min": 120, "window_end_min": 840,
            "utc_offset_min": 0, "latitude_deg": place[0], "longitude_deg": place[1], "retired": False,
        }  # fmt: skip


def _route(oca_id: str, to: Prefix, path_class: str, as_path: list[int]) -> dict[str, Any]:
    told = {"route": f"{oca_id} {to}", "oca_id": oca_id, "prefix": str(to), "path_class": path_class, "as_path": as_path}
    return {**told, "med": 0, "withdrawn": False}


def read(path: Path | None) -> World:
    """A world file. Raises OSError, ValidationError."""
    return World.model_validate_json((path or DEFAULT).read_text())
