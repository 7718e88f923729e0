"""Kafka and a registry inside the test process: librdkafka's mock cluster, and a registry that is a dictionary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from infra.base.registry import RegistryClient, RegistryError, RegistryUnavailable
from infra.base.settings import settings
from schemas.catalogue import catalogue
from schemas.codec import Decoder
from tests.kit import eventually


class FakeRegistry(RegistryClient):
    """Every contract of the catalogue published, ids from 1; `down` makes it an outage."""

    def __init__(self) -> None:
        self.down = False
        self.asked = 0
        self._published = {
            number: (f"{settings().topic(topic.name)}-value", topic.event.schema)
            for number, topic in enumerate(catalogue().topics.values(), 1)
        }

    def id_of(self, topic: str) -> int:
        """The id of a topic's contract."""
        return next(number for number, (subject, _) in self._published.items() if subject == f"{settings().topic(topic)}-value")

    def lookup(self, subject: str, schema: dict[str, Any]) -> int:
        self._answer()
        for number, (published, _) in self._published.items():
            if published == subject:
                return number
        raise RegistryError(f"no subject {subject}", 404)

    def schema(self, schema_id: int) -> dict[str, Any]:
        return self._entry(schema_id)[1]

    def subjects_of(self, schema_id: int) -> list[str]:
        return [self._entry(schema_id)[0]]

    def _entry(self, schema_id: int) -> tuple[str, dict[str, Any]]:
        self._answer()
        if schema_id not in self._published:
            raise RegistryError(f"Schema {schema_id} not found.", 404)
        return self._published[schema_id]

    def _answer(self) -> None:
        self.asked += 1
        if self.down:
            raise RegistryUnavailable("the registry does not answer")


class MockCluster:
    """One mock broker, gone with this object."""

    def __init__(self) -> None:
        self._owner = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        (broker,) = self._owner.list_topics(timeout=10).brokers.values()
        self.bootstrap = f"{broker.host}:{broker.port}"

    def messages(self, topic: str, count: int, wanted: Callable[[Message], bool] = lambda _: True, within_s: float = 20.0) -> list[Message]:
        """The first `count` wanted messages of all partitions of `topic`; fails when fewer come in time."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test", "auto.offset.reset": "earliest", "log_level": 0})
        try:
            partitions = eventually(
                lambda: consumer.list_topics(topic, timeout=10).topics[topic].partitions
            )  # none on a topic's first mention
            consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
            found: list[Message] = []
            deadline = time.monotonic() + within_s
            while len(found) < count and time.monotonic() < deadline:
                found += [message for message in consumer.consume(count - len(found), 0.2) if message.error() is None and wanted(message)]
            assert len(found) == count, f"{len(found)} of {count} messages came on {topic}"
            return found
        finally:
            consumer.close()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MockCluster]:
    """A mock cluster that `settings()` points at, with a state directory of its own."""
    cluster = MockCluster()
    monkeypatch.setenv("HEADRACE_KAFKA__BOOTSTRAP", cluster.bootstrap)
    monkeypatch.setenv("HEADRACE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("HEADRACE_NAMESPACE", "")
    settings.cache_clear()
    yield cluster
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture
def registry(cluster: MockCluster) -> FakeRegistry:
    """A registry that knows the catalogue."""
    return FakeRegistry()


def records(cluster: MockCluster, registry: FakeRegistry, topic: str, count: int) -> list[dict[str, Any]]:
    """The first `count` events of a topic that are no time markers."""
    decode = Decoder(registry.schema)
    found = cluster.messages(settings().topic(topic), count, lambda message: not decode(message.value())["marker"])
    return [decode(message.value()) for message in found]
