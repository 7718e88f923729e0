"""Training rows hold what was known then; what came later changes none, and a backfill is what the stream would have been."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.bench import feature_worlds as brute
from streams.recommendations.engine import Engine
from streams.recommendations.plan import plan
from streams.recommendations.training import Arrived, Asked, known
from tests.recommendations.made import FROM_MS, TOPIC, events, every, feature, log

DAY_MS = 86_400_000
FEATURES = every("7d")
PLAN = plan(FEATURES)
MEMBERS = 5


def recorded(seed: int, many: int = 2_000) -> list[Arrived]:
    return [Arrived(TOPIC, event, arrived) for event, arrived in events(seed, many, "7d", MEMBERS)]


def some(seed: int, many: int, until_ms: int = FROM_MS + 28 * DAY_MS) -> list[Asked]:
    random = Random(seed)
    return [Asked({"member": f"m-{random.randrange(MEMBERS + 1)}"}, random.randrange(FROM_MS, until_ms)) for _ in range(many)]


def test_rows_are_what_all_that_had_arrived_comes_to() -> None:
    told, asked = recorded(1), some(2, 500)
    by_member = {f"m-{n}": log([(one.event, one.arrived_ms) for one in told if one.event["member_id"] == f"m-{n}"]) for n in range(MEMBERS)}
    rows = known(PLAN, told, asked)
    assert len(rows) == len(asked)
    for query, row in zip(asked, rows, strict=True):
        member = query.about["member"]
        for one in FEATURES:
            wanted = brute.value(one, "7d", by_member[member], query.at_ms) if member in by_member else one.default
            assert row[f"{one.name}_7d"] == wanted


@settings(max_examples=10)
@given(st.integers(0, 1_000))
def test_the_future_changes_no_row(seed: int) -> None:
    """Whatever arrives later is shuffled among its events: what happened, and to whom. Some of it happened before the queries."""
    told, cut = recorded(seed, 600), FROM_MS + 10 * DAY_MS
    asked = some(seed, 60, cut)
    random = Random(seed)
    past, future = ([one for one in told if (one.arrived_ms < cut) is early] for early in (True, False))
    bodies = random.sample([one.event for one in future], len(future))
    shuffled = [one._replace(event=body) for one, body in zip(future, bodies, strict=True)]
    assert any(one.event["event_time"] < cut for one in shuffled)
    assert known(PLAN, past + shuffled, asked) == known(PLAN, told, asked) == known(PLAN, past, asked)


def test_an_event_is_known_after_it_has_arrived_and_counts_where_it_happened() -> None:
    event = {"event_id": "e", "event_time": FROM_MS, "member_id": "m-1", "cid": "t-1", "kind": "play"}
    arrived = FROM_MS + 2 * DAY_MS
    made = plan([feature("plays", windows=["1d", "7d"])])
    asked = [Asked({"member": "m-1"}, at_ms) for at_ms in (FROM_MS + 1, arrived, arrived + 1)]
    assert known(made, [Arrived(TOPIC, event, arrived)], asked) == [
        {"plays_1d": 0, "plays_7d": 0}, {"plays_1d": 0, "plays_7d": 0}, {"plays_1d": 0, "plays_7d": 1},
    ]  # fmt: skip


@pytest.mark.parametrize("partitions", [1, 4])
def test_a_backfill_is_what_the_stream_would_have_been(partitions: int) -> None:
    """A new feature over a log that is read partition after partition, against a stream that had it from the first day."""
    told = recorded(4)
    features = [*FEATURES, feature("titles", key=["title"]), feature("genre", key=["member", "genre"], windows=["30d"])]
    live, backfilled = Engine(plan(features)), Engine(plan(features))
    for one in told:
        live.take(*one)
    for partition in range(partitions):
        for one in told:
            if int(one.event["member_id"][2:]) % partitions == partition:
                backfilled.take(*one)
    assert packed(backfilled) == packed(live)
    assert backfilled.counts == live.counts
    assert len(live.rows["title"]) > 30


def packed(engine: Engine) -> dict[str, Any]:
    return {group: {key: row.pack() for key, row in rows.items()} for group, rows in engine.rows.items()}
