"""Kafka clients: the only place where they are made, so that partitioner, acknowledgement and time-outs agree everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from infra.base.settings import settings


def producer(**overrides: Any) -> Producer:
    """An idempotent producer: acks=all, the Java murmur2 partitioner (so that every client puts a key on the same partition)."""
    kafka = settings().kafka
    config: dict[str, Any] = {
        "bootstrap.servers": kafka.bootstrap,
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": 5,
        "delivery.timeout.ms": kafka.delivery_timeout_ms,
        "queue.buffering.max.messages": 500_000,
        "message.max.bytes": 10_000_000,
    }
    return Producer({**config, **_options(overrides)})


def consumer(group: str, **overrides: Any) -> Consumer:
    """A read-committed consumer of a group; nothing is committed unless the caller commits."""
    kafka = settings().kafka
    config: dict[str, Any] = {
        "bootstrap.servers": kafka.bootstrap,
        "group.id": settings().topic(group),
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": kafka.session_timeout_ms,
        "heartbeat.interval.ms": max(1_000, kafka.session_timeout_ms // 4),
        "partition.assignment.strategy": "cooperative-sticky",
        "enable.partition.eof": False,
        "fetch.message.max.bytes": 16 << 20,
        "queued.min.messages": 100_000,
    }
    return Consumer({**config, **_options(overrides)})


def _options(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """librdkafka's names of them: with dots, but for the one that it writes otherwise."""
    return {name if name == "log_level" else name.replace("_", "."): value for name, value in overrides.items()}


def admin() -> AdminClient:
    """An admin client."""
    return AdminClient({"bootstrap.servers": settings().kafka.bootstrap})


def ensure_topics(topics: list[NewTopic], timeout_s: float = 30.0) -> list[str]:
    """Create what does not exist, bring the configs of what does up to date; returns the names created. Idempotent.

    Raises KafkaException when the broker refuses.
    """
    client = admin()
    existing = set(client.list_topics(timeout=timeout_s).topics)
    created = [t.topic for t in topics if t.topic not in existing]
    for future in (
        client.create_topics([t for t in topics if t.topic not in existing], request_timeout=timeout_s).values() if created else []
    ):
        try:
            future.result(timeout_s)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise
    stale = [
        ConfigResource(
            ResourceType.TOPIC,
            t.topic,
            incremental_configs=[ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in t.config.items()],
        )
        for t in topics
        if t.topic in existing and t.config
    ]
    for future in client.incremental_alter_configs(stale, request_timeout=timeout_s).values() if stale else []:
        future.result(timeout_s)
    return created
