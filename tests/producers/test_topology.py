"""The delivery network as a file: everything wrong with it said at once, and only what differs told to the backbone."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from producers.emit import Emitter
from producers.players.population import NETWORKS, REGIONS, viewer
from producers.standing import standing
from producers.topology.publish import publish
from producers.topology.topology import BadTopology, Topology, changes, read
from schemas.catalogue import catalogue
from tests.broker import FakeRegistry, MockCluster

LAPTOP = (files("producers.topology") / "laptop.yaml").read_text()
OCA_URLS = [f"http://127.0.0.1:{port}" for port in (8101, 8102, 8103, 8104)]


def small(**changes: Any) -> dict[str, Any]:
    server = {
        "oca_id": "in", "site_id": "a", "tier": "EMBEDDED_FLASH", "isp": 64501, "url": "http://in:80", "egress_bps": 1, "disk_bytes": 1,
        "fill_bps": 1, "fill_window": "22:00-04:30", "serves": [{"isp": 64501, "path_class": "EMBEDDED"}],
    }  # fmt: skip
    return {
        "regions": [{"region": "eu", "utc_offset_min": 60}],
        "sites": [{"site_id": "a", "region": "eu", "latitude_deg": 1.0, "longitude_deg": 2.0}],
        "isps": [{"asn": 64501, "prefixes": ["192.0.2.0/24", "2001:db8::/32"]}],
        "servers": [{**server, **changes}],
    }


def of(told: Any) -> Topology:
    return read(yaml.safe_dump(told), OCA_URLS)


def test_the_laptops_own_file_serves_every_viewer_of_the_demo() -> None:
    laptop = read(LAPTOP, OCA_URLS)
    assert [oca["url"] for oca in laptop.ocas.values()] == OCA_URLS
    told = yaml.safe_load(LAPTOP)
    assert {isp["asn"] for isp in told["isps"]} == {*NETWORKS, 64500}
    assert {region["region"] for region in told["regions"]} == set(REGIONS)
    prefixes = [ipaddress.ip_network(prefix) for isp in told["isps"] for prefix in isp["prefixes"]]
    for who in (viewer(number, seed=1).device for number in range(200)):
        (home,) = [prefix for prefix in prefixes if ipaddress.ip_address(who.address) in prefix]
        isp = next(isp for isp in told["isps"] if str(home) in isp["prefixes"])
        assert (isp["asn"], isp["prefixes"].index(str(home))) == (who.asn, REGIONS.index(who.region))
    by_prefix: dict[str, set[str]] = {}
    for route in laptop.routes.values():
        by_prefix.setdefault(route["prefix"], set()).add(route["oca_id"])
    assert all(len(by_prefix[prefix]) >= 2 for isp in told["isps"] for prefix in isp["prefixes"])


def test_a_server_and_its_routes_as_events() -> None:
    topology = of(small())
    assert topology.ocas["in"] == {
        "oca_id": "in", "site_id": "a", "region": "eu", "tier": "EMBEDDED_FLASH", "isp_asn": 64501, "url": "http://in:80", "egress_bps": 1,
        "disk_bytes": 1, "fill_bps": 1, "window_start_min": 1320, "window_end_min": 270, "utc_offset_min": 60, "latitude_deg": 1.0,
        "longitude_deg": 2.0, "retired": False,
    }  # fmt: skip
    assert topology.routes.keys() == {"in 192.0.2.0/24", "in 2001:db8::/32"}
    assert topology.routes["in 192.0.2.0/24"] == {
        "route": "in 192.0.2.0/24", "oca_id": "in", "prefix": "192.0.2.0/24", "path_class": "EMBEDDED", "as_path": [], "med": 0,
        "withdrawn": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (
            small(egress_bps=-1, disk_bytes=-5, fill_window="25:00-03:00"),
            ["fill_window '25:00-03:00': HH:MM-HH:MM", "egress_bps -1", "disk_bytes -5"],
        ),
        (small(egress_bps=-1, disk_bytes=-5), ["egress_bps -1 is not positive", "disk_bytes -5 is negative"]),
        (small(fill_window="02:00-02:00"), ["the fill window ends in the minute in which it starts"]),
        (small(fill_window="nightly"), ["fill_window 'nightly'"]),
        (small(tier="MOON"), ["tier 'MOON' is none"]),
        (small(isp=None), ["isp_asn is missing"]),
        (small(site_id="b"), ["server in: there is no site b"]),
        (small(isp=7, serves=[{"isp": 8, "path_class": "EMBEDDED"}]), ["there is no ISP 7", "there is no ISP 8"]),
        (small(serves=[{"path_class": "EMBEDDED"}]), ["names neither an isp nor prefixes"]),
        (small(serves=[{"path_class": "WIRE"}]), ["servers.0.serves.0.path_class"]),
        (small(serves=[{"prefixes": ["0.0.0.0/0"], "path_class": "TRANSIT"}]), ["never 0.0.0.0/0"]),
        (small(tier="IX_STORAGE", serves=[{"prefixes": ["::/0"], "path_class": "EMBEDDED"}]), ["never ::/0"]),
        (small(serves=[{"prefixes": ["192.0.2.1/24", "x"], "path_class": "TRANSIT"}]), ["192.0.2.1/24 has host bits set", "'x' does not"]),
        (small(serves=[{"prefixes": ["2001:DB8::/32"], "path_class": "TRANSIT"}]), ["2001:DB8::/32 is written 2001:db8::/32"]),
        (small(serves=[{"isp": 64501, "path_class": "TRANSIT", "as_path": [0]}]), ["as_path.0"]),
        (small(serves=[{"isp": 64501, "prefixes": ["192.0.2.0/24"], "path_class": "TRANSIT"}]), ["192.0.2.0/24 is there twice"]),
        (small(url=None), ["it has no url, and edge.oca_urls has those of oca-1 to oca-4"]),
        (small(oca_id="oca-5", url=None), ["oca-1 to oca-4"]),
        (small(oca_id="a b"), ["oca_id: 1 to 64"]),
        ({**small(), "servers": small()["servers"] * 2}, ["2 servers are called in"]),
        ({**small(), "servers": [*small()["servers"], *small(oca_id="other")["servers"]]}, ["2 servers have the address http://in:80"]),
        ({**small(), "sites": []}, ["there is no site a"]),
        ({**small(), "regions": []}, ["there is no region eu"]),
        ({**small(), "isps": [{"asn": 64501, "prefixes": []}]}, ["isps.0.prefixes"]),
        ({**small(), "moons": 1}, ["moons: Extra inputs"]),
        ([], ["the file"]),
    ],
)
def test_a_file_that_describes_no_network_is_refused_with_all_that_is_wrong(told: Any, words: list[str]) -> None:
    with pytest.raises(BadTopology) as refusal:
        of(told)
    assert [one for one in words if one not in str(refusal.value)] == []


def test_what_is_no_yaml_is_refused() -> None:
    with pytest.raises(BadTopology, match="this is no YAML"):
        read("a: [", OCA_URLS)


names = st.sampled_from(["a", "b", "c", "d"])
networks = st.builds(
    lambda ocas, routes: Topology(
        {name: {"oca_id": name, "egress_bps": bps, "retired": False} for name, bps in ocas.items()},
        {f"{name} p": {"route": f"{name} p", "med": med, "withdrawn": False} for name, med in routes.items()},
    ),
    st.dictionaries(names, st.integers(1, 2)),
    st.dictionaries(names, st.integers(0, 1)),
)


@given(st.lists(networks, min_size=1, max_size=4))
def test_whoever_folds_the_changes_knows_the_network_and_hears_nothing_twice(history: list[Topology]) -> None:
    ocas: dict[str, Mapping[str, Any]] = {}
    routes: dict[str, Mapping[str, Any]] = {}
    for topology in history:
        for topic, event in changes(topology, ocas, routes):
            known, key = (ocas, event["oca_id"]) if topic == "delivery.oca" else (routes, event["route"])
            assert known.get(key) != event
            known[key] = event
        assert {key: event for key, event in ocas.items() if not event["retired"]} == topology.ocas
        assert {key: event for key, event in routes.items() if not event["withdrawn"]} == topology.routes
    assert list(changes(history[-1], ocas, routes)) == []


def test_it_is_published_once_and_what_is_gone_is_retired_and_withdrawn(cluster: MockCluster, registry: FakeRegistry) -> None:
    topics = [catalogue().topic(name) for name in ("delivery.oca", "delivery.route")]
    with Emitter("topology", registry=registry) as emitter:
        for topic in topics:
            emitter.mark(topic.name)  # the mock broker makes a topic when somebody writes to it
        emitter.flush()
        assert publish(of(small()), emitter, registry.schema) == {"servers told": 1, "routes told": 2}
        assert publish(of(small()), emitter, registry.schema) == {}
        other = of(small(oca_id="out", serves=[{"prefixes": ["192.0.2.0/24"], "path_class": "EMBEDDED"}]))
        told = publish(other, emitter, registry.schema)
        assert told == {"servers told": 1, "servers retired": 1, "routes told": 1, "routes withdrawn": 2}
        ocas, routes = (standing(topic, registry.schema) for topic in topics)
    assert {oca_id: oca["retired"] for oca_id, oca in ocas.items()} == {"in": True, "out": False}
    assert {route for route, told in routes.items() if not told["withdrawn"]} == {"out 192.0.2.0/24"}
