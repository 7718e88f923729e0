"""A small network for tests: one ISP with two embedded sites, an exchange, a transit provider and an origin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.steering.rank import Plan, Server, plan, salt
from edge.steering.routes import Path, PathClass, RouteTable, address, prefix

HOME = "198.51.100.0/24"


def server(oca_id: str, site_id: str = "", tier: str = "IX_STORAGE", bit: int = 0, **other: Any) -> Server:
    told = {
        "region": "eu-west",
        "isp_asn": None,
        "url": f"http://{oca_id}:80",
        "egress_bps": 10**10,
        "latitude_deg": 52.0,
        "longitude_deg": 5.0,
    }
    return Server(oca_id=oca_id, site_id=site_id or oca_id, tier=tier, bit=bit, salt=salt(oca_id), **{**told, **other})


SERVERS = {
    server.oca_id: server
    for server in (
        server("in-1", "isp-a", "EMBEDDED_FLASH", 0, isp_asn=64501),
        server("in-2", "isp-a", "EMBEDDED_FLASH", 1, isp_asn=64501),
        server("in-3", "isp-a", "EMBEDDED_FLASH", 2, isp_asn=64501),
        server("in-4", "isp-b", "EMBEDDED_FLASH", 3, isp_asn=64501),
        server("ix-1", "ams-ix", bit=4),
        server("ix-2", "lon-ix", bit=5, latitude_deg=51.5, longitude_deg=-6.0),
        server("far-1", "transit", bit=6),
        server("origin", "origin", "ORIGIN", 7),
    )
}


def routes(*announced: tuple[str, str, str, tuple[int, ...], int]) -> RouteTable:
    table = RouteTable()
    for oca_id, to, path_class, as_path, med in announced:
        table.announce(prefix(to), Path(oca_id, PathClass[path_class], as_path, med))
    return table


ANNOUNCED = (
    *((oca_id, HOME, "EMBEDDED", (), 0) for oca_id in ("in-1", "in-2", "in-3", "in-4")),
    ("ix-1", "198.51.0.0/16", "PRIVATE_PEERING", (64501,), 0),
    ("ix-2", "198.51.0.0/16", "PUBLIC_PEERING", (64501,), 0),
    ("far-1", "0.0.0.0/0", "TRANSIT", (64700, 64501), 0),
)


Planned = tuple[Plan, list[int]]
"""A plan, and the lengths of the prefixes that it is for."""


def planned(table: RouteTable, client: str, servers: Mapping[str, Server]) -> Planned:
    matches = table.lookup(address(client))
    lengths = [length for length, _ in matches]
    origins = [server for server in servers.values() if server.tier == "ORIGIN"]
    return plan([paths for _, paths in matches], lengths[-1:] == [0], servers, origins), lengths
