"""The audit over the real road: emitted, acknowledged, loaded, audited; and the row that is taken away is missed until it is back."""

from __future__ import annotations

import secrets

import pytest

from infra.base import warehouse
from infra.base.settings import Settings
from producers.emit import Emitter
from schemas.catalogue import catalogue
from schemas.envelope import marker
from sinks import audit
from tests.kit import eventually

TOPIC = catalogue().topic("delivery.access")


@pytest.mark.stack
def test_what_is_emitted_is_stored_and_a_missing_row_is_named(stack: Settings) -> None:
    producer = f"audited-{secrets.token_hex(4)}"
    with Emitter(producer) as emitter:
        for number in range(500):
            emitter.send(TOPIC.name, {**marker(TOPIC.event), "marker": False, "oca_id": f"oca-{number % 3}"})
    epoch = emitter.epoch

    def problems() -> list[str]:
        (found,) = audit.run(topics=[TOPIC.name], settle_s=60)
        return [words for words in found.problems if producer in words]

    assert problems() == []
    with warehouse.writer(stack.database) as client:
        count = f"SELECT count() FROM {TOPIC.table} WHERE producer_id = '{producer}'"
        assert client.query(count).result_rows == [(500,)]
        row = f"producer_id = '{producer}' AND seq = 77"
        client.command(f"CREATE TABLE {producer.replace('-', '_')} ENGINE = Memory AS SELECT * FROM {TOPIC.table} WHERE {row}")
        client.command(f"ALTER TABLE {TOPIC.table} DELETE WHERE {row} SETTINGS mutations_sync = 1")
        eventually(lambda: client.query(count).result_rows == [(499,)])
        (problem,) = problems()
        assert problem.startswith(f"lost: producer {producer}, epoch {epoch}, seq 77: acknowledged at partition ")
        client.command(
            f"INSERT INTO {TOPIC.table} SELECT * FROM {producer.replace('-', '_')}"
        )  # whoever audits this stack next finds it whole
        client.command(f"DROP TABLE {producer.replace('-', '_')}")
    assert problems() == []
