"""What fill plans are made of: facts folded from events, by example; and what a planner tells of its plans."""

from __future__ import annotations

from typing import Any

import pytest

from streams.delivery.fill_facts import AVOIDED_MS, DAY_MS, Facts, Unbelievable, plan_for, window_ms
from streams.delivery.fill_planner import Teller
from streams.delivery.plan import Why, explain

NOW_MS = 20_000 * DAY_MS + 3 * 3_600_000
TODAY = NOW_MS // DAY_MS


def oca(oca_id: str, tier: str = "EMBEDDED_FLASH", region: str = "north", disk_bytes: int = 100, **more: Any) -> dict[str, Any]:
    return {
        "oca_id": oca_id, "site_id": f"site-{oca_id}", "region": region, "tier": tier, "isp_asn": 64500, "url": f"http://{oca_id}",
        "egress_bps": 1, "disk_bytes": disk_bytes, "fill_bps": 8_000, "window_start_min": 0, "window_end_min": 1440, "utc_offset_min": 0,
        "latitude_deg": 0.0, "longitude_deg": 0.0, "retired": False, **more,
    }  # fmt: skip


def published(cid: str, size: int = 40, version: int = 1) -> dict[str, Any]:
    return {"cid": cid, "version": version, "bytes": size}


def demand(cid: str, starts: int, region: str = "north", day: int = TODAY, size: int | None = None) -> dict[str, Any]:
    total = 40 * starts if size is None else size
    return {"item": f"{cid} {region} {day}", "cid": cid, "region": region, "day": day * DAY_MS, "starts": starts, "bytes": total}


def content(oca_id: str, cid: str, held: bool = True, size: int = 40, version: int = 1) -> dict[str, Any]:
    return {"item": f"{oca_id} {cid} {version}", "oca_id": oca_id, "cid": cid, "version": version, "bytes": size, "held": held}


def release(cid: str, in_days: int, **more: Any) -> dict[str, Any]:
    told = {"cid": cid, "unit": cid, "regions": [], "from_time": (TODAY + in_days) * DAY_MS, "expected_plays": None, "premiere": False}
    return {**told, "withdrawn": False, **more}


def facts(**events: list[dict[str, Any]]) -> Facts:
    found = Facts()
    for topic, told in events.items():
        for event in told:
            found.fold(topic.replace("__", "."), event)
    return found


def network(room: int = 1, beside: tuple[dict[str, Any], ...] = (), **events: list[dict[str, Any]]) -> Facts:
    """A storage server, an embedded one that has room for so many of the three titles, and the origin."""
    servers = [oca("ix", "IX_STORAGE", disk_bytes=10_000), oca("in", disk_bytes=50 * room), oca("o", "ORIGIN", "far", disk_bytes=0)]
    titles = [published("a"), published("b"), published("c")]
    return facts(delivery__oca=[*servers, *beside], encoding__published=titles, **events)


def fills(of: Facts, now_ms: int = NOW_MS) -> dict[str, list[tuple[str, str]]]:
    """Units and sources by server."""
    found: dict[str, list[tuple[str, str]]] = {}
    for fill in plan_for(of, now_ms).plan.fills:
        found.setdefault(fill.oca_id, []).append((fill.unit, fill.source))
    return found


def test_what_is_played_goes_to_the_edge_and_everything_to_the_exchange() -> None:
    played = network(2, delivery__demand=[demand("a", 50), demand("b", 9), demand("c", 20)])
    assert fills(played) == {"ix": [("a", "o"), ("c", "o"), ("b", "o")], "in": [("a", "ix"), ("c", "ix")]}
    assert fills(network())["ix"] == [("a", "o"), ("b", "o"), ("c", "o")]
    assert "in" not in fills(network())


def test_what_is_there_stays_and_a_new_version_takes_its_place() -> None:
    there = network(delivery__demand=[demand("a", 50)], delivery__content=[content("ix", cid) for cid in "abc"] + [content("in", "a")])
    assert fills(there) == {}
    there.fold("encoding.published", published("a", 44, version=2))
    made = plan_for(there, NOW_MS).plan
    assert {(gone.oca_id, gone.assets[0], gone.why) for gone in made.evictions} == {(at, ("a", "1"), Why.GONE) for at in ("in", "ix")}
    assert {(fill.oca_id, fill.assets) for fill in made.fills} == {(at, (("a", "2"),)) for at in ("in", "ix")}
    there.fold("encoding.published", published("a", 40, version=1))  # said again, later
    assert plan_for(there, NOW_MS).plan.fills == made.fills


def test_a_premiere_is_there_before_it_is_played_and_until_its_first_day_is_over() -> None:
    played = [demand("a", 50), demand("b", 40)]
    for in_days, is_there in ((9, False), (2, True), (1, True), (0, True)):
        premiere = network(2, delivery__demand=played, delivery__release=[release("c", in_days, premiere=True, expected_plays=1.0)])
        assert (("c", "ix") in fills(premiere)["in"]) is is_there, in_days
    premiere.fold("delivery.release", release("c", 0, premiere=True, withdrawn=True))
    assert ("c", "ix") not in fills(premiere)["in"]


def test_branches_of_an_interactive_title_are_placed_as_one() -> None:
    saga = [release("a", -5, unit="saga"), release("b", -5, unit="saga")]
    made = plan_for(network(2, delivery__demand=[demand("a", 50)], delivery__release=saga), NOW_MS).plan
    assert [fill.assets for fill in made.fills if fill.oca_id == "in"] == [(("a", "1"), ("b", "1"))]
    assert explain(made, "in", "saga").bytes == 80


