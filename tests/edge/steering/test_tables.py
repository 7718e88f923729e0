"""The tables that steering folds: what each takes, what cannot be true, and plans that follow the fleet."""

from __future__ import annotations

import math
from threading import Thread
from typing import Any

import pytest

from edge.steering.rank import Health
from edge.steering.routes import Path, PathClass, Paths, address
from edge.steering.tables import MAX_PLANS, Bits, Contents, Healths, Ocas, Routes, Tables
from streams.folded import Unfit
from tests.edge.steering.test_routes import route

OCA = {
    "oca_id": "oca-1", "site_id": "ams", "region": "eu", "tier": "EMBEDDED_FLASH", "isp_asn": 64501, "url": "http://10.0.0.1:80",
    "egress_bps": 10**10, "disk_bytes": 10**12, "fill_bps": 10**8, "window_start_min": 120, "window_end_min": 840, "utc_offset_min": 60,
    "latitude_deg": 52.4, "longitude_deg": 4.9, "retired": False, "marker": False,
}  # fmt: skip


def ocas(*changes: dict[str, Any]) -> Ocas:
    table = Ocas(Bits())
    for change in changes:
        table.fold({**OCA, **change})
    return table


def health(oca_id: str = "oca-1", state: str = "UP", load: float = 0.5, reason: str = "") -> dict[str, Any]:
    return {
        "marker": False,
        "oca_id": oca_id,
        "state": state,
        "load": load,
        "reason": reason,
        "cause": "NONE" if state == "UP" else "HEALTH",
    }


def content(oca_id: str, held: bool, cid: str = "bbb", version: int = 1) -> dict[str, Any]:
    return {"marker": False, "oca_id": oca_id, "cid": cid, "version": version, "held": held}


def test_a_server_comes_changes_and_goes() -> None:
    table = ocas({}, {"egress_bps": 5})
    assert [server.egress_bps for server in table.table.servers.values()] == [5]
    table.fold({**OCA, "retired": True})
    table.fold({**OCA, "retired": True})
    assert table.table.servers == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"egress_bps": 0}, "egress_bps 0 is not positive"),
        ({"disk_bytes": -1}, "disk_bytes -1 is negative"),
        ({"fill_bps": -1}, "fill_bps"),
        ({"oca_id": "a/b"}, "oca_id: 1 to 64"),
        ({"url": "10.0.0.1:80"}, "no http address"),
        ({"url": "http://[::1"}, "no http address"),
        ({"tier": "MOON"}, "tier 'MOON'"),
        ({"isp_asn": None}, "isp_asn is missing"),
        ({"latitude_deg": math.nan}, "latitude_deg nan"),
        ({"longitude_deg": 181.0}, "longitude_deg"),
        ({"window_start_min": 1440}, "window_start_min"),
        ({"window_end_min": -1}, "window_end_min"),
        ({"utc_offset_min": 900}, "utc_offset_min"),
    ],
)
def test_a_server_that_cannot_be_is_refused_in_words_and_the_known_one_stays(change: dict[str, Any], words: str) -> None:
    table = ocas({})
    before = dict(table.table.servers)
    with pytest.raises(Unfit, match=words):
        table.fold({**OCA, **change})
    assert table.table.servers == before


@pytest.mark.parametrize("change", [{"load": -0.1}, {"load": math.nan}, {"load": math.inf}, {"state": "FINE"}])
def test_health_that_cannot_be_is_refused_and_the_earlier_one_stays(change: dict[str, Any]) -> None:
    table = Healths()
    with pytest.raises(Unfit, match="nothing is known of it"):
        table.fold({**health(), **change})
    table.fold(health(load=1.7, reason="it lies"))
    with pytest.raises(Unfit, match=r"it stays UP at 1\.7"):
        table.fold({**health(), **change})
    assert table.table == {"oca-1": Health("UP", 1.7, "it lies", "NONE")}


