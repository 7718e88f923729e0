"""A namespace of its own on the session's stack, seen by its topics: events go in, events come out."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from confluent_kafka import Message, TopicPartition

from infra.base import kafka
from infra.base.registry import RegistryClient
from infra.base.settings import environment, settings
from infra.stack import jvm
from schemas.catalogue import catalogue
from schemas.codec import Decoder, Encoder
from schemas.envelope import marker
from schemas.publish import publish, subject_of
from streams.cluster import Cluster

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("infra", "schemas", "producers", "edge", "streams", "sinks")


class World:
    """The namespace that settings name. `tree`: where commands find contracts and jobs, if not in this checkout."""

    def __init__(self, tree: Path = ROOT) -> None:
        self.tree = tree
        self._producer = kafka.producer()
        self._registry = RegistryClient()
        self._encoders: dict[str, Encoder] = {}

    def put(self, topic: str, events: Iterable[Mapping[str, Any]], arrived_ms: int = 0) -> None:
        """Write events, which say at least what the contract requires of them, and return when they are stored."""
        self.arrive(topic, ((arrived_ms, event) for event in events))

    def arrive(self, topic: str, arrivals: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """The same for events that arrive at times of their own."""
        for arrived_ms, event in arrivals:
            key = str(event[catalogue().topic(topic).key]).encode()
            self._producer.produce(settings().topic(topic), self._encoder(topic)(event), key=key, timestamp=arrived_ms)
        assert self._producer.flush(30) == 0

    def mark(self, topic: str, at_ms: int) -> None:
        """Tell every partition that time has come to `at_ms`."""
        declared = catalogue().topic(topic)
        envelope = {"event_id": f"mark-{at_ms}", "event_time": at_ms, "producer_id": "test", "epoch": 0, "seq": 0}
        framed = self._encoder(topic)({**marker(declared.event), **envelope})
        key = b"" if declared.cleanup == "compact" else None  # without one a compacted topic takes nothing
        for partition in range(declared.partitions):
            self._producer.produce(settings().topic(topic), framed, key=key, partition=partition, timestamp=at_ms)
        assert self._producer.flush(30) == 0

    def found(self, topic: str) -> list[dict[str, Any]]:
        """Every committed event of a topic that is no time marker."""
        decode = Decoder(self._registry.schema)
        events = [decode(message.value()) for message in committed(topic)]
        return [event for event in events if not event["marker"]]

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment here, whatever its outcome."""
        command = [str(Path(sys.executable).with_name(program)), *arguments]
        env = {**os.environ, **jvm.client_environment(), "PYTHONPATH": str(self.tree)}
        return subprocess.run(command, cwd=self.tree, env=env, capture_output=True, text=True, check=False)

    def headrace(self, *words: str) -> str:
        """`headrace …`, which must succeed: what it printed."""
        done = self.run("headrace", *words)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def _encoder(self, topic: str) -> Encoder:
        if topic not in self._encoders:
            declared = catalogue().topic(topic)
            self._encoders[topic] = Encoder(declared.event, self._registry.lookup(subject_of(declared), declared.event.schema))
        return self._encoders[topic]


@contextlib.contextmanager
def world(name: str, tree: Path = ROOT, **elsewhere: str) -> Iterator[World]:
    """A fresh namespace that begins with `name`; its jobs are stopped at the end. `elsewhere`: settings that are different in it."""
    with environment({"HEADRACE_NAMESPACE": f"{name}{secrets.token_hex(3)}", **elsewhere}):
        publish(catalogue().topics.values())
        try:
            yield World(tree)
        finally:
            cluster = Cluster()
            own = [job.job_id for name, job in cluster.alive().items() if name.startswith(f"{settings().namespace}.")]
            with ThreadPoolExecutor() as pool:
                list(pool.map(cluster.stop, own))  # cancelled, they would leave transactions open


def copy_of_tree(folder: Path) -> Path:
    """A copy of every room, for what changes it; returns `folder`. Contracts, jobs and panels are found by their place in the tree."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    return folder


def committed(topic: str) -> list[Message]:
    """Every committed message of a topic (its name without namespace), to its end as it is now."""
    consumer = kafka.consumer("reader", enable_partition_eof=True)
    try:
        partitions = [TopicPartition(settings().topic(topic), p, 0) for p in range(catalogue().topic(topic).partitions)]
        consumer.assign(partitions)
        found: list[Message] = []
        ended: set[int] = set()
        while len(ended) < len(partitions):
            for message in consumer.consume(10_000, 1.0):
                if message.error() is not None:
                    ended.add(message.partition())
                else:
                    found.append(message)
        return found
    finally:
        consumer.close()
