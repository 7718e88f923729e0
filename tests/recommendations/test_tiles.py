"""Values from tiles are what all events come to, at every edge; the order in which events come makes no difference."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.bench import feature_worlds as brute
from schemas.recommendations.definition import MOST_DISTINCT, MOST_IN_TILE, MOST_NUMBER, WINDOWS
from streams.recommendations.engine import Engine
from streams.recommendations.plan import Plan, plan
from streams.recommendations.tiles import Row, as_mapping, evaluate
from tests.recommendations.made import FROM_MS, TOPIC, events, every, feature, log, queries

MANY = 2_000


def asked(made: Plan, told: list[tuple[dict[str, Any], int]], times: list[int]) -> dict[str, list[Any]]:
    """The values of member m-0 at each time, from what had arrived before it."""
    engine, rows, n, row = Engine(made), [], 0, None
    for at in times:
        while n < len(told) and told[n][1] < at:
            engine.take(TOPIC, *told[n])
            n, row = n + 1, None
        row = row or engine.packed("member", "m-0")
        rows.append(row)
    found = evaluate(made.layouts["member"], made.values.values(), rows, np.array(times))
    assert not any(one.over_cap.any() for one in found.values())
    return {name: one.of.tolist() for name, one in found.items()}


@pytest.mark.parametrize("window", WINDOWS)
def test_values_at_any_time_are_what_all_events_come_to(window: str) -> None:
    features = every(window)
    told = events(8, MANY, window)
    times = queries(9, MANY, window, told)
    found, plain = asked(plan(features), told, times), log(told)
    for one in features:
        expected = [brute.value(one, window, plain, at) for at in times]
        got = [None if value != value else value for value in found[f"{one.name}_{window}"]]
        assert sum(a != b for a, b in zip(got, expected, strict=True)) == 0, one.name
        assert len({str(value) for value in expected}) > 10


ALL = plan([one.model_copy(update={"name": f"{one.name}{window}"}) for window in WINDOWS for one in every(window)])
"""A member's values of every kind over every window, in one row."""
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def taken(told: list[tuple[dict[str, Any], int]], made: Plan = ALL) -> Row:
    """The row of m-0."""
    engine = Engine(made)
    for event, arrived in told:
        engine.take(TOPIC, event, arrived)
    return engine.rows["member"]["m-0"]


def values(row: Row, at_ms: int, made: Plan = ALL) -> dict[str, Any]:
    return as_mapping(evaluate(row.layout, made.of("member"), [row.pack()], at_ms), 0)


@settings(max_examples=25)
@given(st.integers(0, 1_000), st.integers(1, 60), st.sampled_from(list(WINDOWS)))
def test_bytes_are_a_function_of_the_set_of_events(seed: int, many: int, window: str) -> None:
    told = events(seed, many, window)
    shuffled = Random(seed).sample(told, many)
    late = [(event, FROM_MS * 2) for event, _ in shuffled]  # whenever it comes, an event lies at its own time
    early = [(event, FROM_MS * 2) for event, _ in told]
    assert taken(late).pack() == taken(early).pack()


@settings(max_examples=25)
@given(st.integers(0, 1_000), st.integers(2, 60), st.sampled_from(list(WINDOWS)), st.integers(0, 10**6))
def test_two_rows_added_up_are_the_row_of_both(seed: int, many: int, window: str, cut: int) -> None:
    told = events(seed, many, window)
    first, second = told[: 1 + cut % (many - 1)], told[1 + cut % (many - 1) :]
    row = taken(first)
    row.merge(taken(second))
    assert row.pack() == taken(told).pack()


@settings(max_examples=25)
@given(st.integers(0, 1_000), st.integers(1, 60), st.sampled_from(list(WINDOWS)))
def test_packing_loses_nothing(seed: int, many: int, window: str) -> None:
    told = events(seed, many + 1, window)
    row = taken(told[:many])
    again = Row.unpack(row.layout, *row.pack())
    assert again.pack() == row.pack()
    again.merge(taken(told[many:]))
    assert again.pack() == taken(told).pack()


def test_bytes_of_something_else_are_refused() -> None:
    fixed, texts = taken(events(1, 50, "1d")).pack()
    layout = ALL.layouts["member"]
    for wrong in ((fixed[:-1], texts), (fixed, texts[:-1]), (fixed, texts + b"\0"), (b"", b"")):
        with pytest.raises(ValueError, match=f"not a row of layout {layout.id} of member"):
            Row.unpack(layout, *wrong)
    with pytest.raises(ValueError, match="not rows of layout"):
        evaluate(layout, ALL.of("member"), [(fixed[:-8], texts)], FROM_MS)


def test_the_fixed_part_reads_the_same_in_numpy_and_struct() -> None:
    layout = ALL.layouts["member"]
    assert layout.dtype.itemsize == layout.form.size
    assert layout.form.size % 8 == 0


