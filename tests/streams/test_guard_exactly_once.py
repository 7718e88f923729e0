"""The guard on real Kafka, killed and frozen while foreign producers write: each message is forwarded or dead-lettered exactly once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from confluent_kafka import TopicPartition

from infra.base import kafka
from infra.base.registry import RegistryClient
from infra.base.settings import Settings, settings
from schemas.catalogue import catalogue
from schemas.codec import Decoder, Encoder
from schemas.publish import publish, subject_of
from streams.guard import DEAD_LETTERS
from tests.kit import eventually
from tests.world import committed

pytestmark = pytest.mark.stack
REPORT = catalogue().topic("playback.report")
BAD_EVERY = 50
ROUNDS = 5
FROZEN_ROUND = 2


@pytest.fixture
def world(stack: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A namespace of its own on the stack, which the stack's own guard does not guard."""
    monkeypatch.setenv("HEADRACE_NAMESPACE", f"guard{time.time_ns() % 1_000_000}")
    monkeypatch.setenv("HEADRACE_GUARD__STATUS_URL", "http://127.0.0.1:0")
    settings.cache_clear()
    publish([REPORT, catalogue().topic(DEAD_LETTERS)])
    yield settings()
    monkeypatch.undo()
    settings.cache_clear()


class Writer:
    """A foreign producer at the door: messages with running numbers, a broken one now and then, until `stop`."""

    def __init__(self) -> None:
        self._encode = Encoder(REPORT.event, RegistryClient().lookup(subject_of(REPORT), REPORT.event.schema))
        self._producer = kafka.producer()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.good: set[str] = set()
        self.written = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        assert self._producer.flush(60) == 0

    def _write(self) -> None:
        while not self._stopping.wait(0.01):
            for n in range(self.written, self.written + 50):
                sid, event_id = f"s-{n % 100}", f"e-{n}"
                told = {"event_id": event_id, "event_time": time.time_ns() // 1_000_000, "producer_id": "foreign", "epoch": 1, "seq": n}
                framed = self._encode({**told, "sid": sid, "sn": n, "e": "t"})
                if n % BAD_EVERY:
                    self.good.add(event_id)
                else:
                    framed = framed[:-1]
                self._producer.produce(settings().topic(REPORT.door_name), framed, key=sid.encode())
            self.written += 50
            self._producer.poll(0)


def reach() -> int:
    """How far the topics have grown, records and transaction markers together."""
    consumer = kafka.consumer("reach")
    try:
        names = [(settings().topic(t.name), t.partitions) for t in (REPORT, catalogue().topic(DEAD_LETTERS))]
        return sum(consumer.get_watermark_offsets(TopicPartition(name, p), timeout=10)[1] for name, count in names for p in range(count))
    finally:
        consumer.close()


def test_kills_and_zombies_lose_and_double_nothing(world: Settings) -> None:
    chance = random.Random(7)
    writer = Writer()
    guards: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        guards.append(subprocess.Popen([sys.executable, "-m", "streams.guard"], stderr=subprocess.DEVNULL))
        return guards[-1]

    writer.start()
    try:
        for round_ in range(ROUNDS):
            before, guard = reach(), start()
            eventually(lambda before=before: reach() > before, within=60)
            time.sleep(chance.random() * 2)  # the moment of the kill is the point: anywhere in a transaction
            assert guard.poll() is None, "the guard ended by itself"
            guard.send_signal(signal.SIGSTOP if round_ == FROZEN_ROUND else signal.SIGKILL)
        last = start()
        guards[FROZEN_ROUND].send_signal(signal.SIGCONT)
        # While there is something to write: one that woke up with nothing to send would not find out.
        assert guards[FROZEN_ROUND].wait(timeout=60) != 0, "a guard that was taken over ends"
        writer.stop()
        eventually(lambda: len(committed(REPORT.name)) + len(committed(DEAD_LETTERS)) >= writer.written, within=120)
        assert last.poll() is None
    finally:
        writer.stop()
        for process in guards:
            process.kill()
            process.wait()
    decode = Decoder(RegistryClient().schema)
    forwarded = Counter(decode(message.value())["event_id"] for message in committed(REPORT.name))
    letters = Counter(decode(message.value())["event_id"] for message in committed(DEAD_LETTERS))
    assert set(forwarded) == writer.good
    assert len(letters) == writer.written // BAD_EVERY
    assert set(forwarded.values()) == set(letters.values()) == {1}
