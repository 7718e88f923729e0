"""Emit: the one way events get onto the backbone — typed, schema-checked, idempotent, with a ledger of acknowledgements.

    with Emitter("oca-1") as emitter:
        emitter.send("delivery.access", {"oca_id": "oca-1", ...}, correlation_id=correlation_id)

An event is on the backbone when the broker has acknowledged it and `flush` returned 0; what was not acknowledged is retried by
librdkafka for `kafka.delivery_timeout_ms`, then counted in `failed`, written to the ledger and given to `on_delivery`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from confluent_kafka import Message, Producer

from infra.base import kafka, log
from infra.base.clock import Clock, WallClock
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from producers.ledger import Ledger
from schemas.catalogue import Topic, catalogue
from schemas.codec import Encoder
from schemas.envelope import Stamp, fingerprint, marker

OnDelivery = Callable[[Exception | None], None]
"""Called once per event from `poll` or `flush`: None when acknowledged, else why not."""


class Backpressure(Exception):
    """The local queue is full: Kafka is slower than the caller. Poll, wait or refuse upstream; nothing was sent."""


class DeliveryFailed(Exception):
    """An event was given up after all retries."""


@dataclass
class Counts:
    """Events since the emitter was made."""

    sent: int = 0
    acknowledged: int = 0
    failed: int = 0

    @property
    def in_flight(self) -> int:
        """Sent and not yet known to be stored or lost."""
        return self.sent - self.acknowledged - self.failed


class Emitter:
    """A producer's door to the backbone. Safe to share between threads; `send` never blocks on the network after the first use of a topic.

    `producer_id` names the producer for ever; each start gets a new epoch from its ledger.
    """

    def __init__(
        self,
        producer_id: str,
        *,
        clock: Clock | None = None,
        registry: RegistryClient | None = None,
        producer: Producer | None = None,
        ledger_root: Path | None = None,
        schema_ids: Mapping[str, int] | None = None,
    ) -> None:
        self.clock: Clock = clock or WallClock()
        self.counts = Counts()
        self._ledger = Ledger(producer_id, self.clock.now_ms(), ledger_root)
        self._stamp = Stamp(producer_id, self._ledger.epoch)
        self._producer = producer or kafka.producer()
        self._registry = registry
        self._schema_ids = dict(schema_ids or {})
        self._routes: dict[str, tuple[Topic, str, Encoder]] = {}
        self._lock = threading.RLock()
        self._log = log.get(__name__)

    @property
    def producer_id(self) -> str:
        """Who we are."""
        return self._stamp.producer_id

    @property
    def epoch(self) -> int:
        """Which incarnation of us this is."""
        return self._stamp.epoch

    def send(
        self,
        topic: str,
        record: Mapping[str, Any],
        *,
        event_time_ms: int | None = None,
        event_id: str | None = None,
        correlation_id: str = "",
        partition: int = -1,
        on_delivery: OnDelivery | None = None,
    ) -> None:
        """Stamp, check, encode and queue one event for `topic` (its declared name, without namespace).

        `record` holds the contract's own fields. Raises InvalidEvent when it does not fit, Backpressure when the queue is full,
        RegistryError or RegistryUnavailable on the first event of a topic. None of these uses up a sequence number.
        """
        with self._lock:
            declared, name, encoder = self._route(topic)
            event_time = self.clock.now_ms() if event_time_ms is None else event_time_ms
            event = self._stamp(topic, record, event_time, event_id, correlation_id)
            seq = event["seq"]
            framed = encoder(event)
            digest = fingerprint(framed)
            key = event[declared.key]
            self._ledger.reserve(topic, seq)

            def delivered(error: Any, message: Message) -> None:
                self._delivered(topic, seq, digest, error, message, on_delivery)

            try:
                self._producer.produce(
                    name, framed, key=str(key).encode(), partition=partition, timestamp=self.clock.now_ms(), on_delivery=delivered
                )
            except BufferError:
                self.poll()
                raise Backpressure(f"{len(self._producer)} events wait for Kafka") from None
            self._stamp.used(topic)
            self.counts.sent += 1

    def mark(self, topic: str) -> None:
        """Write a time marker to every partition of `topic`."""
        declared, _, _ = self._route(topic)
        for partition in range(declared.partitions):
            self.send(topic, marker(declared.event), partition=partition)

    def poll(self, timeout_s: float = 0.0) -> None:
        """Run delivery callbacks and make acknowledgements durable in the ledger. Call regularly."""
        self._producer.poll(timeout_s)
        with self._lock:
            self._ledger.flush()

    def flush(self, timeout_s: float = 30.0) -> int:
        """Wait until everything sent is acknowledged or given up; returns how many are still unknown."""
        left = int(self._producer.flush(timeout_s))
        with self._lock:
            self._ledger.flush()
        return left

    def close(self) -> None:
        """Flush, then close the ledger in order. What stays unknown stays unknown in the ledger."""
        left = self.flush()
        with self._lock:
            if left:
                self._log.error("closing with sends of unknown outcome", producer_id=self.producer_id, unknown=left)
            self._ledger.close((topic, self._stamp.next_seq(topic)) for topic in self._routes)

    def __enter__(self) -> Emitter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _route(self, topic: str) -> tuple[Topic, str, Encoder]:
        if topic not in self._routes:
            declared = catalogue().topic(topic)
            if topic not in self._schema_ids:
                client = self._registry or RegistryClient()
                self._schema_ids[topic] = client.lookup(settings().topic(declared.name) + "-value", declared.event.schema)
            self._routes[topic] = (declared, settings().topic(topic), Encoder(declared.event, self._schema_ids[topic]))
        return self._routes[topic]

    def _delivered(self, topic: str, seq: int, digest: str, error: Any, message: Message, on_delivery: OnDelivery | None) -> None:
        with self._lock:
            if error is None:
                self.counts.acknowledged += 1
                self._ledger.acknowledged(topic, message.partition(), message.offset(), seq, digest)
            else:
                self.counts.failed += 1
                self._ledger.failed(topic, seq, str(error))
                self._log.error("event given up", topic=topic, seq=seq, reason=str(error))
        if on_delivery is not None:
            on_delivery(None if error is None else DeliveryFailed(str(error)))
