"""What a compacted topic says now, the last event of each key, and how it is made to say something else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from infra.base import kafka
from infra.base.settings import settings
from producers.emit import Backpressure, Emitter
from schemas.catalogue import Topic
from schemas.codec import Decoder

ENVELOPE = frozenset({"event_id", "event_time", "producer_id", "epoch", "seq", "correlation_id", "marker"})
ANSWERS_S = 10.0
"""Who is asked for nothing but his topics answers within this."""
QUIET_S = 30.0
"""A broker that says nothing for so long is not there."""


def standing(topic: Topic, schema_of: Callable[[int], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The contract's own fields of the last event of each key, by key. Blocks until the topic's end. Raises like `everything`."""
    found: dict[str, dict[str, Any]] = {}
    for record in everything(topic, schema_of):
        found[str(record[topic.key])] = {name: value for name, value in record.items() if name not in ENVELOPE}
    return found


def everything(topic: Topic, schema_of: Callable[[int], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each event of a topic, those of one key in order, without time markers. Blocks until the topic's end.

    Raises KafkaException, TimeoutError, and like `Decoder`: what cannot be read must not be taken for what is not there.
    """
    decode = Decoder(schema_of, topic.event)
    with closing(kafka.consumer("topology", enable_partition_eof=True, log_level=0)) as reader:
        try:
            reader.list_topics(timeout=ANSWERS_S)
        except KafkaException:
            raise TimeoutError(f"no broker answers at {settings().kafka.bootstrap}") from None
        reader.assign([TopicPartition(settings().topic(topic.name), p, OFFSET_BEGINNING) for p in range(topic.partitions)])
        reading = set(range(topic.partitions))
        while reading:
            message = reader.poll(QUIET_S)
            if message is None:
                raise TimeoutError(f"{topic.name} cannot be read to its end: the broker has said nothing for {QUIET_S:g} s")
            if message.error() is None:
                record = decode(message.value())
                if not record["marker"]:
                    yield record
            elif message.error().code() == KafkaError._PARTITION_EOF:
                reading.discard(message.partition())
            else:
                raise KafkaException(message.error())


def tell(emitter: Emitter, events: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Send (topic, event) after (topic, event), and wait until Kafka has acknowledged all of them.

    Raises like `Emitter.send`, but for Backpressure, which is waited out, and RuntimeError where Kafka gave up on some.
    """
    for topic, event in events:
        while True:
            try:
                emitter.send(topic, event)
                break
            except Backpressure:
                emitter.poll(0.05)
    unknown = emitter.flush()
    if unknown or emitter.counts.failed:
        raise RuntimeError(f"Kafka has not acknowledged {unknown + emitter.counts.failed} of {emitter.counts.sent} events: do it again")
