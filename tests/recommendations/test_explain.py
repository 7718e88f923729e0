"""Which events made a member's values: each change is its event's alone, and all of them together are what is known."""

from __future__ import annotations

from streams.recommendations.engine import Engine
from streams.recommendations.explain import WHY, explained, of_members, values
from streams.recommendations.plan import plan
from streams.recommendations.training import Arrived
from tests.recommendations.made import FROM_MS, TOPIC, events, every, feature

MADE = plan([*every("1h"), feature("of_genre", key=["member", "genre"]), feature("of_title", key=["title"])])


def test_the_changes_add_up_to_what_is_known() -> None:
    log = [Arrived(TOPIC, event, arrived) for event, arrived in events(3, 300, "1h", members=3)]
    steps = explained(MADE, log, "m-1")
    assert [one.event["event_id"] for one in steps] == [one.event["event_id"] for one in log if one.event["member_id"] == "m-1"]
    assert {change.value for one in steps for change in one.changed} == of_members(MADE).values.keys()
    assert all("of_title" not in change.value for one in steps for change in one.changed)
    last, engine = steps[-1], Engine(MADE)
    for one in log:
        if one.event["member_id"] == "m-1":
            engine.take(*one)
    at_ms = last.arrived_ms + 1
    wanted = {name: value for name, value in engine.values({"member": "m-1"}, at_ms).items() if name in of_members(MADE).values}
    assert values(MADE, log, "m-1", at_ms) == wanted
    for change in last.changed:
        assert change.before != change.after
        if not change.about:
            assert change.after == engine.values({"member": "m-1"}, last.arrived_ms)[change.value]


def test_what_does_not_count_says_why() -> None:
    play = {"event_id": "e", "event_time": FROM_MS, "member_id": "m-1", "cid": "t", "kind": "play", "genres": ["War"], "watched_ms": 5}
    other = {**play, "event_id": "f", "event_time": FROM_MS + 9_000, "watched_ms": 2**31, "genres": []}
    made = plan([feature("plays"), feature("watched", aggregation="sum", field="watched_ms"), feature("g", key=["member", "genre"])])
    steps = explained(made, [Arrived(TOPIC, play, FROM_MS), Arrived(TOPIC, play, FROM_MS + 1), Arrived(TOPIC, other, FROM_MS + 2)], "m-1")
    assert [one.notes for one in steps] == [(), (WHY["twice"],), (WHY["ahead"], WHY["no_key"], WHY["out_of_bounds"])]
    assert [[(one.value, one.about, one.before, one.after) for one in step.changed] for step in steps] == [
        [("g_1d", "War", 0, 1), ("plays_1d", "", 0, 1), ("watched_1d", "", 0, 5)], [], [("plays_1d", "", 1, 2)],
    ]  # fmt: skip
    assert steps[2].at_ms == FROM_MS + 2
