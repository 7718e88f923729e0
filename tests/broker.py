"""Kafka and a registry inside the test process: librdkafka's mock cluster, and a registry that is a dictionary."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from infra.base.registry import RegistryClient, RegistryError, RegistryUnavailable
from infra.base.settings import settings
from schemas.catalogue import catalogue
from schemas.codec import Decoder
from tests.kit import eventually

LIBRARIES = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"


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
    """One mock broker, gone with this object; topics come into being with four partitions.

    Made through librdkafka's own functions, since no setting says how long the first member of a group waits for others: 3 s, which every
    test with a group of its own would wait out.
    """

    FIRST_REBALANCE_MS = 100

    def __init__(self) -> None:
        self._library = library = ctypes.CDLL(str(next(LIBRARIES.glob("librdkafka-*"))))
        library.rd_kafka_new.restype = library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
        library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        self._owner = ctypes.c_void_p(library.rd_kafka_new(0, None, None, ctypes.c_size_t(0)))
        library.rd_kafka_set_log_level(self._owner, 0)
        self._cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(self._owner, 1))
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, self.FIRST_REBALANCE_MS)
        self.bootstrap = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def make(self, topic: str, partitions: int) -> None:
        """A topic with so many partitions, before anybody mentions it."""
        assert self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1) == 0

    def go_away(self) -> None:
        """The broker is down: connections end, and no new one comes about."""
        self._library.rd_kafka_mock_broker_set_down(self._cluster, 1)

    def close(self) -> None:
        """End the broker; whoever still talks to it finds nobody."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._owner)

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
    cluster.close()


@pytest.fixture
def registry(cluster: MockCluster) -> FakeRegistry:
    """A registry that knows the catalogue."""
    return FakeRegistry()


def records(cluster: MockCluster, registry: FakeRegistry, topic: str, count: int) -> list[dict[str, Any]]:
    """The first `count` events of a topic that are no time markers."""
    decode = Decoder(registry.schema)
    found = cluster.messages(settings().topic(topic), count, lambda message: not decode(message.value())["marker"])
    return [decode(message.value()) for message in found]
