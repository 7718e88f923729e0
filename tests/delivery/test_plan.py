"""Fill plans: what goes where, from whom and why, by example; limits, atomic units and determinism by property, judged by the checker."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.delivery.demand import Expected
from streams.delivery.plan import HOT_SHARE, LOAD_SLACK, ORIGIN, Asset, BadPlan, Eviction, Held, Oca, Plan, Tier, Why, explain, plan
from streams.delivery.plan_check import check

HOUR_MS = 3_600_000
EVERYWHERE = frozenset({"north", "south"})


def asset(unit: str, size: int = 10, cid: str | None = None, regions: frozenset[str] = EVERYWHERE) -> Asset:
    return Asset(cid or unit, "1", regions, size, unit)


def flash(oca_id: str, disk: int = 100, site: str = "isp", region: str = "north", bps: int = 8_000, hours: int = 1) -> Oca:
    """A server that fetches a thousand bytes a second."""
    return Oca(oca_id, site, region, Tier.EMBEDDED_FLASH, disk, bps, 2 * HOUR_MS, (2 + hours) * HOUR_MS)


def storage(oca_id: str, disk: int = 10_000, site: str = "ix", region: str = "north") -> Oca:
    return replace(flash(oca_id, disk, site, region), tier=Tier.IX_STORAGE)


def worth(**plays: float) -> dict[str, Expected]:
    """Demand for units of ten bytes that a play is served whole."""
    return {unit: Expected(count, 10 * count) for unit, count in plays.items()}


def holds(*units: str, size: int = 10) -> dict[tuple[str, str], int]:
    return {(unit, "1"): size for unit in units}


def made(assets: list[Asset], demand: dict[str, Expected], ocas: list[Oca], held: Held, **more: float) -> Plan:
    """A plan for two regions of one demand that has passed the check."""
    found = plan(assets, {"north": demand, "south": demand}, ocas, held, **more)
    check(found, assets, ocas, held)
    return found


def after(found: Plan, held: Held, oca_id: str) -> set[str]:
    """The assets' cids that a server has in the end."""
    there = {key[0] for key in held.get(oca_id, {})}
    there -= {key[0] for gone in found.evictions if gone.oca_id == oca_id for key in gone.assets}
    return there | {key[0] for fill in found.fills if fill.oca_id == oca_id for key in fill.assets}


def test_the_most_served_byte_comes_first() -> None:
    assets = [asset("a", 10), asset("b", 40), asset("c", 10), asset("d", 90)]
    demand = {"a": Expected(1, 20), "b": Expected(9, 90), "c": Expected(5, 10), "d": Expected(50, 500)}
    found = made(assets, demand, [flash("o", 100)], {})
    assert [fill.unit for fill in found.fills] == ["d", "a"]
    assert found.fills[0].rank == 1
    assert explain(found, "o", "b").why is Why.CUT


def test_a_newcomer_replaces_only_what_it_beats_by_the_margin() -> None:
    assets, held = [asset("old"), asset("new")], {"o": holds("old")}
    close = made(assets, worth(old=10, new=11), [flash("o", 10)], held, margin=0.2)
    assert (close.fills, close.evictions) == ((), ())
    far = made(assets, worth(old=10, new=12.1), [flash("o", 10)], held, margin=0.2)
    assert after(far, held, "o") == {"new"}
    assert far.evictions == (Eviction("o", "old", (("old", "1"),), far.fills[0].start_ms, Why.REPLACED),)


def test_nothing_is_evicted_before_its_room_is_needed() -> None:
    assets, held = [asset(unit) for unit in "abcx"], {"o": holds("a", "b", "x")}
    found = made(assets, worth(a=9, b=8, c=7, x=0), [flash("o", 40)], held)
    assert found.evictions == ()
    assert after(found, held, "o") == {"a", "b", "c", "x"}
    tight = made(assets, worth(a=9, b=8, c=7, x=0), [flash("o", 30)], held)
    assert after(tight, held, "o") == {"a", "b", "c"}
    assert explain(tight, "o", "x").why is Why.REPLACED