def test_a_title_that_is_not_offered_in_a_region_is_not_brought_there() -> None:
    made = plan_for(network(delivery__demand=[demand("a", 50)], delivery__release=[release("a", -5, regions=["south"])]), NOW_MS).plan
    assert explain(made, "in", "a").why is Why.REGION


def test_demand_from_where_no_server_stands_counts_where_storage_is() -> None:
    there = network(beside=(oca("lone", region="south", disk_bytes=50),), delivery__demand=[demand("a", 50, region="islands")])
    found = fills(there)
    assert ("a", "ix") in found["in"]
    assert "lone" not in found
    there.fold("delivery.demand", demand("a", 3, region="south"))
    assert fills(there)["lone"] == [("a", "o")]


def test_nobody_fetches_from_a_server_that_is_down_or_failed_lately() -> None:
    there = network(delivery__demand=[demand("a", 50)], delivery__content=[content("ix", cid) for cid in "abc"])
    assert fills(there) == {"in": [("a", "ix")]}
    there.fold("delivery.oca_health", {"oca_id": "ix", "state": "DOWN"})
    assert fills(there) == {"in": [("a", "o")]}
    there.fold("delivery.oca_health", {"oca_id": "ix", "state": "UP"})
    failed = {"oca_id": "in", "kind": "FAILED", "reason": "checksum", "source": "ix", "event_time": NOW_MS}
    there.fold("delivery.fill", failed)
    assert fills(there, NOW_MS + 1_000) == {"in": [("a", "o")]}
    assert fills(there, NOW_MS + AVOIDED_MS) == {"in": [("a", "ix")]}
    there.fold("delivery.fill", {**failed, "source": "o", "event_time": NOW_MS + AVOIDED_MS})
    assert fills(there, NOW_MS + AVOIDED_MS + 1) == {"in": [("a", "ix")]}


@pytest.mark.parametrize(
    ("topic", "event", "words"),
    [
        ("delivery.oca", oca("in", disk_bytes=-1), "disk_bytes -1 is negative"),
        ("encoding.published", published("z", 0), "'z' has 0 bytes"),
        ("delivery.content", content("in", "a", size=-5), "has -5 bytes"),
        ("delivery.demand", demand("a", -3), "-3 starts"),
        ("delivery.release", release("a", 1, expected_plays=float("nan")), "nan plays"),
        ("playback.report", {}, "none of the topics"),
    ],
)
def test_what_cannot_be_true_is_refused_and_changes_nothing(topic: str, event: dict[str, Any], words: str) -> None:
    there = network(delivery__demand=[demand("a", 50)])
    before = fills(there)
    with pytest.raises(Unbelievable, match=words):
        there.fold(topic, event)
    assert fills(there) == before


def test_a_window_is_the_open_one_from_now_on_or_the_next() -> None:
    at = {hour: 20_000 * DAY_MS + hour * 3_600_000 for hour in range(-30, 60)}
    assert window_ms(120, 840, 0, at[3]) == (at[3], at[14])
    assert window_ms(120, 840, 0, at[1]) == (at[2], at[14])
    assert window_ms(120, 840, 0, at[14]) == (at[26], at[38])
    assert window_ms(1320, 240, 0, at[1]) == (at[1], at[4])
    assert window_ms(1320, 240, 0, at[23]) == (at[23], at[28])
    assert window_ms(120, 840, 60, at[1]) == (at[1], at[13])
    assert window_ms(120, 840, -300, at[1]) == (at[7], at[19])
    assert window_ms(0, 1440, 0, at[5]) == (at[5], at[24])


def test_a_plan_is_told_when_it_is_another_one_or_after_a_setback() -> None:
    there, teller = network(delivery__demand=[demand("a", 50)]), Teller()
    first = teller.plans(plan_for(there, NOW_MS), there, NOW_MS)
    assert {event["oca_id"]: len(event["fills"]) for event in first} == {"in": 1, "ix": 3}
    (order,) = next(event["fills"] for event in first if event["oca_id"] == "in")
    assert (order["cid"], order["source"], order["source_url"]) == ("a", "ix", "http://ix")
    assert teller.plans(plan_for(there, NOW_MS + 9_000), there, NOW_MS + 9_000) == []
    there.fold("delivery.fill", {"oca_id": "in", "kind": "FAILED", "reason": "no_room", "source": "ix", "event_time": NOW_MS})
    (again,) = teller.plans(plan_for(there, NOW_MS + 9_000), there, NOW_MS + 9_000)
    assert (again["oca_id"], again["plan_id"]) == ("in", str(NOW_MS + 9_000))
    there.fold("delivery.content", content("in", "a"))
    there.fold("delivery.content", content("in", "a", held=False))  # filled and lost again before the next planning
    assert [event["oca_id"] for event in teller.plans(plan_for(there, NOW_MS), there, NOW_MS)] == ["in"]
    there.fold("delivery.content", content("ix", "a"))
    assert [event["oca_id"] for event in teller.plans(plan_for(there, NOW_MS), there, NOW_MS)] == ["ix"]


def test_reasons_are_told_when_they_change() -> None:
    there, teller = network(delivery__demand=[demand("a", 50)]), Teller()
    told = {event["item"]: event["why"] for event in teller.reasons(plan_for(there, NOW_MS), NOW_MS)}
    assert told["in a"] == "WORTH"
    assert told["in b"] == "CUT"
    assert len(told) == 6
    assert teller.reasons(plan_for(there, NOW_MS + 1), NOW_MS + 1) == []
    there.fold("delivery.content", content("in", "a"))
    changed = {event["item"]: (event["why"], event["source"]) for event in teller.reasons(plan_for(there, NOW_MS), NOW_MS)}
    assert changed == {"in a": ("KEPT", None), "ix a": ("WORTH", "in")}
