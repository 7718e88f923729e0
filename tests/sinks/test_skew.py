"""The consistency watch and a member's story on what is stored: what was served agrees with the log, and what was not so is found."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from edge.feature_log import deployed, story
from edge.skew import AHEAD_MS, SETTLED_MS, Watch, events, totals
from infra.base import warehouse
from infra.bench.lagging import Lagging
from schemas.catalogue import catalogue
from schemas.recommendations.definition import features
from sinks import migrate
from sinks.recommendations import training
from streams.recommendations import engine
from streams.recommendations.plan import plan
from tests.recommendations import made
from tests.recommendations.made import FROM_MS, TOPIC, every, feature

MADE = plan([
    *every("7d"), feature("t_plays", key=["title"], windows=["7d"]), feature("g_plays", key=["member", "genre"], windows=["7d"]),
    feature("r_plays", key=["title", "region"], filter={"region": {"present": True}}, windows=["7d"]),
])  # fmt: skip
MOST_A_DAY = 60
UNTIL_MS = FROM_MS + 28 * 86_400_000
TABLES = (
    TOPIC,
    "recommendations.impression",
    "recommendations.search",
    "recommendations.feature_served",
    "recommendations.feature_definition",
)


@pytest.fixture
def client(place: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for module in (engine, training):
        monkeypatch.setattr(module, "MOST_A_DAY", MOST_A_DAY)
    found = warehouse.writer("default")
    migrate.migrate(found, [catalogue().topic(name) for name in TABLES], [])
    return found


def moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def live(client: Any) -> Lagging:
    """Weeks of a few members, some events twice, one member who does far too much; what was served in the last minutes is stored."""
    it, random = Lagging(MADE, TOPIC, Random(3)), Random(4)
    told = [(event, arrived) for event, arrived in made.events(12, 800, "7d", members=6) if arrived < UNTIL_MS]
    told += [(event, arrived + random.choice([1, 3_600_000, 7_200_000])) for event, arrived in random.sample(told, 100)]
    bot = {"member_id": "m-9", "cid": "t-1", "kind": "play", "watched_ms": 1, "genres": [], "region": "r-1"}
    told += [({**bot, "event_id": f"b-{n}", "event_time": UNTIL_MS - 90_000 + n}, UNTIL_MS - 90_000 + n) for n in range(MOST_A_DAY + 20)]
    told += [({**event, "event_id": f"l-{n}", "event_time": UNTIL_MS - n}, UNTIL_MS - n) for n, (event, _) in enumerate(told[:60])]
    told = sorted((one for one in told if one[1] <= UNTIL_MS), key=lambda one: one[1])
    names = ["event_id", "event_time", "member_id", "cid", "kind", "genres", "region", "watched_ms"]
    rows, offsets = [], [0] * 4
    for event, arrived in told:
        it.hear(arrived)
        it.take(event, arrived)
        partition = int(event["member_id"][2:]) % 4
        fields = {**event, "event_time": moment(event["event_time"])}
        rows.append([*(fields[name] for name in names), moment(arrived), partition, offsets[partition]])
        offsets[partition] += 1
    columns = [*names, "topic_time", "topic_partition", "topic_offset"]
    for since in range(0, len(rows), 5_000):
        client.insert("recommendations_interaction", rows[since : since + 5_000], column_names=columns)
    return it


def store(client: Any, it: Lagging, at_ms: int, some: int, **spoilt: str) -> int:
    names = ["event_id", "event_time", "group", "entity", "layout", "clock", "taken", "values"]
    rows = []
    for n, one in enumerate(it.served(at_ms, some)):
        values = {name: spoilt.get(name, value) for name, value in one.values.items()}
        rows.append([f"s-{n}", moment(at_ms), one.group, one.entity, one.layout, moment(one.clock_ms), one.taken, values])
    client.insert("recommendations_feature_served", rows, column_names=names)
    return sum(len(row[-1]) for row in rows)


def mark(client: Any, at_ms: int, *partitions: int) -> None:
    """Time markers: these partitions are stored so far."""
    names = ["event_id", "event_time", "marker", "topic_time", "topic_partition", "topic_offset"]
    rows = [[f"mark-{n}", moment(at_ms), True, moment(at_ms), n, 1_000_000] for n in partitions]
    client.insert("recommendations_interaction", rows, column_names=names)


def test_what_was_served_agrees_with_what_is_stored(client: Any) -> None:
    it = live(client)
    served = store(client, it, UNTIL_MS, 150)
    watch = Watch(lambda: client, lambda: UNTIL_MS + SETTLED_MS, lambda _: MADE)
    found = totals(watch.round())
    assert found.keys() == set(MADE.layouts)
    assert sum(one["skewed"] for one in found.values()) == 0
    assert sum(one["compared"] for one in found.values()) > 0.9 * served
    assert watch.round() == [], "each once"
    it.hear(UNTIL_MS + 60_000)
    at_ms = UNTIL_MS + AHEAD_MS
    store(client, it, at_ms, 150, t_plays_7d="-1")
    watch.now_ms = lambda: at_ms + SETTLED_MS
    mark(client, UNTIL_MS + 60_000, 0, 1, 2)
    behind = Watch(lambda: client, lambda: at_ms + SETTLED_MS, lambda _: MADE)
    assert not any(one["skewed"] for one in totals(behind.round()).values()), "what is missing may be in the fourth partition"
    mark(client, UNTIL_MS + 60_000, 3)
    wrong = [record for one in watch.round() for record in events(one)]
    assert {record["value"] for record in wrong} == {"t_plays_7d"}
    assert all(record["served"] == "-1" != record["recomputed"] for record in wrong)
    told = story(client, MADE, "m-1", at_ms, ["a_count"])
    assert told["values"] == {"a_count_7d": it.engine.values({"member": "m-1"}, at_ms)["a_count_7d"]}
    assert {change["value"] for step in told["steps"] for change in step["changed"]} == {"a_count_7d"}
    bot = story(client, MADE, "m-9", at_ms)
    assert bot["values"]["a_count_7d"] == MOST_A_DAY
    assert sum("beyond the most" in note for step in bot["steps"] for note in step["notes"]) == 20


def test_features_as_they_are_deployed(client: Any) -> None:
    assert deployed(client) == features()
    names = ["event_id", "event_time", "name", "owner", "yaml", "withdrawn"]
    rows = [
        ["1", 1, "a", made.text("a"), False],
        ["2", 2, "b", made.text("b"), False],
        ["3", 3, "a", "", True],
        ["4", 4, "b", made.text("b", windows=["7d"]), False],
    ]
    client.insert(
        "recommendations_feature_definition",
        [[event_id, moment(at), name, "o", text, gone] for event_id, at, name, text, gone in rows],
        column_names=names,
    )
    assert deployed(client) == [feature("b", windows=["7d"])]