def test_what_does_not_fit_into_the_window_waits_behind_what_is_worth_more() -> None:
    slow = replace(flash("o", 100), fill_bps=8, window_end_ms=flash("o").window_start_ms + 25_000)  # 25 bytes
    found = made([asset(unit) for unit in "abc"], worth(a=3, b=2, c=1), [slow], {})
    assert [(fill.unit, fill.start_ms - slow.window_start_ms, fill.end_ms - slow.window_start_ms) for fill in found.fills] == [
        ("a", 0, 10_000),
        ("b", 10_000, 20_000),
    ]
    assert explain(found, "o", "c").why is Why.WINDOW


def test_the_origin_sends_a_region_once_and_neighbours_wait_for_it() -> None:
    ocas = [
        storage("ix-1"),
        flash("e-1", site="isp-1"),
        flash("e-2", site="isp-2"),
        flash("s-1", site="isp-3", region="south"),
        flash("s-2", site="isp-4", region="south"),
    ]
    found = made([asset("a")], worth(a=5), ocas, {})
    sources = {fill.oca_id: fill.source for fill in found.fills}
    assert sources == {"ix-1": ORIGIN, "e-1": "ix-1", "e-2": "ix-1", "s-1": ORIGIN, "s-2": "s-1"}
    end_ms = next(fill.end_ms for fill in found.fills if fill.oca_id == "ix-1")
    assert all(fill.start_ms == end_ms for fill in found.fills if fill.source == "ix-1")


def test_who_holds_it_sends_it() -> None:
    ocas = [storage("ix-1"), flash("e-1", site="isp-1"), flash("e-2", site="isp-2")]
    assert {fill.source for fill in made([asset("a")], worth(a=5), ocas, {"ix-1": holds("a")}).fills} == {"ix-1"}
    by_origin = Oca("s3", "cloud", "", Tier.ORIGIN, 0, 0, 0, 0)
    assert {fill.source for fill in made([asset("a")], worth(a=5), [*ocas[1:], by_origin], {}).fills} == {"s3", "e-1"}


def test_what_comes_too_late_from_a_neighbour_waits_for_the_next_window() -> None:
    late = replace(storage("ix-1"), window_start_ms=5 * HOUR_MS, window_end_ms=6 * HOUR_MS)
    found = made([asset("a")], worth(a=5), [late, flash("e-1")], {})
    assert [fill.oca_id for fill in found.fills] == ["ix-1"]
    assert explain(found, "e-1", "a").why is Why.LATE


def test_storage_holds_the_long_tail_and_flash_does_not() -> None:
    found = made([asset("a"), asset("tail")], worth(a=5), [storage("ix-1"), flash("e-1")], {})
    assert after(found, {}, "ix-1") == {"a", "tail"}
    assert after(found, {}, "e-1") == {"a"}
    assert explain(found, "e-1", "tail").why is Why.UNPLAYED


def test_a_premiere_goes_before_everything_and_is_explained() -> None:
    demand = worth(a=50, b=40) | {"p": Expected(1, 10, pinned=True)}
    held = {"o": holds("a", "b")}
    found = made([asset("a"), asset("b"), asset("p")], demand, [flash("o", 20)], held)
    assert after(found, held, "o") == {"a", "p"}
    told = explain(found, "o", "p")
    assert (told.why, told.here, told.rank, told.source) == (Why.PREMIERE, True, 1, ORIGIN)


