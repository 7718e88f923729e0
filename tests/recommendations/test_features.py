"""Features on the real stack: from events to the online table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from infra.base.registry import RegistryClient
from infra.base.settings import Settings
from schemas.recommendations.definition import features
from streams.folded import followed
from streams.recommendations.engine import Engine
from streams.recommendations.online import Online
from streams.recommendations.plan import Plan, plan
from tests.kit import eventually
from tests.recommendations.made import FROM_MS, TOPIC, events
from tests.world import World, world

DAY_MS = 86_400_000
Log = list[tuple[dict[str, Any], int]]


@pytest.fixture(scope="module")
def there(stack: Settings) -> Iterator[World]:
    """A namespace in which features are kept."""
    with world("features") as there:
        there.headrace("jobs", "deploy", "features")
        yield there


@pytest.fixture(scope="module")
def online(there: World) -> Iterator[Online]:
    """A process's table."""
    table = Online(plan(features()))
    with followed([table], RegistryClient().schema):
        yield table


def log(seed: int, many: int) -> Log:
    """What members did, as it arrives; some of it twice."""
    envelope = {"producer_id": "test", "epoch": 0, "seq": 0}
    told = [({**envelope, **event, "event_id": f"{seed}-{event['event_id']}"}, arrived) for event, arrived in events(seed, many, "7d", 20)]
    return sorted([*told, *((event, arrived + 1_000) for event, arrived in told[::10])], key=lambda one: one[1])


def expected(made: Plan, told: Log) -> dict[tuple[str, str], tuple[bytes, bytes]]:
    """Every key's row, as the engine has it."""
    engine = Engine(made)
    for event, arrived_ms in told:
        engine.take(TOPIC, event, arrived_ms)
    return {(group, key): row.pack() for group, rows in engine.rows.items() for key, row in rows.items()}


def wrong(online: Online, rows: dict[tuple[str, str], tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Keys whose row is another."""
    return [(group, key) for (group, key), row in rows.items() if online.table.packed(group, key) != row]


@pytest.mark.stack
@pytest.mark.timeout(600)
def test_rows_of_the_stream_are_the_engines(there: World, online: Online) -> None:
    told = log(3, 2_000)
    there.arrive(TOPIC, ((arrived, event) for event, arrived in told))
    rows = expected(online.plan, told)
    eventually(lambda: not wrong(online, rows), within=60)
    assert len(online.table) == len(rows)
    assert online.refused == 0
    assert online.table.lookup(["member_plays_7d"], {"member": "m-1"}, FROM_MS + 10 * DAY_MS)["member_plays_7d"].of[0] > 0
