"""The guard: which messages of foreign producers may go on? `python -m streams.guard`.

reads     <topic>.in of every topic with a door (`door: true`), as one consumer group
writes    <topic>, the same key, bytes, headers and timestamp; observability.dead_letter for what is refused, with reason and bytes
key       as it came
time      event_time must lie within [arrival - guard.max_age_s, arrival + guard.max_ahead_s]; arrival is the Kafka timestamp on the door
exactly   output and offsets are one Kafka transaction; on any doubt it is aborted and the group starts again from its last commit
state     none; a batch of at most MAX_BATCH messages in memory

A flow that reads the topic may then decode whatever it finds: one bad record would restart a Flink job for ever, and one date in the
future would push its watermark. The guard writes no time markers, because a door may have no producer at all.

Only content is a reason to refuse. While the registry does not answer, the batch waits.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from infra.base import kafka, log
from infra.base.registry import RegistryClient, RegistryError, RegistryUnavailable
from infra.base.settings import settings
from infra.base.status import serving
from schemas.catalogue import Event, Topic, catalogue
from schemas.codec import INT, BadFraming, BadPayload, Decoder, Encoder, schema_id_of

NAME = "guard"
DEAD_LETTERS = "observability.dead_letter"
MAX_BATCH = 5_000
LINGER_S = 0.2
TRANSACTION_TIMEOUT_MS = 30_000
"""How long the transaction of a killed guard may block readers, if no successor ends it sooner."""
OFFSETS_S = 30
"""How long the group's coordinator may take to accept the offsets of a transaction."""
STUCK_S = 45.0
"""librdkafka ignores OFFSETS_S when the coordinator was restarted meanwhile (its issues 5456 and 5511) and waits for ever."""
RETRY_S = 1.0
TAKEN_OVER = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.FENCED_INSTANCE_ID)
UNKNOWN_FOR_S = 5.0
"""An id that the registry did not know is asked for again after this long, not for each message."""
REMEMBERED_IDS = 10_000


