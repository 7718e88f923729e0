"""Messages on topics and a loader that loads them: what the tests of the loader and of backfills share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from infra.base import kafka, warehouse
from infra.base.settings import settings
from schemas.catalogue import Topic, catalogue
from schemas.codec import Encoder
from sinks.loader.shell import Shell
from tests.sinks.reports import NOW_MS, TOPIC, report

LETTERS = catalogue().topic("observability.dead_letter")
PARTITIONS = 4


def produce(messages: list[tuple[int, bytes]], topic: str = TOPIC.name) -> None:
    """Put messages on partitions and wait for their acknowledgement."""
    producer = kafka.producer()
    for partition, message in messages:
        producer.produce(settings().topic(topic), message, partition=partition, timestamp=NOW_MS)
    if not messages:
        producer.list_topics(settings().topic(topic), timeout=10)
    assert producer.flush(30) == 0


def reports(encode: Encoder, numbers: range) -> list[tuple[int, bytes]]:
    """Reports by number, spread over the partitions."""
    return [(n % PARTITIONS, report(encode, n)) for n in numbers]


@contextmanager
def loading(topics: Sequence[Topic] = (TOPIC, LETTERS), **options: Any) -> Iterator[Shell]:
    """A loader in a thread of this process."""
    shell = Shell(list(topics), **options)
    stop = threading.Event()
    thread = threading.Thread(target=shell.run, args=(stop,))
    thread.start()
    try:
        yield shell
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def seqs() -> list[int]:
    """Numbers of all stored reports, repeats included, without the one that made the topic."""
    return sorted(r[0] for r in warehouse.reader().query("SELECT seq FROM playback_report WHERE seq >= 0").result_rows)


def loaded(count: int) -> Callable[[], bool]:
    """A probe: reports 0 to `count` are stored, each once."""
    return lambda: seqs() == list(range(count))