def test_values_expire_without_an_event() -> None:
    noon = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)
    made = plan([feature("plays", aggregation="count", windows=["1h", "1d", "7d", "30d"])])
    at = noon + 7 * 60_000
    row = taken([({"event_id": "e", "event_time": at, "kind": "play", "member_id": "m-0", "cid": "t"}, at)], made)
    tile, hour, day = noon + 5 * 60_000, noon, noon - HOUR_MS * 12
    edges = {"plays_1h": tile + HOUR_MS + 300_000, "plays_1d": hour + DAY_MS + HOUR_MS, "plays_7d": day + 8 * DAY_MS}
    for name, gone in {**edges, "plays_30d": day + 31 * DAY_MS}.items():
        assert (values(row, gone - 1, made)[name], values(row, gone, made)[name]) == (1, 0)


def test_a_row_asked_by_a_clock_that_is_behind_answers_as_of_its_own() -> None:
    row = taken(events(3, 500, "1d"))
    assert values(row, row.clock - 5 * DAY_MS) == values(row, row.clock)


def test_decayed_halves_with_each_half_life() -> None:
    made = plan([feature("watched", aggregation="decayed", field="watched_ms", half_life="1d", windows=["7d"], default=0)])
    event = {"event_id": "e", "event_time": FROM_MS + 1_234_567, "kind": "play", "member_id": "m-0", "cid": "t", "watched_ms": 6_000}
    row = taken([(event, FROM_MS + 1_234_567)], made)
    for days in (0, 0.5, 1, 2.25, 6):
        found = values(row, FROM_MS + 1_234_567 + int(days * DAY_MS), made)["watched_7d"]
        assert found == pytest.approx(6_000 * 0.5**days, rel=1e-3)


def many_texts(count: int) -> list[tuple[dict[str, Any], int]]:
    """So many titles, each clicked as often as its number modulo three and once more, within a quarter of an hour."""
    at = FROM_MS + 60_000
    plain = {"kind": "click", "member_id": "m-0"}
    clicks = [f"t-{n}" for n in range(count) for _ in range(1 + n % 3)]
    return [({**plain, "event_id": f"e-{n}", "event_time": at + n, "cid": cid}, at + n) for n, cid in enumerate(clicks)]


@pytest.mark.parametrize("more", [0, 1])
def test_texts_beyond_a_cap_are_cut_by_rule_in_whatever_order_they_come(more: int) -> None:
    made = plan([
        feature("titles", aggregation="distinct", field="cid"),
        feature("favourites", aggregation="top_k", field="cid", k=100),
    ])  # fmt: skip
    for name, cap in (("titles_1d", MOST_DISTINCT), ("favourites_1d", MOST_IN_TILE)):
        told = many_texts(cap + more)
        rows = [taken(order, made).pack() for order in (told, Random(1).sample(told, len(told)))]
        found = [evaluate(made.layouts["member"], made.of("member"), [row], FROM_MS + HOUR_MS)[name] for row in rows]
        assert found[0].of[0] == found[1].of[0]
        assert [bool(one.over_cap[0]) for one in found] == [bool(more)] * 2
        if name == "titles_1d":
            assert found[0].of[0] == cap
        else:
            assert len(found[0].of[0]) == cap
            assert all(often == 1 + int(text.removeprefix("t-")) % 3 for text, often in found[0].of[0])


def test_a_decayed_tile_that_cannot_grow_says_so() -> None:
    made = plan([feature("watched", aggregation="decayed", field="watched_ms", half_life="7d", windows=["30d"], default=0)])
    row = Row(made.layouts["member"])
    ((selection, uses),) = row.layout.uses.items()
    for _ in range(3):
        row.take(uses, FROM_MS, MOST_NUMBER)
    assert not evaluate(row.layout, made.of("member"), [row.pack()], FROM_MS)["watched_30d"].over_cap[0]
    for _ in range(17):
        row.merge(Row.unpack(row.layout, *row.pack()))
    assert selection.field == "watched_ms"
    assert evaluate(row.layout, made.of("member"), [row.pack()], FROM_MS)["watched_30d"].over_cap[0]


def test_another_layout_takes_over_what_it_has_in_common() -> None:
    told = events(5, 400, "30d")
    few = plan([feature("a", windows=["7d"]), feature("b", aggregation="distinct", field="cid", windows=["7d"])])
    more = plan([feature("a", windows=["7d"]), feature("c", aggregation="last", field="cid", windows=["1d"]), *every("1h")])
    wide, narrow = taken(told), taken(told, few)
    assert wide.recast(few.layouts["member"]).pack() == narrow.pack()
    recast = narrow.recast(more.layouts["member"])
    assert recast.layout.id != narrow.layout.id
    told_of = values(recast, recast.clock, more)
    assert told_of["a_7d"] == values(narrow, narrow.clock, few)["a_7d"] > 0
    assert told_of["c_1d"] is None