class Refused(Exception):
    """A message that may not go on; `reason` is one of the dead letter's symbols."""

    def __init__(self, reason: str, detail: str, schema_id: int | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.schema_id = schema_id


class Aborted(Exception):
    """A batch was given back: its transaction is aborted, its offsets are not committed."""


class Inspector:
    """Decides on the messages of one door. Not thread-safe."""

    def __init__(self, topic: Topic, registry: RegistryClient) -> None:
        config = settings()
        self._subject = config.topic(topic.name) + "-value"
        self._registry = registry
        self._max_bytes = config.guard.max_bytes
        self._max_age_ms = config.guard.max_age_s * 1000
        self._max_ahead_ms = config.guard.max_ahead_s * 1000
        self._ours: set[int] = set()
        self._refused_ids: dict[int, tuple[float, Refused]] = {}
        self._decode = Decoder(lambda schema_id: _physical(registry.schema(schema_id)))
        self._symbols = [(f["name"], frozenset(f["symbols"])) for f in topic.event.fields if "symbols" in f]
        self._amounts = [f["name"] for f in topic.event.fields if "unit" in f]

    def __call__(self, framed: bytes | None, arrival_ms: int) -> None:
        """Return for what may go on. Raises Refused, or RegistryUnavailable, which says nothing about the message."""
        if framed is None:
            raise Refused("framing", "there is no value")
        if len(framed) > self._max_bytes:
            raise Refused("size", f"{len(framed)} bytes; a message has {self._max_bytes} at most")
        try:
            schema_id = schema_id_of(framed)
        except BadFraming as error:
            raise Refused("framing", str(error)) from None
        self._check_id(schema_id)
        try:
            record = self._decode(framed)
        except BadPayload as error:
            raise Refused("decode", str(error), schema_id) from None
        self._check_values(record, schema_id)
        ahead_ms = record["event_time"] - arrival_ms
        if not -self._max_age_ms <= ahead_ms <= self._max_ahead_ms:
            words = f"event_time {record['event_time']} is {abs(ahead_ms)} ms {'after' if ahead_ms > 0 else 'before'} its arrival"
            raise Refused("time_window", words, schema_id)

    def _check_id(self, schema_id: int) -> None:
        if schema_id in self._ours:
            return
        if schema_id > INT[1]:
            raise Refused("unknown_schema", f"no registry gives out {schema_id}: ids are int")
        asked_at, refusal = self._refused_ids.get(schema_id, (float("-inf"), None))
        if refusal is not None and time.monotonic() - asked_at < UNKNOWN_FOR_S:
            raise refusal
        try:
            subjects = self._registry.subjects_of(schema_id)
        except RegistryError as error:
            if error.code != 404:
                raise RegistryUnavailable(f"the registry does not say what schema {schema_id} is: {error}") from error
            refusal = Refused("unknown_schema", f"the registry knows no schema {schema_id}", schema_id)
        else:
            if self._subject in subjects:
                self._ours.add(schema_id)
                return
            words = f"schema {schema_id} belongs to {', '.join(subjects) or 'no subject'}, not to {self._subject}"
            refusal = Refused("schema_mismatch", words, schema_id)
        if len(self._refused_ids) >= REMEMBERED_IDS:
            self._refused_ids.clear()
        self._refused_ids[schema_id] = (time.monotonic(), refusal)
        raise refusal

    def _check_values(self, record: Mapping[str, Any], schema_id: int) -> None:
        """What Avro cannot say. A field that the writer's version does not have is right."""
        for name, symbols in self._symbols:
            value = record.get(name)
            if value is not None and value not in symbols:
                raise Refused("decode", f"{name} is {value[:80]!r}, none of {', '.join(sorted(symbols))}", schema_id)
        for name in self._amounts:
            value = record.get(name)
            if value is not None and value < 0:
                raise Refused("decode", f"{name} is {value}; an amount cannot be negative", schema_id)


@dataclass(frozen=True)
class Door:
    """One door: the topic it leads to, that topic's Kafka name, and who decides."""

    topic: Topic
    leads_to: str
    inspect: Inspector


class Guard:
    """Moves messages from doors to topics. `run` blocks until `stop`."""

    def __init__(self, topics: Iterable[Topic], registry: RegistryClient, transactional_id: str) -> None:
        config = settings()
        self._doors = {config.topic(t.door_name): Door(t, config.topic(t.name), Inspector(t, registry)) for t in topics}
        self._registry = registry
        self._transactional_id = config.topic(transactional_id)
        self._stopping = threading.Event()
        self._log = log.get(__name__)
        self._counts: Counter[str] = Counter()
        self._waiting_for = "Kafka"
        self._last_round = float("-inf")

    def status(self) -> tuple[bool, dict[str, Any]]:
        """Whether messages move, and how many went where since the start."""
        stalled = time.monotonic() - self._last_round > 30
        waiting = self._waiting_for or ("the loop to turn" if stalled else "")
        counts = {reason: n for reason, n in sorted(self._counts.items()) if reason != "forwarded"}
        return not waiting, {"waiting_for": waiting or None, "forwarded": self._counts["forwarded"], "dead_letters": counts}

    def stop(self) -> None:
        """Make `run` return after the batch under way."""
        self._stopping.set()

    def run(self) -> None:
        """Guard until `stop`. Raises KafkaException when we cannot go on, as when another guard with our id has taken over."""
        producer = kafka.producer(
            transactional_id=self._transactional_id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            delivery_timeout_ms=TRANSACTION_TIMEOUT_MS,
        )
        self._start(producer)
        dead_letters = self._dead_letter_encoder()
        while not self._stopping.is_set() and dead_letters is not None:
            # A static member: the next incarnation gets our share at once instead of after our session's end.
            consumer = kafka.consumer(NAME, group_instance_id=self._transactional_id)
            # With a callback of ours a rebalance waits for the next consume(): no partition changes hands within a batch.
            consumer.subscribe(list(self._doors), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
            try:
                while not self._stopping.is_set():
                    self._turn(consumer, producer, dead_letters)
            except Aborted as error:
                self._log.warning("starting again from the last commit", reason=str(error))
                self._stopping.wait(RETRY_S)
            consumer.close()  # not after a fatal error, see _end

    def _start(self, producer: Producer) -> None:
        """Take the transactional id over; waits for Kafka as long as it takes."""
        while not self._stopping.is_set():
            try:
                producer.init_transactions(10)
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
                self._log.warning("waiting for Kafka", reason=str(error))
            else:
                self._waiting_for = "its share of the doors"
                return

    def _dead_letter_encoder(self) -> Encoder | None:
        """The encoder of dead letters; waits for the registry as long as it takes, None when stopped meanwhile."""
        event: Event = catalogue().topic(DEAD_LETTERS).event
        while not self._stopping.is_set():
            try:
                return Encoder(event, self._registry.lookup(settings().topic(DEAD_LETTERS) + "-value", event.schema))
            except (RegistryUnavailable, RegistryError) as error:
                self._wait_for_registry(error)
        return None

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._waiting_for = ""
        self._log.info("guarding", partitions=len(partitions))

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._log.info("handing over", partitions=len(partitions))

    def _turn(self, consumer: Consumer, producer: Producer, dead_letters: Encoder) -> None:
        """One batch, all of it or nothing. Raises Aborted, or KafkaException when not even aborting is possible."""
        messages = consumer.consume(MAX_BATCH, LINGER_S)
        membership = consumer.consumer_group_metadata()
        self._last_round = time.monotonic()
        if not messages:
            return
        for message in messages:
            if message.error() is not None:
                raise KafkaException(message.error()) if message.error().fatal() else Aborted(str(message.error()))
        refusals = self._inspect(messages)
        if refusals is None:
            return
        ends: dict[tuple[str, int], int] = {}
        producer.begin_transaction()
        try:
            for message, refusal in zip(messages, refusals, strict=True):
                ends[message.topic(), message.partition()] = message.offset() + 1
                door = self._doors[message.topic()]
                if refusal is None:
                    self._produce(producer, door.leads_to, message.value(), message.key(), message)
                else:
                    letter = dead_letter(door.topic.door_name, message, refusal)
                    self._produce(producer, settings().topic(DEAD_LETTERS), dead_letters(letter), letter["topic"].encode(), None)
            with _ending_if_stuck():
                positions = [TopicPartition(t, p, offset) for (t, p), offset in ends.items()]
                producer.send_offsets_to_transaction(positions, membership, OFFSETS_S)
            _insist(producer.commit_transaction)
        except KafkaException as error:
            if error.args[0].fatal():
                raise
            _insist(producer.abort_transaction)
            raise Aborted(str(error)) from error
        self._counts.update("forwarded" if refusal is None else refusal.reason for refusal in refusals)

    def _inspect(self, messages: list[Message]) -> list[Refused | None] | None:
        """A refusal, or None for what may go on, for each message; waits for the registry, None when stopped meanwhile."""
        verdicts: list[Refused | None] = []
        for message in messages:
            while True:
                try:
                    self._doors[message.topic()].inspect(message.value(), message.timestamp()[1])
                    verdicts.append(None)
                except Refused as refusal:
                    verdicts.append(refusal)
                except RegistryUnavailable as error:
                    self._wait_for_registry(error)
                    if self._stopping.is_set():
                        return None
                    continue
                break
        self._waiting_for = ""
        return verdicts

    def _wait_for_registry(self, error: Exception) -> None:
        self._waiting_for = f"the registry: {error}"
        self._log.warning("waiting for the registry", reason=str(error))
        self._stopping.wait(RETRY_S)
        self._last_round = time.monotonic()

    @staticmethod
    def _produce(producer: Producer, topic: str, value: bytes, key: bytes | None, like: Message | None) -> None:
        """Queue one message of the transaction, with headers and timestamp of `like`; waits while the queue is full."""
        copied = {} if like is None else {"timestamp": like.timestamp()[1], "headers": like.headers() or []}
        while True:
            try:
                producer.produce(topic, value, key=key, **copied)
            except BufferError:
                producer.poll(0.1)
            else:
                return


@contextmanager
def _ending_if_stuck() -> Iterator[None]:
    """Runs a call that nothing can interrupt, and ends the process when it takes longer than STUCK_S.

    That is safe: the next incarnation takes the transactional id over, which aborts the transaction, and reads the batch again.
    """
    words = f"after {STUCK_S:.0f} s offsets were neither accepted nor refused: ending, so that the next incarnation goes on"
    watchdog = threading.Timer(STUCK_S, _end, [words])
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def _end(words: str) -> None:
    """End at once: clients that the broker has given up may wait for its answer for ever when they are closed."""
    log.get(__name__).error(words)
    os._exit(1)


def _insist(step: Callable[[float], None]) -> None:
    """Commit or abort; while the outcome is not known Kafka allows to ask again."""
    while True:
        try:
            step(30.0)
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
        else:
            return


def dead_letter(door: str, message: Message, refusal: Refused) -> dict[str, Any]:
    """The dead letter of a message refused at `door` (by its declared name).

    Its event_id is the message's position: a second letter of it would show as a duplicate.
    """
    payload = message.value() or b""
    kept = payload[: settings().guard.max_bytes]
    detail = str(refusal) if len(kept) == len(payload) else f"{refusal}; the first {len(kept)} are kept"
    partition, offset = message.partition(), message.offset()
    return {
        "event_id": f"{NAME}-{door}-{partition}-{offset}",
        "event_time": message.timestamp()[1],
        "producer_id": NAME,
        "epoch": 0,
        "seq": -1,
        "component": NAME,
        "topic": door,
        "source_partition": partition,
        "source_offset": offset,
        "reason": refusal.reason,
        "detail": detail,
        "schema_id": refusal.schema_id,
        "key_bytes": message.key(),
        "payload": kept,
    }


def _physical(kind: Any) -> Any:
    """A schema without its logical types: times stay the numbers they are, which no number is too large for."""
    if isinstance(kind, dict):
        return {name: _physical(part) for name, part in kind.items() if name not in ("logicalType", "default", "doc")}
    return [_physical(part) for part in kind] if isinstance(kind, list) else kind


def main() -> None:
    """Guard until asked to end."""
    parser = argparse.ArgumentParser(prog="python -m streams.guard", description="Check what foreign producers write.")
    parser.add_argument("--index", type=int, default=0, help="which of several guards that share the doors this is, from 0")
    arguments = parser.parse_args()
    log.configure(NAME)
    guard = Guard([t for t in catalogue().topics.values() if t.door], RegistryClient(), f"{NAME}-{arguments.index}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: guard.stop())
    with serving(settings().guard.status_url, guard.status):
        try:
            guard.run()
        except KafkaException as error:
            if error.args[0].code() not in TAKEN_OVER:
                raise
            _end(f"another guard has taken over: {error}")


if __name__ == "__main__":
    main()
