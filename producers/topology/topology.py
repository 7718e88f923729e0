"""The delivery network as a file: regions, sites, ISPs and their prefixes, cache servers and whom each serves. Pure: text in, events out.

docs/edge.md describes it field by field. Everything that is wrong with a file is said at once.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from producers.written import read_yaml
from schemas.network import unfit, window_min

MAX_ASN = 2**32 - 1


class BadTopology(ValueError):
    """A file that describes no network; the message has a line for everything that is wrong."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Region(_Model):
    """Sites with one local time."""

    region: str
    utc_offset_min: int


class Site(_Model):
    """Where servers stand."""

    site_id: str
    region: str
    latitude_deg: float
    longitude_deg: float


class Isp(_Model):
    """An access network and the prefixes of its customers."""

    asn: int = Field(ge=1, le=2**31 - 1)
    prefixes: tuple[str, ...] = Field(min_length=1)


class Serves(_Model):
    """Whom a server serves, all prefixes of an ISP or single ones, and how it reaches them."""

    isp: int | None = None
    prefixes: tuple[str, ...] = ()
    path_class: Literal["EMBEDDED", "PRIVATE_PEERING", "PUBLIC_PEERING", "TRANSIT"]
    as_path: tuple[Annotated[int, Field(ge=1, le=MAX_ASN)], ...] = ()
    med: int = Field(0, ge=0, le=2**32 - 1)


class Server(_Model):
    """A cache server. Without a `url`, oca-<n> is the n-th of `edge.oca_urls`."""

    oca_id: str
    site_id: str
    tier: str
    isp: int | None = None
    url: str | None = None
    egress_bps: int
    disk_bytes: int
    fill_bps: int
    fill_window: str
    """Local time, HH:MM-HH:MM."""
    serves: tuple[Serves, ...] = ()


class _File(_Model):
    regions: tuple[Region, ...]
    sites: tuple[Site, ...]
    isps: tuple[Isp, ...]
    servers: tuple[Server, ...]


@dataclass(frozen=True)
class Topology:
    """A network as events: `delivery.oca` by oca_id, `delivery.route` by route."""

    ocas: Mapping[str, Mapping[str, Any]]
    routes: Mapping[str, Mapping[str, Any]]


def read(text: str, oca_urls: Sequence[str]) -> Topology:
    """The network in a YAML text. Raises BadTopology."""
    told = read_yaml(text, _File, BadTopology)
    wrong = [*_doubled(told), *_dangling(told)]
    isps = {isp.asn: isp for isp in told.isps}
    ocas: dict[str, dict[str, Any]] = {}
    routes: dict[str, dict[str, Any]] = {}
    wrong += [words for isp in told.isps for words in _bad_prefixes(f"ISP {isp.asn}", isp.prefixes)]
    for server in told.servers:
        for serves in server.serves:
            wrong += _bad_prefixes(f"server {server.oca_id}", serves.prefixes)
            for prefix in (*serves.prefixes, *(isps[serves.isp].prefixes if serves.isp in isps else ())):
                route = _route(server, serves, prefix)
                if prefix.endswith("/0") and "EMBEDDED" in (serves.path_class, server.tier.partition("_")[0]):
                    wrong.append(f"server {server.oca_id}: an embedded server serves its own ISP's prefixes, never {prefix}")
                if route["route"] in routes:
                    wrong.append(f"server {server.oca_id}: {prefix} is there twice")
                routes[route["route"]] = route
    regions, sites = {region.region: region for region in told.regions}, {site.site_id: site for site in told.sites}
    for server in told.servers:
        site = sites.get(server.site_id)
        if site is None or site.region not in regions:
            continue  # said above
        window, url = window_min(server.fill_window), server.url or _url(server.oca_id, oca_urls)
        if window is None:
            wrong.append(f"server {server.oca_id}: fill_window {server.fill_window!r}: HH:MM-HH:MM, from 00:00 to 24:00")
        if url is None:
            wrong.append(f"server {server.oca_id}: it has no url, and edge.oca_urls has those of oca-1 to oca-{len(oca_urls)}")
        oca = _oca(server, site, regions[site.region], window or (0, 1), url or f"http://{server.oca_id}")
        wrong += [f"server {server.oca_id}: {words}" for words in unfit(oca)]
        ocas[server.oca_id] = oca
    urls = Counter(oca["url"] for oca in ocas.values())
    wrong += [f"{count} servers have the address {url}" for url, count in urls.items() if count > 1]
    if wrong:
        raise BadTopology("\n".join(wrong))
    return Topology(ocas, routes)


