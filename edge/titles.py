"""The titles that can be played: `encoding.published`, folded into memory from its beginning and kept up to date."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from infra.base import kafka, log
from infra.base.registry import RegistryError, RegistryUnavailable
from infra.base.settings import settings
from schemas.catalogue import catalogue
from schemas.codec import BadFraming, BadPayload, Decoder

TOPIC = "encoding.published"
RETRY_AFTER_S = 1.0


@dataclass(frozen=True)
class Title:
    """One title in its newest version."""

    cid: str
    name: str
    version: int
    dash_path: str
    hls_path: str
    duration_ms: int


class Titles:
    """The folded table. `fold` is pure; `follow` reads the topic on a thread of its own until `stop`."""

    def __init__(self) -> None:
        self._titles: dict[str, Title] = {}
        self._stopping = threading.Event()
        self._log = log.get(__name__)
        self.caught_up = False
        """The topic has been read to where it ended when reading began."""

    def __len__(self) -> int:
        return len(self._titles)

    def all(self) -> list[Title]:
        """Every title, by name."""
        return sorted(self._titles.values(), key=lambda title: title.name)

    def find(self, wanted: str) -> Title | None:
        """The title with this cid, or else with this name."""
        return self._titles.get(wanted) or next((title for title in self._titles.values() if title.name == wanted), None)

    def fold(self, record: Mapping[str, Any]) -> None:
        """Take one published event; an older version than the known one changes nothing."""
        known = self._titles.get(record["cid"])
        if record["marker"] or (known is not None and known.version > record["version"]):
            return
        self._titles[record["cid"]] = Title(
            record["cid"], record["title"], record["version"], record["dash_path"], record["hls_path"], record["duration_ms"]
        )

    def follow(self, schema_of: Callable[[int], dict[str, Any]]) -> None:
        """Read until `stop`, whatever happens to Kafka and the registry meanwhile. Blocks: run it on a thread."""
        decode = Decoder(schema_of, catalogue().topic(TOPIC).event)
        while not self._stopping.is_set():
            consumer = kafka.consumer("edge.titles")
            try:
                self._follow(consumer, decode)
            except (KafkaException, RegistryUnavailable) as error:
                self._log.warning("titles cannot be read; trying again", reason=str(error))
                self._stopping.wait(RETRY_AFTER_S)
            finally:
                consumer.close()

    def stop(self) -> None:
        """Make `follow` return."""
        self._stopping.set()

    def _follow(self, consumer: Consumer, decode: Decoder) -> None:
        name = settings().topic(TOPIC)
        partitions = [TopicPartition(name, p, OFFSET_BEGINNING) for p in range(catalogue().topic(TOPIC).partitions)]
        ends = {p.partition: consumer.get_watermark_offsets(p, timeout=10)[1] for p in partitions}
        consumer.assign(partitions)
        while not self._stopping.is_set():
            message = consumer.poll(0.2)
            if message is not None:
                self._take(message, decode)
            if not self.caught_up:
                reached = {p.partition: p.offset for p in consumer.position(partitions)}
                self.caught_up = all(end <= 0 or reached[partition] >= end for partition, end in ends.items())

    def _take(self, message: Message, decode: Decoder) -> None:
        if message.error() is not None:
            raise KafkaException(message.error())
        try:
            self.fold(decode(message.value()))
        except (BadFraming, BadPayload, RegistryError) as error:
            self._log.error("a published event cannot be read", partition=message.partition(), offset=message.offset(), reason=str(error))
