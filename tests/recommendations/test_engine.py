"""Which events count, for whom, and what is said of those that do not."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.recommendations.definition import MOST_A_DAY, MOST_KEYS, MOST_NUMBER, TWICE_MS
from streams.recommendations.engine import BETWEEN, Engine
from streams.recommendations.plan import plan
from tests.recommendations.made import FROM_MS, TOPIC, feature

DAY_MS = 86_400_000


def event(event_id: str = "e", at_ms: int = FROM_MS, **said: Any) -> dict[str, Any]:
    """A play by m-1 of t-1."""
    return {"event_id": event_id, "event_time": at_ms, "member_id": "m-1", "cid": "t-1", "kind": "play", "region": "eu-1", **said}


def engine(*more: dict[str, Any], **said: Any) -> Engine:
    return Engine(plan([feature(f"a{n}", **one) for n, one in enumerate([*more, said] if said or not more else more)]))


def test_each_feature_counts_what_its_filter_asks_for() -> None:
    filters: list[dict[str, Any]] = [
        {"kind": "play"}, {"kind": ["skip", "completion"]}, {"watched_ms": {"at_least": 10, "below": 20}}, {"region": {"present": True}},
        {"kind": "play", "region": "eu-1"},
    ]  # fmt: skip
    made = engine(*({"filter": one} for one in filters))
    told = [event("1"), event("2", kind="skip", watched_ms=9), event("3", kind="completion", watched_ms=10, region=None)]
    for one in [*told, event("4", kind="skip", watched_ms=19, region="eu-2"), event("5", kind="skip", watched_ms=20)]:
        made.take(TOPIC, one, FROM_MS)
    assert [made.values({"member": "m-1"}, FROM_MS)[f"a{n}_1d"] for n in range(5)] == [1, 4, 2, 4, 1]


def test_keys_of_two_entities_and_of_lists() -> None:
    made = engine({"key": ["title"]}, {"key": ["title", "region"], "filter": {"region": {"present": True}}}, {"key": ["member", "genre"]})
    changed = made.take(TOPIC, event(genres=["Drama", "Crime", "Drama"]), FROM_MS)
    genres = [("member.genre", f"m-1{BETWEEN}{genre}") for genre in ("Drama", "Crime")]
    assert sorted(changed) == sorted([("title", "t-1"), ("title.region", f"t-1{BETWEEN}eu-1"), *genres])
    assert made.take(TOPIC, event("f", region=None), FROM_MS) == [("title", "t-1")]
    assert made.counts == {"taken": 2, "no_key": 1}
    assert made.values({"title": "t-1", "region": "eu-1"}, FROM_MS) == {"a0_1d": 2, "a1_1d": 1}
    assert made.values({"member": "m-1", "genre": "Comedy"}, FROM_MS) == {"a2_1d": 0}


def test_one_event_changes_so_many_keys_at_most() -> None:
    made = engine(key=["member", "genre"])
    assert len(made.take(TOPIC, event(genres=[f"g-{n}" for n in range(MOST_KEYS + 9)]), FROM_MS)) == MOST_KEYS


@pytest.mark.parametrize(("later_ms", "counted"), [(0, 1), (TWICE_MS, 1), (TWICE_MS + 1, 2)])
def test_a_repeat_within_an_hour_does_not_count(later_ms: int, counted: int) -> None:
    made = engine()
    made.take(TOPIC, event(), FROM_MS)
    made.take(TOPIC, event("another"), FROM_MS)
    made.take(TOPIC, event(), FROM_MS + later_ms)
    assert made.values({"member": "m-1"}, FROM_MS + later_ms)["a0_1d"] == counted + 1
    assert made.counts["twice"] == 2 - counted


def test_a_member_with_a_hundred_thousand_plays_is_capped_and_counted() -> None:
    made = engine({}, {"key": ["title"]})
    for n in range(100_000):
        made.take(TOPIC, event(f"e-{n}"), FROM_MS + n)
    made.take(TOPIC, event("other", member_id="m-2"), FROM_MS + 100_000)
    made.take(TOPIC, event("next day"), FROM_MS + DAY_MS)
    assert made.counts == {"taken": MOST_A_DAY + 2, "beyond_most": 100_000 - MOST_A_DAY}
    assert made.values({"member": "m-1"}, FROM_MS + DAY_MS)["a0_1d"] == MOST_A_DAY + 1
    assert made.values({"title": "t-1"}, FROM_MS + DAY_MS)["a1_1d"] == MOST_A_DAY + 2


def test_a_clock_that_is_ahead_counts_when_the_event_arrived() -> None:
    made = engine(aggregation="last", field="watched_ms")
    made.take(TOPIC, event("1", FROM_MS + 40 * DAY_MS, watched_ms=1), FROM_MS)
    made.take(TOPIC, event("2", FROM_MS + 1, watched_ms=2), FROM_MS + 1)
    assert made.values({"member": "m-1"}, FROM_MS + 2)["a0_1d"] == 2
    assert made.counts["ahead"] == 1


def test_what_cannot_be_used_is_counted_and_the_rest_goes_on() -> None:
    made = engine({"aggregation": "sum", "field": "watched_ms"}, {"aggregation": "distinct", "field": "cid"}, {"key": ["title"]})
    made.take(TOPIC, event("1", watched_ms=MOST_NUMBER + 1), FROM_MS)
    made.take(TOPIC, event("2", watched_ms=None, cid="t" * 129), FROM_MS)
    made.take(TOPIC, event("3", watched_ms=-MOST_NUMBER, cid=f"a{BETWEEN}b"), FROM_MS)
    made.take(TOPIC, event("4", marker=True), FROM_MS)
    assert made.values({"member": "m-1"}, FROM_MS) == {"a0_1d": -MOST_NUMBER, "a1_1d": 2}
    assert made.counts == {"taken": 3, "out_of_bounds": 1, "too_long": 3}
    assert set(made.rows["title"]) == {"t-1"}


def test_features_that_select_the_same_share_their_tiles() -> None:
    told: list[dict[str, Any]] = [
        {"aggregation": kind, "field": "watched_ms", "windows": [window], "filter": {"kind": ["skip", "completion"][:: 1 - 2 * odd]}}
        for kind in ("sum", "mean") for odd, window in enumerate(("7d", "30d"))
    ]  # fmt: skip
    layout = engine(*told).plan.layouts["member"]
    assert sorted((column.kind, column.hop_ms, column.tiles) for column in layout.columns) == [("count", DAY_MS, 31), ("sum", DAY_MS, 31)]


def test_a_row_grows_with_features_and_not_with_events() -> None:
    made = engine({}, {"aggregation": "top_k", "field": "cid", "k": 3}, {"aggregation": "distinct", "field": "cid"})
    sizes = []
    for n in range(30_000):
        made.take(TOPIC, event(f"e-{n}", cid=f"t-{n % 5_000}"), FROM_MS + n * 20_000)
        if n % 10_000 == 9_999:
            sizes.append(sum(map(len, made.packed("member", "m-1"))))
    assert max(sizes) < min(sizes) * 1.1