def test_a_route_that_cannot_be_is_named() -> None:
    table = Routes()
    with pytest.raises(Unfit, match=r"delivery.route 'oca-1 0.0.0.0/0': .* never the default one"):
        table.fold({"marker": False, **route("oca-1", "0.0.0.0/0", "EMBEDDED")})
    table.fold({"marker": False, **route("oca-1", "10.0.0.0/8")})
    assert len(table.table) == 1


def test_content_is_a_mask_of_servers_and_costs_nothing_when_nobody_has_it() -> None:
    bits = Bits()
    table = Contents(bits)
    for oca_id, held in (("a", True), ("b", True), ("b", True), ("a", False)):
        table.fold(content(oca_id, held))
    assert table.table == {("bbb", 1): 1 << bits["b"]}
    table.fold(content("b", False))
    table.fold(content("c", False, "other"))
    assert table.table == {}


def test_bits_are_one_a_server_whoever_asks_at_once() -> None:
    bits, seen = Bits(), []

    def ask() -> None:
        seen.append([bits[f"oca-{n}"] for n in range(2_000)])

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one == seen[0] for one in seen)
    assert len(set(seen[0])) == 2_000


def test_plans_are_kept_until_the_fleet_changes() -> None:
    tables = Tables()
    tables.routes.fold({"marker": False, **route("oca-1", "10.0.0.0/8", "EMBEDDED")})
    matches = tables.routes.table.lookup(address("10.1.2.3"))
    fleet = tables.ocas.table
    assert [refused.oca_id for refused in fleet.plan(matches).refused] == ["oca-1"]
    tables.ocas.fold(OCA)
    first = fleet.plan(matches)
    assert [row.oca_id for group in first.groups for row in group] == ["oca-1"]
    assert fleet.plan(matches) is first
    tables.ocas.fold({**OCA, "region": "us"})
    assert fleet.plan(matches).region == "us"
    for n in range(MAX_PLANS + 10):
        fleet.plan(((8, Paths((Path("oca-1", PathClass.EMBEDDED, (), n),))),))
    assert len(fleet._plans) <= MAX_PLANS


def test_the_default_prefix_of_one_family_is_not_that_of_the_other() -> None:
    tables = Tables()
    tables.ocas.fold(OCA)
    tables.routes.fold({"marker": False, **route("oca-1", "0.0.0.0/0", "TRANSIT")})
    tables.routes.fold({"marker": False, **route("oca-1", "2001:db8::/32", "TRANSIT")})
    lookup, fleet = tables.routes.table.lookup, tables.ocas.table
    assert [len(fleet.plan(lookup(address(client))).groups) for client in ("192.0.2.1", "2001:db8::1", "192.0.2.1")] == [0, 1, 0]


def test_parents_are_the_exchanges_of_the_region_and_the_origin() -> None:
    kinds = {"in": "EMBEDDED_FLASH", "ix": "IX_STORAGE", "far": "IX_STORAGE", "top": "ORIGIN"}
    fleet = ocas(*({"oca_id": name, "tier": tier, "region": "us" if name == "far" else "eu"} for name, tier in kinds.items())).table
    named = {name: [other for other in kinds if fleet.parents(fleet.servers[name]) >> fleet.servers[other].bit & 1] for name in kinds}
    assert named == {"in": ["ix", "top"], "ix": ["top"], "far": ["top"], "top": []}
    held_by = fleet.servers["in"]
    fleet.remove("ix")
    fleet.remove("top")
    assert fleet.parents(held_by) == 0
    assert not fleet.origins


def test_the_oldest_table_says_how_stale_an_answer_is() -> None:
    now_s = [0.0]
    tables = Tables(healths=Healths(lambda: now_s[0]))
    assert tables.stale_ms == 0
    now_s[0] = 9.0
    assert tables.stale_ms == 9_000
    assert tables.told()["delivery.oca_health"] == {"entries": 0, "complete": False, "age_ms": 9_000, "refused": 0}
