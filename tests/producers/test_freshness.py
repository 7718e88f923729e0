"""The freshness probe: what it says of a warehouse that shows its marker at once, late, or never."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import OperationalError

from infra.base import warehouse
from infra.base.clock import FakeClock
from infra.base.settings import Settings
from producers.emit import Emitter
from producers.freshness import GIVE_UP_S, LOOK_EVERY_S, TOPIC, measure
from tests.kit import eventually

NOW_MS = 1_700_000_000_000


def measured(answers: Iterator[int | Exception]) -> tuple[Any, Any]:
    """What is measured where the warehouse gives these answers, one a question; and the emitter."""
    emitter = create_autospec(Emitter, instance=True, producer_id="freshness")
    reader = create_autospec(Client, instance=True)

    def query(*_: Any, **__: Any) -> Any:
        if isinstance(answer := next(answers), Exception):
            raise answer
        return SimpleNamespace(result_rows=[(answer,)])

    reader.query.side_effect = query
    return measure(emitter, reader, FakeClock(NOW_MS)), emitter


def test_it_waits_for_every_partition_and_through_an_outage() -> None:
    answers: list[int | Exception] = [0, OperationalError("down"), TOPIC.partitions - 1, TOPIC.partitions]
    found, emitter = measured(iter(answers))
    assert found == {"target": "playback_report", "produced_at": NOW_MS, "queryable_after_ms": round(3_000 * LOOK_EVERY_S)}
    emitter.mark.assert_called_once_with("playback.report", NOW_MS)


def test_what_does_not_show_within_a_minute_has_no_time() -> None:
    found, _ = measured(iter([0] * round(GIVE_UP_S / LOOK_EVERY_S + 1)))
    assert found["queryable_after_ms"] is None


@pytest.mark.stack
def test_the_stack_measures_itself(stack: Settings) -> None:
    asked = "SELECT queryable_after_ms FROM observability_freshness WHERE NOT marker AND queryable_after_ms > 0"
    with warehouse.reader() as client:
        assert eventually(lambda: client.query(asked).result_rows, within=60)
        ours = "SELECT count() FROM playback_report WHERE producer_id = 'freshness' AND NOT marker"
        assert client.query(ours).result_rows == [(0,)]
