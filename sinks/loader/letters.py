"""The dead-letter topic, as the loader writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException

from infra.base import kafka
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from schemas.catalogue import catalogue
from schemas.codec import INT, BadFraming, Encoder, schema_id_of
from sinks.loader.lane import Refusal
from sinks.loader.table import Block

TOPIC = "observability.dead_letter"
DETAIL_CHARS = 2_000
ROOM_BYTES = 9_000_000
"""Payload that fits into one letter."""


class DeadLetters:
    """Writes letters and waits for their acknowledgement. Safe to share between threads.

    A letter depends on nothing but the message and the refusal, and its `event_id` is topic:partition:offset: written again after
    a crash it is recognised as the same. Like a job's output it has epoch 0 and seq -1. Keys of messages are not kept by the loader.
    """

    def __init__(self, registry: RegistryClient) -> None:
        self._registry = registry
        self._encoder: Encoder | None = None
        self._producer = kafka.producer()

    def bury(self, topic: str, partition: int, block: Block, dead: Mapping[int, Refusal]) -> None:
        """Write one letter for each dead message of `block`. Raises RegistryUnavailable, KafkaException; then bury all of them again."""
        if self._encoder is None:
            event = catalogue().topic(TOPIC).event
            self._encoder = Encoder(event, self._registry.lookup(settings().topic(TOPIC) + "-value", event.schema))
        failures: list[Any] = []

        def delivered(error: Any, _: Any) -> None:
            if error is not None:
                failures.append(error)

        gone = block.at(sorted(dead))
        for offset, time_ms, payload in zip(gone.offsets, gone.times_ms, gone.messages, strict=True):
            letter = self._encoder(self._letter(topic, partition, offset, time_ms, payload, dead[offset]))
            self._producer.produce(settings().topic(TOPIC), letter, key=topic.encode(), on_delivery=delivered)
        left = self._producer.flush(30)
        if left or failures:
            raise KafkaException(failures[0]) if failures else TimeoutError(f"{left} dead letters were not acknowledged within 30 s")

    def _letter(self, topic: str, partition: int, offset: int, time_ms: int, payload: bytes, refusal: Refusal) -> dict[str, Any]:
        return {
            "event_id": f"{settings().topic(topic)}:{partition}:{offset}",
            "event_time": time_ms,
            "producer_id": "loader",
            "epoch": 0,
            "seq": -1,
            "component": "loader",
            "topic": topic,
            "source_partition": partition,
            "source_offset": offset,
            "reason": refusal.reason,
            "detail": refusal.detail[:DETAIL_CHARS],
            "schema_id": named_schema(payload),
            "payload": payload[:ROOM_BYTES],
        }


def named_schema(payload: bytes) -> int | None:
    """The schema id in the framing, where there is one that a letter can hold."""
    try:
        schema_id = schema_id_of(payload)
    except BadFraming:
        return None
    return schema_id if schema_id <= INT[1] else None