def test_an_interactive_title_is_there_with_all_branches_or_not_at_all() -> None:
    quest = [asset("quest", 10, f"quest.{branch}") for branch in range(4)]
    held = {"o": {("quest.0", "1"): 10, ("quest.1", "1"): 10}}
    small = made([*quest, asset("a")], worth(a=1, quest=400), [flash("o", 39)], held)
    assert after(small, held, "o") == {"a"}
    assert {gone.why for gone in small.evictions} == {Why.INCOMPLETE}
    large = made([*quest, asset("a")], worth(a=1, quest=400), [flash("o", 40)], held)
    assert [(fill.assets, fill.bytes) for fill in large.fills] == [((("quest.2", "1"), ("quest.3", "1")), 20)]


def test_what_is_no_longer_offered_or_damaged_goes_at_once() -> None:
    assets = [asset("a"), asset("south", regions=frozenset({"south"}))]
    held = {"o": {**holds("gone", "south"), ("a", "1"): 9}}
    found = made(assets, worth(a=1, south=99), [flash("o")], held)
    assert {gone.unit: gone.why for gone in found.evictions} == {"gone": Why.GONE, "south": Why.GONE, "a": Why.DAMAGED}
    assert [fill.unit for fill in found.fills] == ["a"]
    assert explain(found, "o", "south").why is Why.GONE


def test_a_site_has_each_title_once_but_the_hottest_and_shares_demand() -> None:
    count, servers = 400, 4
    assets = [asset(f"t{number:03d}") for number in range(count)]
    demand = worth(**{f"t{number:03d}": 1000 / (number + 1) for number in range(count)})
    ocas = [flash(f"o{number}", 800) for number in range(servers)]
    found = made(assets, demand, ocas, {})
    copies = Counter(fill.unit for fill in found.fills)
    total = sum(one.bytes for one in demand.values())
    for unit, number in copies.items():
        assert number == min(servers, max(1, math.ceil(demand[unit].bytes / total * servers / HOT_SHARE)))
    assert copies["t000"] > 1 == copies["t020"]
    loads = Counter[str]()
    for fill in found.fills:
        loads[fill.oca_id] += demand[fill.unit].bytes / copies[fill.unit]  # type: ignore[assignment]
    assert max(loads.values()) <= (1 + LOAD_SLACK) * sum(loads.values()) / servers


def test_when_a_server_is_added_little_moves() -> None:
    assets = [asset(f"t{number:03d}") for number in range(300)]
    demand = worth(**{unit.unit: 100 + number for number, unit in enumerate(assets)})
    ocas = [flash(f"o{number}", 2_000) for number in range(3)]
    first = made(assets, demand, ocas, {})
    held = {oca.oca_id: holds(*sorted(after(first, {}, oca.oca_id))) for oca in ocas}
    assert made(assets, demand, [*ocas, flash("o3", 2_000)], held).fills == ()
    fewer = made(assets, demand, ocas[:2], {oca_id: held[oca_id] for oca_id in ("o0", "o1")})
    assert {fill.unit for fill in fewer.fills} <= after(first, {}, "o2")


def test_an_explanation_adds_up() -> None:
    assets = [asset(f"t{number}", 10 + number) for number in range(20)]
    demand = {one.unit: Expected(number + 1.0, 7.0 * (number + 1)) for number, one in enumerate(assets)}
    held = {"o": {("t0", "1"): 10, ("t19", "1"): 29}}
    ocas = [flash("o", 100), flash("p", 60)]
    found = made(assets, demand, ocas, held)
    told = {oca.oca_id: [explain(found, oca.oca_id, one.unit) for one in assets] for oca in ocas}
    for oca in ocas:
        here = after(found, held, oca.oca_id)
        assert {one.unit for one in told[oca.oca_id] if one.here} == here
        for one in told[oca.oca_id]:
            assert one.value == pytest.approx(one.expected_bytes / one.bytes)
            assert one.source == next((fill.source for fill in found.fills if (fill.oca_id, fill.unit) == (oca.oca_id, one.unit)), None)
            assert one.of == 20
    assert sorted(one.rank or 0 for one in told["o"]) == list(range(1, 21))
    left_out = [one for one in told["o"] if one.why is Why.CUT]
    assert max(one.value for one in left_out) == left_out[0].cut


