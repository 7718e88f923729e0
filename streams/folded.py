"""A topic folded into memory: read from its beginning, kept up to date on a thread of its own, looked at by the request path."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.base import kafka, log
from infra.base.registry import RegistryError, RegistryUnavailable
from infra.base.settings import settings
from schemas.catalogue import catalogue
from schemas.codec import BadFraming, BadPayload, Decoder

RETRY_AFTER_S = 1.0
LOOK_EVERY_S = 1.0
"""How often the broker is asked where the topic ends; an answer shows that nothing is missing, however quiet the topic is."""
AT_ONCE = 500
"""Messages that are taken and folded in one go."""

QUEUED_KB = 4_096
"""Messages that wait to be folded, KiB a partition: reading ahead of the interpreter brings nothing but memory."""
WAIT_S = 0.1
"""How long an event may wait for others to be folded with."""

T = TypeVar("T")


class Unfit(ValueError):
    """An event that fits its contract and cannot be true; the message says which, why, and what was kept."""


class Folded(ABC, Generic[T]):
    """One topic's events folded into `table`. `into` is pure; `follow` reads on a thread of its own until `stop`.

    When the topic has to be read again it is folded into a new table beside the old one, which answers until the new one is complete.
    """

    topic: str

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.table: T = self.new()
        self.caught_up = False
        """The topic has been read to where it ended when reading began."""
        self.refused = 0
        """Events that could not be read or could not be true."""
        self._now_s = now_s
        self._fresh_at_s = now_s()
        self._stopping, self._again = threading.Event(), threading.Event()
        self._log = log.get(__name__)

    @abstractmethod
    def new(self) -> T:
        """An empty table."""

    @abstractmethod
    def into(self, table: T, record: Mapping[str, Any]) -> None:
        """Take one event that is no time marker. Raises Unfit, and then has changed nothing."""

    def decoder(self, schema_of: Callable[[int], dict[str, Any]]) -> Callable[[bytes], Mapping[str, Any]]:
        """What makes a record of a message. Raises like `Decoder`."""
        return Decoder(schema_of, catalogue().topic(self.topic).event)

    def settle(self, table: T) -> None:
        """Work out what follows from all events taken so far: called when the table is complete, and after each batch from then on."""

    def fold(self, record: Mapping[str, Any]) -> None:
        """Take one event into the table that answers. Raises Unfit."""
        if not record["marker"]:
            self.into(self.table, record)
            self.settle(self.table)

    @property
    def age_ms(self) -> int:
        """How long ago the table was known to hold everything; since its beginning, if it never was."""
        return int((self._now_s() - self._fresh_at_s) * 1000)

    def follow(self, schema_of: Callable[[int], dict[str, Any]]) -> None:
        """Read until `stop`, whatever happens to Kafka and the registry meanwhile. Blocks: run it on a thread."""
        decode = self.decoder(schema_of)
        while not self._stopping.is_set():
            consumer = kafka.consumer(f"folded.{self.topic}", enable_partition_eof=True, queued_max_messages_kbytes=QUEUED_KB)
            try:
                self._follow(consumer, decode)
            except (KafkaException, RegistryUnavailable) as error:
                self._log.warning("a topic cannot be read; trying again", topic=self.topic, reason=str(error))
                self._stopping.wait(RETRY_AFTER_S)
            finally:
                consumer.close()

    def read_again(self) -> None:
        """Read the topic from its beginning, beside the table that answers."""
        self._again.set()

    def stop(self) -> None:
        """Make `follow` return."""
        self._stopping.set()

    def _follow(self, consumer: Consumer, decode: Callable[[bytes], Mapping[str, Any]]) -> None:
        table = self.new() if self.caught_up else self.table
        name = settings().topic(self.topic)
        partitions = [TopicPartition(name, p, OFFSET_BEGINNING) for p in range(catalogue().topic(self.topic).partitions)]
        reached = {p.partition: 0 for p in partitions}
        first_ends = ends = _ends(consumer, partitions, 10.0)
        consumer.assign(partitions)
        looked_at_s, complete, current = self._now_s(), False, False
        self._again.clear()
        while not (self._stopping.is_set() or self._again.is_set()):
            messages = consumer.consume(AT_ONCE, WAIT_S)
            began_s = time.thread_time()
            for message in messages:
                self._take(message, decode, table)
                reached[message.partition()] = max(reached[message.partition()], message.offset() + (message.error() is None))
            if self._now_s() - looked_at_s > LOOK_EVERY_S:
                ends, looked_at_s = self._look(consumer, partitions, ends), self._now_s()
                current = False
            if messages if complete else _covers(reached, first_ends):
                self.settle(table)
            if not complete and _covers(reached, first_ends):
                self.table, self.caught_up, complete = table, True, True
            if not current and _covers(reached, ends):
                self._fresh_at_s, current = looked_at_s, True
            if table is not self.table:  # nobody waits for what is read again: answers get the interpreter for as long as this worked
                self._stopping.wait(time.thread_time() - began_s)

    def _look(self, consumer: Consumer, partitions: list[TopicPartition], before: dict[int, int]) -> dict[int, int]:
        """Where the topic ends now; while the broker is away, further than can be reached, so that the table grows old."""
        try:
            return _ends(consumer, partitions, LOOK_EVERY_S)
        except KafkaException as error:
            self._log.warning("where a topic ends is not known", topic=self.topic, reason=str(error))
            return dict.fromkeys(before, 2**63 - 1)

    def _take(self, message: Message, decode: Callable[[bytes], Mapping[str, Any]], table: T) -> None:
        if message.error() is not None:
            if message.error().code() == KafkaError._PARTITION_EOF:
                return
            raise KafkaException(message.error())
        try:
            record = decode(message.value())
            if not record["marker"]:
                self.into(table, record)
        except (BadFraming, BadPayload, RegistryError, Unfit) as error:
            self.refused += 1
            where = {"topic": self.topic, "partition": message.partition(), "offset": message.offset()}
            self._log.error("an event is left out", reason=str(error), **where)


@contextmanager
def followed(tables: Iterable[Folded[Any]], schema_of: Callable[[int], dict[str, Any]]) -> Iterator[None]:
    """Keep tables up to date, each on a thread of its own, until the end; returns when none is followed any more."""
    tables = tuple(tables)
    threads = [threading.Thread(target=table.follow, args=(schema_of,), name=table.topic, daemon=True) for table in tables]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for table in tables:
            table.stop()
        for thread in threads:
            thread.join()


def _ends(consumer: Consumer, partitions: list[TopicPartition], timeout_s: float) -> dict[int, int]:
    """The end of each partition. Raises KafkaException where the broker does not say."""
    return {p.partition: consumer.get_watermark_offsets(p, timeout=timeout_s)[1] for p in partitions}


def _covers(reached: Mapping[int, int], ends: Mapping[int, int]) -> bool:
    return all(reached[partition] >= end for partition, end in ends.items())
