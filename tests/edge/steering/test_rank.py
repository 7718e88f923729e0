"""Ranking: rule by rule, then what holds for any network, and how load spreads over thousands of sessions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.steering.rank import Ask, Health, Server, State, distance_km, rank
from edge.steering.routes import PathClass
from edge.steering.throughput import Evidence, Throughput, shrunk_bps
from tests.edge.steering.world import ANNOUNCED, HOME, SERVERS, Planned, planned, routes, server

PLAN = planned(routes(*ANNOUNCED), "198.51.100.7", SERVERS)


def of(announced: Any, servers: Mapping[str, Server], client: str = "198.51.100.7") -> Planned:
    return planned(routes(*announced), client, servers)


def order(of: Planned = PLAN, spread: str = "s-1", state: State = State(), **ask: Any) -> list[str]:  # noqa: B008
    return [candidate.server.oca_id for candidate in rank(*of, HOME, Ask(spread, **ask), state)[0]]


def said(of: Planned = PLAN, state: State = State(), spread: str = "s-1", **ask: Any) -> tuple[dict[str, str], dict[str, str]]:  # noqa: B008
    candidates, rejected, _ = rank(*of, HOME, Ask(spread, **ask), state)
    return {c.server.oca_id: c.reason for c in candidates}, {r.oca_id: r.reason for r in rejected}


def firsts(state: State = State(), of: Planned = PLAN, sessions: int = 4_000) -> Counter[str]:  # noqa: B008
    return Counter(order(of, f"s-{n}", state)[0] for n in range(sessions))


def down(*oca_ids: str) -> dict[str, Health]:
    return {oca_id: Health("DOWN", 0.0, "silent for 3 s") for oca_id in oca_ids}


# --- why the best is not the first ---------------------------------------------------------------------------------------------------


def cause(state: State = State(), of: Planned = PLAN) -> str:  # noqa: B008
    return rank(*of, HOME, Ask("s-1"), state).cause


BEST = [server.oca_id for server in PLAN[0].best]


def test_the_best_are_those_equal_by_routing() -> None:
    assert (sorted(BEST), PLAN[0].unrouted, cause()) == (["in-1", "in-2", "in-3", "in-4"], False, "NONE")


def test_a_cause_is_named_where_none_of_the_best_comes_first() -> None:
    others = sum(1 << server.bit for server in SERVERS.values() if server.oca_id not in BEST)
    assert cause(State(down(*BEST))) == "HEALTH"
    assert cause(State({oca_id: Health("DEGRADED", 0.1, "players say so") for oca_id in BEST})) == "HEALTH"
    assert cause(State(dict.fromkeys(BEST, Health("UP", 1.0, "")))) == "LOAD"
    assert cause(State(holders=others)) == "CONTENT"
    assert cause(State(holders=others, parents=lambda server: others)) == "CONTENT", "it would have to pull it"
    assert cause(State(down(*BEST[:-1]))) == "NONE", "one of the best is left"
    assert cause(State({oca_id: Health("DEGRADED", 0.3, "well for 1 s", "LOAD") for oca_id in BEST})) == "LOAD", "it was full a moment ago"
    assert cause(State({oca_id: Health("DEGRADED", 0.9, "it fails") for oca_id in BEST})) == "HEALTH"


def test_of_a_site_in_which_one_server_holds_the_title_that_one_is_why() -> None:
    *others, last = sorted(BEST)
    held = mask(last, "ix-1")
    assert cause(State(holders=held)) == "NONE"
    assert cause(State(down(last), held)) == "HEALTH"
    assert cause(State({last: Health("UP", 1.0, "")}, held)) == "LOAD"
    assert cause(State(down(*others), mask("ix-1"))) == "CONTENT"


def test_a_server_in_the_viewers_isp_that_has_not_announced_the_prefix_is_best_and_missed() -> None:
    servers = {"near": server("near", tier="EMBEDDED_FLASH", isp_asn=64_500), "ix": server("ix", bit=1)}
    announced = [("ix", "198.51.100.0/24", "PRIVATE_PEERING", (64_500,), 0)]
    gone = of(announced, servers)
    assert ([s.oca_id for s in gone[0].best], gone[0].unrouted, cause(of=gone)) == (["near"], True, "ROUTE")
    there = of([*announced, ("near", "198.51.100.0/24", "EMBEDDED", (), 0)], servers)
    assert ([s.oca_id for s in there[0].best], there[0].unrouted, cause(of=there)) == (["near"], False, "NONE")


def test_nor_do_servers_inside_other_isps_or_other_regions_stand_in_for_it() -> None:
    servers = {
        "near": server("near", tier="EMBEDDED_FLASH", isp_asn=64_500),
        "guest": server("guest", tier="EMBEDDED_FLASH", bit=1, isp_asn=64_999, region="eu-north"),
        "ix": server("ix", bit=2),
        "afar": server("afar", tier="EMBEDDED_FLASH", bit=3, isp_asn=64_500, region="us-east"),
    }
    peering = [(name, "198.51.100.0/24", "PRIVATE_PEERING", (64_500,), 0) for name in ("guest", "ix")]
    gone = of(peering, servers)
    assert ([s.oca_id for s in gone[0].best], gone[0].unrouted, cause(of=gone)) == (["near"], True, "ROUTE")
    there = of([*peering, ("near", "198.51.100.0/24", "EMBEDDED", (), 0)], servers)
    assert ([s.oca_id for s in there[0].best], cause(of=there)) == (["near"], "NONE")
    alone = of([("guest", "198.51.100.0/24", "PRIVATE_PEERING", (64_500,), 0)], servers)
    assert ([s.oca_id for s in alone[0].best], cause(of=alone)) == (["guest"], "NONE"), "nothing tells that the viewer is near"


# --- by routing ---------------------------------------------------------------------------------------------------------------------


def test_the_fallback_chain_goes_from_the_viewers_network_outwards() -> None:
    ranked = order()
    inside, outside = [r for r in ranked if r.startswith("in-")], [r for r in ranked if not r.startswith("in-")]
    assert ranked == inside + outside
    assert (len(inside) >= 3, outside) == (True, ["ix-1", "ix-2", "far-1", "origin"])
    assert {SERVERS[oca_id].site_id for oca_id in inside} == {"isp-a", "isp-b"}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (("198.51.100.0/24", "TRANSIT", (1, 2, 3), 9), ("198.51.100.0/23", "PRIVATE_PEERING", (1,), 0)),
        (("198.51.100.0/24", "PRIVATE_PEERING", (1, 2, 3), 9), ("198.51.100.0/24", "PUBLIC_PEERING", (1,), 0)),
        (("198.51.100.0/24", "PUBLIC_PEERING", (1,), 9), ("198.51.100.0/24", "PUBLIC_PEERING", (1, 2), 0)),
        (("198.51.100.0/24", "PUBLIC_PEERING", (1,), 3), ("198.51.100.0/24", "PUBLIC_PEERING", (2,), 4)),
    ],
)
def test_longest_prefix_then_class_then_as_path_then_med(better: Any, worse: Any) -> None:
    for first, second in (("a", "b"), ("b", "a")):
        servers = {name: server(name, bit=n) for n, name in enumerate("ab")}
        assert all(order(of([(first, *better), (second, *worse)], servers), f"s-{n}")[0] == first for n in range(50))


def test_then_the_nearer_site_of_those_that_routing_finds_equal() -> None:
    servers = {"ams": server("ams"), "mad": server("mad", latitude_deg=40.4, longitude_deg=-3.7)}
    equal = of([(name, HOME, "PRIVATE_PEERING", (1,), 0) for name in servers], servers)
    assert {order(equal, f"s-{n}", where=(41.0, -4.0))[0] for n in range(50)} == {"mad"}
    assert {order(equal, f"s-{n}", where=(52.0, 4.0))[0] for n in range(50)} == {"ams"}
    assert {order(equal, f"s-{n}")[0] for n in range(50)} == {"ams", "mad"}, "nobody knows where the client is"
    near = {**servers, "in": server("in", tier="EMBEDDED_FLASH", latitude_deg=40.5)}
    inside = ("in", HOME, "EMBEDDED", (), 0)
    known = of(
        [inside, *((name, HOME, "PRIVATE_PEERING", (1,), 0) for name in servers)], {**near, "in": near["in"]._replace(longitude_deg=-3)}
    )
    assert {order(known, f"s-{n}")[1] for n in range(50)} == {"mad"}, "the embedded server stands where the network is"


def test_a_server_is_ranked_by_its_longest_prefix_only() -> None:
    twice = of([("ix-1", HOME, "TRANSIT", (1, 2), 0), ("ix-1", "198.51.0.0/16", "PRIVATE_PEERING", (1,), 0)], SERVERS)
    assert said(twice)[0]["ix-1"] == "transit by /24, AS path 2, MED 0"


def test_only_who_announced_the_prefix_and_the_origin_are_answered() -> None:
    elsewhere = planned(routes(*ANNOUNCED[:-1]), "203.0.113.1", SERVERS)
    assert order(elsewhere) == ["origin"]
    assert said(elsewhere)[0] == {"origin": "origin: it serves everybody"}


def test_whose_prefix_it_is() -> None:
    assert (PLAN[0].isp_asn, PLAN[0].region) == (64501, "eu-west")
    assert of([ANNOUNCED[4]], SERVERS)[0].isp_asn == 64501, "the last of the AS path"


def test_announcements_that_lead_nowhere_are_rejected_in_words() -> None:
    odd = of([("gone", HOME, "EMBEDDED", (), 0), ("in-1", "0.0.0.0/0", "TRANSIT", (), 0)], SERVERS)
    candidates, rejected = said(odd)
    assert list(candidates) == ["origin"]
    assert rejected["gone"].startswith("route: it announced the prefix, and no such server")
    assert rejected["in-1"] == "route: an embedded server cannot have the default prefix"


# --- by what is known now -----------------------------------------------------------------------------------------------------------


def test_down_and_draining_servers_are_rejected_with_the_reason() -> None:
    health = {**down("in-1"), "in-2": Health("DRAINING", 0.1, "asked to")}
    candidates, rejected = said(state=State(health))
    assert not {"in-1", "in-2"} & candidates.keys()
    assert rejected == {"in-1": "health: DOWN, silent for 3 s", "in-2": "health: DRAINING, asked to"}


def test_a_degraded_server_is_the_last_choice_and_still_one() -> None:
    degraded = {oca_id: Health("DEGRADED", 0.2, "slow") for oca_id in SERVERS if oca_id != "far-1"}
    candidates = said(state=State(degraded))[0]
    assert next(iter(candidates)) == "far-1"
    assert len(candidates) >= 3
    assert all(reason.endswith("; DEGRADED: slow") for oca_id, reason in candidates.items() if oca_id != "far-1")


def mask(*oca_ids: str) -> int:
    return sum(1 << SERVERS[oca_id].bit for oca_id in oca_ids)


def test_who_has_not_got_the_title_is_rejected_or_pulls_where_policy_and_parents_let_it() -> None:
    candidates, rejected = said(state=State(holders=mask("in-2", "far-1", "origin")))
    assert list(candidates) == ["in-2", "far-1", "origin"]
    assert rejected == dict.fromkeys(["in-1", "in-3", "in-4", "ix-1", "ix-2"], "content: it has not got this version")
    pulling = State(holders=mask("in-2", "far-1", "origin"), parents=lambda s: mask("origin") if s.tier == "IX_STORAGE" else 0)
    candidates, rejected = said(state=pulling)
    assert list(candidates) == ["in-2", "far-1", "ix-1", "ix-2", "origin"]
    assert candidates["ix-1"].endswith("; it would have to pull it")
    orphaned = State(holders=mask("in-2"), parents=lambda s: mask("origin"))
    assert list(said(state=orphaned)[0]) == ["in-2"], "a parent that has not got it has nothing to give"


def test_a_server_gives_sessions_away_little_by_little_as_it_fills() -> None:
    one = of([("in-1", HOME, "EMBEDDED", (), 0), ANNOUNCED[4]], SERVERS)
    shares = [firsts(State({"in-1": Health("UP", load, "")}), one)["in-1"] / 4_000 for load in (0.5, 0.8, 0.89, 0.98, 3.0)]
    assert shares == pytest.approx([1, 1, 0.5, 0, 0], abs=0.03)
    assert any("this session is one that spills over" in r for r in said(one, State({"in-1": Health("UP", 0.99, "")}))[0].values())


def test_equals_share_sessions_by_what_they_have_free() -> None:
    servers = {"small": server("small"), "large": server("large", egress_bps=3 * 10**10), "busy": server("busy", egress_bps=4 * 10**10)}
    equal = of([(name, HOME, "PRIVATE_PEERING", (1,), 0) for name in servers], servers)
    shares = firsts(State({"busy": Health("UP", 0.75, "")}), equal)
    assert [shares[name] / 4_000 for name in servers] == pytest.approx([0.2, 0.6, 0.2], abs=0.03)


def test_when_the_first_group_is_gone_its_sessions_spread_over_all_of_the_next() -> None:
    exchange = {f"ix-{n}": server(f"ix-{n}", "ix", bit=10 + n) for n in range(20)}
    announced = [("in-1", HOME, "EMBEDDED", (), 0), ("in-4", HOME, "EMBEDDED", (), 0)]
    announced += [(name, "198.51.0.0/16", "PRIVATE_PEERING", (64501,), 0) for name in exchange]
    wide = of(announced, SERVERS | exchange)
    seconds = Counter(next(oca_id for oca_id in order(wide, f"s-{n}") if oca_id in exchange) for n in range(4_000))
    assert seconds.keys() == exchange.keys()
    assert max(seconds.values()) < 1.4 * 4_000 / 20
    then = firsts(State(down("in-1", "in-4")), wide)
    assert then.keys() == exchange.keys()
    assert max(then.values()) < 1.4 * 4_000 / 20
    only = State(down("in-1", "in-4", *(f"ix-{n}" for n in range(18))))
    assert sorted(order(wide, state=only)[:2]) == ["ix-18", "ix-19"], "of those that were not drawn, too"


def test_a_server_that_goes_moves_its_own_sessions_only_and_spreads_them() -> None:
    before = {f"s-{n}": order(spread=f"s-{n}")[0] for n in range(2_000)}
    after = {sid: order(spread=sid, state=State(down("in-1")))[0] for sid in before}
    assert all(after[sid] == first for sid, first in before.items() if first != "in-1")
    moved = Counter(after[sid] for sid, first in before.items() if first == "in-1")
    assert set(moved) == {"in-2", "in-3", "in-4"}
    assert min(moved.values()) > 0.7 * sum(moved.values()) / 3


def heard(**bps: float) -> Throughput:
    return Throughput(by_prefix={(HOME, name.replace("_", "-")): Evidence(1e6, math.log(value)) for name, value in bps.items()})


def test_a_path_that_is_far_slower_than_another_steps_back_with_both_numbers() -> None:
    candidates = said(state=State(throughput=heard(in_1=2e6, in_2=2e6, in_3=2e6, in_4=2e6, ix_1=20e6)))[0]
    assert next(iter(candidates)) == "ix-1"
    assert candidates["in-1" if "in-1" in candidates else "in-2"].endswith("; throughput: 2.0 Mbit/s where 20.0 can be had")


def test_among_equals_the_faster_path_gets_more_and_not_all() -> None:
    shares = firsts(State(throughput=heard(in_1=20e6, in_2=16e6, in_3=20e6, in_4=20e6)))
    assert shares["in-2"] / shares["in-1"] == pytest.approx(0.8**3, rel=0.2)


def test_what_a_dead_server_could_give_makes_nobody_slow() -> None:
    state = State(down("in-1"), throughput=heard(in_1=100e6, in_2=10e6, in_3=10e6, in_4=10e6))
    assert all("throughput" not in reason for reason in said(state=state)[0].values())


def test_a_session_stays_where_it_is_while_that_is_as_good_as_any() -> None:
    for n in range(50):
        first, second = order(spread=f"s-{n}")[:2]
        assert order(spread=f"s-{n}", current=second)[:2] == [second, first]
    assert order(current="ix-1")[0] != "ix-1", "a step further out is not as good"
    assert order(current="in-1", state=State(down("in-1")))[0] != "in-1"
    assert order(current="in-1", measured_bps={"in-1": 1e6}, state=State(throughput=heard(in_2=9e6)))[0] != "in-1"
    assert order(current="in-1", measured_bps={"in-1": 0.0, "in-2": 0.0})


# --- throughput ---------------------------------------------------------------------------------------------------------------------


def test_few_sessions_of_a_prefix_say_little_and_many_all() -> None:
    isp = Evidence(1e9, math.log(8e6))
    assert shrunk_bps(None, None, None) is None
    assert shrunk_bps(None, isp, None) == pytest.approx(8e6)
    assert shrunk_bps(Evidence(0, 0.0), isp, None) == pytest.approx(8e6)
    assert shrunk_bps(Evidence(8, math.log(2e6)), isp, None) == pytest.approx(4e6), "half way, on the logarithmic scale"
    assert shrunk_bps(Evidence(1e9, math.log(2e6)), isp, Evidence(5, 1.0)) == pytest.approx(2e6, rel=1e-3)


@given(*[st.none() | st.tuples(st.floats(0.1, 1e6), st.floats(8, 22)).map(lambda pair: Evidence(*pair))] * 3)
def test_a_prediction_lies_between_what_was_seen(prefix: Evidence | None, isp: Evidence | None, region: Evidence | None) -> None:
    means = [level.mean_log_bps for level in (prefix, isp, region) if level is not None]
    bps = shrunk_bps(prefix, isp, region)
    assert (bps is None) == (not means)
    assert bps is None or min(means) - 1e-9 <= math.log(bps) <= max(means) + 1e-9


def test_levels_are_looked_up_by_whose_they_are() -> None:
    told = Throughput({}, {(64501, "a"): Evidence(5, math.log(5e6))}, {("eu", "b"): Evidence(5, math.log(7e6))})
    assert [told.predict_bps("p", 64501, "eu", oca_id) for oca_id in "abc"] == [pytest.approx(5e6), pytest.approx(7e6), None]
    assert told.predict_bps("p", None, "us", "b") is None


# --- any network --------------------------------------------------------------------------------------------------------------------

states = st.sampled_from(["UP", "UP", "DEGRADED", "DRAINING", "DOWN"])
tiers = st.sampled_from(["EMBEDDED_FLASH", "IX_STORAGE", "ORIGIN"])
lengths = st.sampled_from([24, 16])
networks = st.lists(
    st.tuples(
        tiers, st.sampled_from("xyz"), st.sampled_from(PathClass), lengths, st.integers(0, 2), states, st.floats(0, 2), st.booleans()
    ),
    max_size=14,
)


@given(networks, st.text(max_size=5))
def test_answers_of_any_network(network: Any, spread: str) -> None:
    servers: dict[str, Server] = {}
    announced, health, held = [], {}, 0
    for n, (tier, site, path_class, length, hops, state, load, holds) in enumerate(network):
        servers[f"o-{n}"] = server(f"o-{n}", site, tier, n)
        announced.append((f"o-{n}", "198.51.0.0/16" if length == 16 else HOME, path_class.name, tuple(range(1, hops + 1)), 0))
        health[f"o-{n}"] = Health(state, load, "")
        held |= holds << n
    candidates, rejected, _ = rank(*of(announced, servers), HOME, Ask(spread), State(health, held))
    able = {name for name in servers if health[name].state in ("UP", "DEGRADED") and held >> servers[name].bit & 1}
    answered = [candidate.server.oca_id for candidate in candidates]
    assert len(set(answered)) == len(answered)
    assert set(answered) <= able
    assert {r.oca_id for r in rejected} <= servers.keys() - able
    assert len(answered) >= min(3, len(able))
    assert len({servers[name].site_id for name in answered}) >= min(2, len({servers[name].site_id for name in able}))
    assert all(r.reason.split(":")[0] in ("content", "health") for r in rejected)
    degraded = [health[name].state == "DEGRADED" for name in answered]
    assert degraded == sorted(degraded)


def test_distances_are_those_of_the_globe() -> None:
    assert distance_km((52.37, 4.9), (51.51, -0.13)) == pytest.approx(358, abs=3)
    assert distance_km((0, 179), (0, -179)) == pytest.approx(222.4, abs=0.5)
    assert distance_km((10, 10), (10, 10)) == 0