def test_who_is_unknown_is_named() -> None:
    found = made([asset("a")], worth(a=1), [flash("o")], {})
    with pytest.raises(BadPlan, match="no cache server x; it has o"):
        explain(found, "x", "a")
    with pytest.raises(BadPlan, match="no unit b"):
        explain(found, "o", "b")


@pytest.mark.parametrize(
    ("assets", "demand", "ocas", "held", "words"),
    [
        ([asset("a"), asset("a")], {}, [], {}, "a 1 is in the catalogue twice"),
        ([asset("a", 0)], {}, [], {}, "a 1 has 0 bytes"),
        ([], {}, [flash("o"), flash("o")], {}, "two cache servers are called o"),
        ([], {}, [flash("o", disk=-1)], {}, "o: disk_bytes and fill_bps must not be negative"),
        ([], {}, [flash("o", hours=-1)], {}, "o: .* must not end before it begins"),
        ([], {}, [flash("o"), storage("p", site="isp")], {}, "site isp has o and p, of different regions or tiers"),
        ([], {}, [], {"ghost": {}}, "content is known of ghost"),
        ([asset("a")], worth(a=-1), [], {}, "a in north: -1 plays"),
        ([asset("a")], worth(a=math.nan), [], {}, "a in north: nan plays"),
    ],
)
def test_input_that_contradicts_itself_is_refused(
    assets: list[Asset], demand: dict[str, Expected], ocas: list[Oca], held: Held, words: str
) -> None:
    with pytest.raises(BadPlan, match=words):
        plan(assets, {"north": demand}, ocas, held)


World = tuple[list[Asset], dict[str, dict[str, Expected]], list[Oca], dict[str, dict[tuple[str, str], int]]]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    rng = random.Random(draw(st.integers(0, 2**32)))
    assets = []
    for number in range(draw(st.integers(1, 25))):
        regions = frozenset(rng.sample(["north", "south"], rng.randint(1, 2)))
        branches = rng.choice([1, 1, 1, 3])
        assets += [asset(f"t{number:02d}", rng.randint(1, 40), f"t{number:02d}.{branch}", regions) for branch in range(branches)]
    units = sorted({one.unit for one in assets})
    demand = {
        region: {unit: Expected(rng.expovariate(1), rng.choice([0.0, rng.expovariate(0.01)]), rng.random() < 0.05) for unit in units}
        for region in EVERYWHERE
    }
    ocas = []
    for site in range(draw(st.integers(1, 4))):
        region, tier = rng.choice(["north", "south"]), rng.choice([Tier.IX_STORAGE, Tier.EMBEDDED_FLASH])
        for number in range(rng.randint(1, 3)):
            start_ms = rng.randint(0, 20_000)
            ocas.append(
                Oca(
                    f"o{site}-{number}",
                    f"site-{site}",
                    region,
                    tier,
                    rng.randint(0, 400),
                    rng.choice([0, 40, 4_000]),
                    start_ms,
                    start_ms + rng.randint(0, 40_000),
                )
            )
    held: dict[str, dict[tuple[str, str], int]] = {}
    for oca in ocas:
        there: dict[tuple[str, str], int] = {}
        for one in rng.sample(assets, rng.randint(0, len(assets))):
            if sum(there.values()) + one.bytes <= oca.disk_bytes + rng.choice([0, 0, 0, 60]):  # a disk may have become smaller
                there[one.key] = one.bytes + rng.choice([0] * 9 + [1])
        if rng.random() < 0.3:
            there["gone", "1"] = 5
        held[oca.oca_id] = there
    return assets, demand, ocas, held


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_every_plan_may_be_carried_out(world: World) -> None:
    assets, demand, ocas, held = world
    check(plan(assets, demand, ocas, held), assets, ocas, held)


