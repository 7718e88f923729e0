"""Emit: the one way events get onto the backbone — typed, schema-checked, idempotent, with a ledger of acknowledgements.

    with Emitter("oca-1") as emitter:
        emitter.send("delivery.access", {"oca_id": "oca-1", ...}, correlation_id=correlation_id)

An event is on the backbone when the broker has acknowledged it and `flush` returned 0; what was not acknowledged is retried by
librdkafka for `kafka.delivery_timeout_ms`, then counted in `failed`, written to the ledger and given to `on_delivery`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from infra.base import kafka, log
from infra.base.clock import Clock, WallClock
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from producers.ledger import Ledger
from schemas.catalogue import Topic, catalogue
from schemas.codec import Encoder, InvalidEvent
from schemas.envelope import Stamp, fingerprint, fingerprints, marker

OnDelivery = Callable[[Exception | None], None]
"""Called once per event from `poll` or `flush`: None when acknowledged, else why not. What it raises is logged, not passed on."""


class Backpressure(Exception):
    """The local queue is full: Kafka is slower than the caller. Poll, wait or refuse upstream; nothing was sent."""


class DeliveryFailed(Exception):
    """An event was given up after all retries."""


class ProducerBroken(Exception):
    """The Kafka client met a fatal error and sends nothing any more: end the process, its next incarnation starts afresh."""


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


@dataclass(frozen=True, slots=True)
class _Route:
    """Where the events of a topic go, and how they are written."""

    topic: Topic
    kafka_name: str
    encode: Encoder


class Emitter:
    """A producer's door to the backbone. Safe to share between threads; `send` never blocks on the network after the first use of a topic.

    `producer_id` names the producer for ever; each start gets a new epoch from its ledger. Somebody must call `poll` regularly: the caller,
    or, with `background=True`, a thread of the emitter, on which `on_delivery` then runs.
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
        background: bool = False,
    ) -> None:
        self.clock: Clock = clock or WallClock()
        self.counts = Counts()
        self._ledger = Ledger(producer_id, self.clock.now_ms(), ledger_root)
        self._stamp = Stamp(producer_id, self._ledger.epoch)
        self._producer = producer or kafka.producer()
        self._registry = registry
        self._schema_ids = dict(schema_ids or {})
        self._routes: dict[str, _Route] = {}
        self._lock = threading.Lock()
        self._log = log.get(__name__)
        self._broken: str | None = None
        self._acknowledged: list[str] = []
        """Lines for the ledger that callbacks have left."""
        self._closed = threading.Event()
        self._poller = threading.Thread(target=self._poll_until_closed, name=f"{producer_id}-poll", daemon=True) if background else None
        if self._poller is not None:
            self._poller.start()

    @property
    def producer_id(self) -> str:
        """Who we are."""
        return self._stamp.producer_id

    @property
    def epoch(self) -> int:
        """Which incarnation of us this is."""
        return self._stamp.epoch

    @property
    def broken(self) -> str | None:
        """Why nothing can be sent any more; None while all is well."""
        return self._broken

    def schema_id(self, topic: str) -> int:
        """The id that events of `topic` are written under. Raises like `bind`."""
        return self._route(topic).encode.schema_id

    def bind(self, *topics: str) -> None:
        """Look up the schema ids of `topics` now rather than at their first event.

        Raises RegistryUnavailable, or RegistryError where a contract is not published.
        """
        for topic in topics:
            self._route(topic)

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
        ProducerBroken after a fatal error, RegistryError or RegistryUnavailable on the first event of a topic. After none of these
        has a sequence number been used up.
        """
        route = self._routes.get(topic) or self._route(topic)
        now_ms = self.clock.now_ms()
        with self._lock:
            event = self._stamp(topic, record, now_ms if event_time_ms is None else event_time_ms, event_id, correlation_id)
            key = event[route.topic.key]
            self._queue(
                route, event["seq"], route.encode(event), None if key is None else str(key).encode(), now_ms, partition, on_delivery
            )

    def send_all(self, topic: str, keys: Sequence[bytes], times_ms: Sequence[int], write: Callable[[int, int], list[bytes]]) -> None:
        """Queue many events of one topic at once, which is what the simulator's bulk is sent by; blocks while the queue is full.

        `write(epoch, first seq)` returns the framed events, one a key, under `schema_id(topic)`; `times_ms` become their Kafka timestamps.
        Raises what `write` raises, before a sequence number has been used up, and InvalidEvent or ProducerBroken like `send`; then the
        events that were not queued are in the ledger as given up.
        """
        route = self._routes.get(topic) or self._route(topic)
        with self._lock:
            first = self._stamp.next_seq(topic)
            framed = write(self.epoch, first)
            self._stamp.used(topic, len(framed))
            self.counts.sent += len(framed)
            self._ledger.reserve(topic, first + len(framed) - 1)
        facts = [f"{seq} {digest}" for seq, digest in enumerate(fingerprints(framed), first)]
        produce, delivered = self._producer.produce, self._delivered_quietly
        for number, (key, body, at_ms, fact) in enumerate(zip(keys, framed, times_ms, facts, strict=True)):
            while True:
                try:
                    produce(route.kafka_name, body, key, -1, partial(delivered, topic, fact), timestamp=at_ms)
                    break
                except BufferError:
                    self.poll(0.05)
                except KafkaException as error:
                    refusal = self._refused(topic, body, error.args[0])
                    with self._lock:
                        self.counts.failed += len(framed) - number
                        for seq in range(first + number, first + len(framed)):
                            self._ledger.failed(topic, seq, str(refusal))
                    raise refusal from None

    def _queue(
        self, route: _Route, seq: int, framed: bytes, key: bytes | None, now_ms: int, partition: int, on_delivery: OnDelivery | None
    ) -> None:
        """Hand one framed event to librdkafka; the sequence number is used up when that has taken it. Call with the lock held."""
        topic = route.topic.name
        digest = fingerprint(framed)
        delivered: Callable[[KafkaError | None, Message], None]
        if on_delivery is None:
            delivered = partial(self._delivered_quietly, topic, f"{seq} {digest}")
        else:

            def delivered(error: KafkaError | None, message: Message) -> None:
                self._delivered(topic, seq, digest, error, message, on_delivery)

        self._ledger.reserve(topic, seq)
        try:
            self._producer.produce(route.kafka_name, framed, key=key, partition=partition, timestamp=now_ms, on_delivery=delivered)
        except BufferError:
            raise Backpressure(f"{self.counts.in_flight} events wait for Kafka") from None
        except KafkaException as error:
            raise self._refused(topic, framed, error.args[0]) from None
        self._stamp.used(topic)
        self.counts.sent += 1

    def mark(self, topic: str, event_time_ms: int | None = None, on_delivery: OnDelivery | None = None, *, wait: bool = False) -> None:
        """Write a time marker to every partition of `topic`: no event older than this, less the topic's watermark delay, is known to us.

        Raises like `send`; what it wrote before that stays. With `wait` it blocks while the queue is full, and never raises Backpressure.
        """
        declared = self._route(topic).topic
        for partition in range(declared.partitions):
            while True:
                try:
                    self.send(topic, marker(declared.event), event_time_ms=event_time_ms, partition=partition, on_delivery=on_delivery)
                    break
                except Backpressure:
                    if not wait:
                        raise
                    self.poll(0.05)

    def poll(self, timeout_s: float = 0.0) -> None:
        """Run delivery callbacks and make acknowledgements durable in the ledger. Call regularly."""
        self._producer.poll(timeout_s)
        self._write_down()

    def flush(self, timeout_s: float = 30.0) -> int:
        """Wait until everything sent is acknowledged or given up; returns how many are still unknown."""
        left = int(self._producer.flush(timeout_s))
        self._write_down()
        return left

    def _write_down(self) -> None:
        """What callbacks have noted becomes durable."""
        with self._lock:
            many = self._acknowledged[:]  # callbacks on another thread may go on appending
            del self._acknowledged[: len(many)]
            self.counts.acknowledged += len(many)
            self._ledger.note(many)
            self._ledger.flush()

    def close(self, timeout_s: float = 8.0) -> None:
        """Flush, then close the ledger in order; once is enough. What stays unknown stays unknown in the ledger.

        The default is less than a supervisor's patience: a kill would lose the ledger's last lines for nothing.
        """
        if self._closed.is_set():
            return
        self._closed.set()
        if self._poller is not None:
            self._poller.join()
        left = self.flush(timeout_s)
        if left:
            self._log.error("closing with sends of unknown outcome", producer_id=self.producer_id, unknown=left)
        with self._lock:
            self._ledger.close([(topic, self._stamp.next_seq(topic)) for topic in self._routes])

    def __enter__(self) -> Emitter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _route(self, topic: str) -> _Route:
        """The route of a topic. Two threads may look it up at once; both find the same."""
        route = self._routes.get(topic)
        if route is None:
            declared = catalogue().topic(topic)
            name = settings().topic(declared.name)
            schema_id = self._schema_ids.get(topic)
            if schema_id is None:
                schema_id = (self._registry or RegistryClient()).lookup(f"{name}-value", declared.event.schema)
            route = self._routes.setdefault(topic, _Route(declared, name, Encoder(declared.event, schema_id)))
        return route

    def _refused(self, topic: str, framed: bytes, error: KafkaError) -> Exception:
        """What to tell the caller when librdkafka takes a message not even into its queue."""
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return InvalidEvent(f"{topic}: {len(framed)} bytes are more than Kafka takes in one message")
        if error.fatal():
            self._broken = str(error)
            return ProducerBroken(f"{self.producer_id} cannot send any more: {error}")
        refusal: Exception = KafkaException(error)
        return refusal

    def _delivered(
        self, topic: str, seq: int, digest: str, error: KafkaError | None, message: Message, on_delivery: OnDelivery | None
    ) -> None:
        with self._lock:
            if error is None:
                self.counts.acknowledged += 1
                self._ledger.acknowledged(topic, message.partition(), message.offset(), seq, digest)
            else:
                self.counts.failed += 1
                self._ledger.failed(topic, seq, str(error))
        if error is not None:
            if error.fatal():
                self._broken = str(error)
            self._log.error("event given up", topic=topic, seq=seq, reason=str(error))
        if on_delivery is not None:
            try:
                on_delivery(None if error is None else DeliveryFailed(str(error)))
            except Exception as raised:  # one caller's mistake must not keep the others from their callbacks
                self._log.error("on_delivery raised", topic=topic, seq=seq, reason=repr(raised))

    def _delivered_quietly(self, topic: str, fact: str, error: KafkaError | None, message: Message) -> None:
        """The callback where nobody waits for another one; `fact` is seq and fingerprint. It takes no lock: events come by the million."""
        if error is None:
            self._acknowledged.append(f"A {topic} {message.partition()} {message.offset()} {fact}")
        else:
            self._delivered(topic, int(fact.partition(" ")[0]), "", error, message, None)

    def _poll_until_closed(self) -> None:
        while not self._closed.is_set():
            self.poll(0.05)
