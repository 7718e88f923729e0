"""The training join in SQL has the rows of the one in Python, from the same log."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from infra.base import warehouse
from schemas.catalogue import catalogue
from schemas.recommendations.definition import MOST_A_DAY
from sinks import migrate
from sinks.recommendations.training import training_query
from streams.recommendations.plan import plan
from streams.recommendations.training import Arrived, Asked, known
from tests.recommendations.made import FIELDS, FROM_MS, TOPIC, events, feature

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
WINDOWS = ["1h", "1d", "7d"]


@pytest.fixture
def client(place: str) -> Any:
    made = warehouse.writer("default")
    migrate.migrate(made, [catalogue().topic(TOPIC)], [])
    return made


def recorded() -> list[Arrived]:
    """Weeks of five members, in the order of one partition; some events come twice, soon or after hours; one member does far too much."""
    random = Random(1)
    told = [Arrived(TOPIC, event, arrived) for event, arrived in events(11, 1_500, "7d", members=5)]
    told += [one._replace(arrived_ms=one.arrived_ms + random.choice([1, HOUR_MS, 2 * HOUR_MS])) for one in random.sample(told, 200)]
    bot = {"member_id": "bot", "cid": "t-1", "kind": "play", "watched_ms": 1, "genres": [], "region": None}
    told += [Arrived(TOPIC, {**bot, "event_id": f"b-{n}", "event_time": FROM_MS + n * 5_000}, FROM_MS + n * 5_000) for n in range(11_000)]
    odd = {"event_time": FROM_MS + DAY_MS, "member_id": "m-1", "kind": "skip", "genres": ["", "Drama"], "region": ""}
    told.append(Arrived(TOPIC, {**odd, "event_id": "o-1", "cid": "t" * 129, "watched_ms": 2**31}, FROM_MS + DAY_MS))
    told.append(Arrived(TOPIC, {**odd, "event_id": "o-2", "cid": "t-1", "watched_ms": -3}, FROM_MS + DAY_MS))
    return sorted(told, key=lambda one: one.arrived_ms)


def store(client: Any, told: list[Arrived]) -> None:
    names = ["event_id", "event_time", "member_id", "cid", "kind", "genres", "region", "watched_ms", "topic_time", "topic_offset"]
    rows = []
    for offset, one in enumerate(told):
        event = {**one.event, "event_time": moment(one.event["event_time"]), "topic_time": moment(one.arrived_ms), "topic_offset": offset}
        rows.append([event[name] for name in names])
    client.insert("recommendations_interaction", rows, column_names=names)


def moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def test_it_has_the_rows_of_the_pure_one(client: Any) -> None:
    told, random = recorded(), Random(2)
    store(client, told)
    asked = []
    few = [one for one in told if one.event["member_id"] != "bot" or random.random() < 0.005]
    for _ in range(200):
        one = random.choice(few)
        about = {"member": one.event["member_id"], "title": one.event["cid"], "genre": "Drama", "region": f"r-{random.randrange(3)}"}
        at = random.choice([one.arrived_ms, one.arrived_ms + 1, FROM_MS + random.randrange(28 * DAY_MS) // HOUR_MS * HOUR_MS])
        asked.append(Asked(about, at))
    asked.append(Asked({"member": "bot", "title": "t-1", "genre": "", "region": ""}, FROM_MS + 2 * DAY_MS))
    somewhere, bounded = {"region": {"present": True}}, {"kind": ["play", "skip"], "watched_ms": {"at_least": 5, "below": 7_000_000}}
    features = [
        feature(f"a_{name}", **{"aggregation": name, **more, "windows": WINDOWS}) for name, more in FIELDS.items() if name != "decayed"
    ]
    features += [
        feature("a_decayed", aggregation="decayed", field="watched_ms", half_life="37h", windows=["7d"]),
        feature("heat", aggregation="decayed", half_life="5h", windows=["1d"], key=["title", "region"], filter=somewhere),
        feature("drama", key=["member", "genre"], filter=bounded, windows=["7d"]),
        feature("genres", aggregation="top_k", field="genres", k=2, key=["title"], windows=["7d"]),
    ]
    rows = known(plan(features), told, asked)
    assert rows[-1]["a_count_7d"] == MOST_A_DAY
    client.command("CREATE TABLE asked (id Int64, at_ms Int64, member String, title String, genre String, region String) ENGINE = Memory")
    client.insert(
        "asked", [[n, one.at_ms, *(one.about[name] for name in ("member", "title", "genre", "region"))] for n, one in enumerate(asked)]
    )
    for one in features:
        found = client.query(training_query(one, "asked")).result_rows
        for place, name in enumerate(one.values, 1):
            wanted = [row[name] for row in rows]
            assert [row[place] for row in found] == wanted, name
            assert len({str(value) for value in wanted}) > 2, name