@settings(max_examples=100, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_same_input_in_any_order_gives_the_same_plan(world: World, rng: random.Random) -> None:
    assets, demand, ocas, held = world
    first = plan(assets, demand, ocas, held)
    for listed in (assets, ocas):
        rng.shuffle(listed)
    again = plan(assets, dict(reversed(demand.items())), ocas, {oca.oca_id: dict(reversed(held[oca.oca_id].items())) for oca in ocas})
    assert again == first


@settings(max_examples=150, deadline=None)
@given(worlds(), st.integers(0, 300), st.integers(0, 300))
def test_a_larger_disk_is_worth_no_less(world: World, disk: int, more: int) -> None:
    assets, demand, _, _ = world

    def expected(size: int) -> float:
        found = plan(assets, {"north": {unit: replace(one, pinned=False) for unit, one in demand["north"].items()}}, [flash("o", size)], {})
        return sum(demand["north"][fill.unit].bytes for fill in found.fills)

    assert expected(disk + more) >= expected(disk) * (1 - 1e-9)


# --- the checker -----------------------------------------------------------------------------------------------------------------------

TWO = [storage("ix-1"), flash("e-1", 25), flash("far", site="isp-2", region="south")]
SOUND = plan([asset("a"), asset("b")], {"north": worth(a=2, b=1)}, TWO, {"e-1": holds("gone")})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start_ms": 0}, "outside its window"),
        ({"end_ms": HOUR_MS * 4}, "outside its window"),
        ({"end_ms": SOUND.fills[0].start_ms}, "faster than 8000 bit/s"),
        ({"bytes": 9}, "another number of bytes"),
        ({"oca_id": "x"}, "x is no cache server"),
        ({"assets": (("x", "1"),)}, "which is not in the catalogue"),
        ({"source": "far"}, "from far in south"),
        ({"source": "e-1"}, "from e-1, which does not have it then"),
        ({"oca_id": "e-1"}, "which it has|at once|twice"),
    ],
)
def test_a_fill_that_must_not_be_is_refused(change: dict[str, object], words: str) -> None:
    check(SOUND, [asset("a"), asset("b")], TWO, {"e-1": holds("gone")})
    spoilt = replace(SOUND, fills=(replace(SOUND.fills[0], **change), *SOUND.fills[1:]))  # type: ignore[arg-type]
    with pytest.raises(BadPlan, match=words):
        check(spoilt, [asset("a"), asset("b")], TWO, {"e-1": holds("gone")})


def test_a_plan_beyond_the_disk_is_refused() -> None:
    small = [replace(oca, disk_bytes=19) if oca.oca_id == "e-1" else oca for oca in TWO]
    with pytest.raises(BadPlan, match=r"e-1 would hold 20 bytes at .* and has a disk of 19"):
        check(SOUND, [asset("a"), asset("b")], small, {"e-1": holds("gone")})
    with pytest.raises(BadPlan, match=r"e-1 would hold 30 bytes in the end, and has a disk of 25|e-1 would hold 30 bytes at"):
        check(replace(SOUND, evictions=()), [asset("a"), asset("b")], TWO, {"e-1": holds("gone")})


def test_a_part_of_a_unit_and_what_is_not_there_are_refused() -> None:
    branches = [asset("a"), asset("b"), asset("a", 5, "a.more")]
    with pytest.raises(BadPlan, match="would have 1 of the 2 assets of a"):
        check(SOUND, branches, TWO, {"e-1": holds("gone")})
    with pytest.raises(BadPlan, match=r"would let go \('gone', '1'\), which it does not have"):
        check(SOUND, [asset("a"), asset("b")], TWO, {})


def test_the_origin_is_not_asked_for_what_the_region_has() -> None:
    with pytest.raises(BadPlan, match="to north, where ix-2 has it"):
        check(SOUND, [asset("a"), asset("b")], [*TWO, storage("ix-2")], {"e-1": holds("gone"), "ix-2": holds("a")})