STAND_INS = [f"http://oca-{n}" for n in range(1, 100)]


def local_network(oca_urls: Sequence[str] = STAND_INS) -> Topology:
    """The network of the local stack; without addresses, with some that stand for those that servers will have."""
    return read((files("producers.topology") / "laptop.yaml").read_text(), oca_urls)


def changes(
    now: Topology, ocas: Mapping[str, Mapping[str, Any]], routes: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What has to be told, as (topic, event), to those who know `ocas` and `routes`: what is gone first, then what is new or other."""
    for route, known in routes.items():
        if not known["withdrawn"] and route not in now.routes:
            yield "delivery.route", {**known, "withdrawn": True}
    for oca_id, known in ocas.items():
        if not known["retired"] and oca_id not in now.ocas:
            yield "delivery.oca", {**known, "retired": True}
    yield from (("delivery.oca", oca) for oca_id, oca in now.ocas.items() if ocas.get(oca_id) != oca)
    yield from (("delivery.route", told) for route, told in now.routes.items() if routes.get(route) != told)


def _oca(server: Server, site: Site, region: Region, window_min: tuple[int, int], url: str) -> dict[str, Any]:
    return {
        "oca_id": server.oca_id,
        "site_id": server.site_id,
        "region": site.region,
        "tier": server.tier,
        "isp_asn": server.isp,
        "url": url,
        "egress_bps": server.egress_bps,
        "disk_bytes": server.disk_bytes,
        "fill_bps": server.fill_bps,
        "window_start_min": window_min[0],
        "window_end_min": window_min[1],
        "utc_offset_min": region.utc_offset_min,
        "latitude_deg": site.latitude_deg,
        "longitude_deg": site.longitude_deg,
        "retired": False,
    }


def _url(oca_id: str, oca_urls: Sequence[str]) -> str | None:
    name, _, number = oca_id.partition("-")
    known = name == "oca" and number.isascii() and number.isdigit() and 1 <= int(number) <= len(oca_urls)
    return oca_urls[int(number) - 1] if known else None


def _route(server: Server, serves: Serves, prefix: str) -> dict[str, Any]:
    return {
        "route": f"{server.oca_id} {prefix}",
        "oca_id": server.oca_id,
        "prefix": prefix,
        "path_class": serves.path_class,
        "as_path": list(serves.as_path),
        "med": serves.med,
        "withdrawn": False,
    }


def _doubled(told: _File) -> Iterator[str]:
    """Things that are there twice, each once."""
    named: dict[str, Iterable[object]] = {
        "region": (region.region for region in told.regions),
        "site": (site.site_id for site in told.sites),
        "ISP": (isp.asn for isp in told.isps),
        "server": (server.oca_id for server in told.servers),
    }
    for kind, names in named.items():
        yield from (f"{count} {kind}s are called {name}" for name, count in Counter(names).items() if count > 1)


def _dangling(told: _File) -> Iterator[str]:
    """Names of what is not there."""
    regions, sites, isps = {r.region for r in told.regions}, {s.site_id for s in told.sites}, {i.asn for i in told.isps}
    yield from (f"site {s.site_id}: there is no region {s.region}" for s in told.sites if s.region not in regions)
    for server in told.servers:
        if server.site_id not in sites:
            yield f"server {server.oca_id}: there is no site {server.site_id}"
        wanted = [server.isp, *(serves.isp for serves in server.serves)]
        yield from (
            f"server {server.oca_id}: there is no ISP {isp}" for isp in dict.fromkeys(wanted) if isp is not None and isp not in isps
        )
        if any(serves.isp is None and not serves.prefixes for serves in server.serves):
            yield f"server {server.oca_id}: `serves` names neither an isp nor prefixes"


def _bad_prefixes(whose: str, prefixes: Iterable[str]) -> Iterator[str]:
    for prefix in prefixes:
        try:
            network = ipaddress.ip_network(prefix)
        except ValueError as error:
            yield f"{whose}: {error}"
            continue
        if str(network) != prefix:
            yield f"{whose}: {prefix} is written {network}"
