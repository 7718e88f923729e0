"""The loader end to end: a cluster, a registry, a warehouse; killed, doubled, poisoned and cut off from all of them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import httpx2 as httpx
import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from infra.base import kafka, warehouse
from infra.base.ports import free_port
from infra.base.settings import settings
from schemas.codec import Encoder
from sinks import migrate
from sinks.loader.shell import Shell
from tests.kit import eventually
from tests.sinks.conftest import WarehouseProcess
from tests.sinks.loading import LETTERS, PARTITIONS, loaded, loading, produce, reports, seqs
from tests.sinks.reports import TOPIC, encoder, newer, poison, register, report


def test_what_is_on_the_topic_is_in_the_table(world: Encoder) -> None:
    with loading() as shell:
        produce(reports(world, range(1_000)))
        eventually(loaded(1_000))
        produce(reports(world, range(1_000, 1_500)))
        eventually(loaded(1_500))
        status = eventually(lambda: next(t for t in shell.report()["tables"] if t["rows"] == 1_501))
        assert (status["table"], status["dead_letters"], status["last_error"]) == (TOPIC.table, 0, None)
        assert status["queryable_after_ms"]["p99"] > 0
    with loading():
        produce(reports(world, range(1_500, 1_600)))
        eventually(loaded(1_600))


class Group:
    """A consumer that was given partitions, with the memory of librdkafka: what was paused when it was taken away still is."""

    def __init__(self) -> None:
        self.paused = {(settings().topic(TOPIC.name), n) for n in (0, 1)}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.paused -= {(p.topic, p.partition) for p in partitions}

    def consume(self, *_: float) -> list[Message]:
        """Nothing has come."""
        return []


def test_a_partition_that_was_paused_when_it_was_taken_away_is_read_when_it_comes_back(
    world: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group()
    monkeypatch.setattr(kafka, "consumer", lambda *_, **__: group)
    shell = Shell([TOPIC])
    shell._assigned(cast("Consumer", group), [TopicPartition(settings().topic(TOPIC.name), n) for n in range(PARTITIONS)])
    shell._read()
    assert not group.paused


def test_poison_is_buried_with_its_reason_and_its_neighbours_are_stored(world: Encoder) -> None:
    good = reports(world, range(100))
    bad = poison(good[0][1])
    mixed = list(good)
    for place, (message, _) in enumerate(bad.values()):
        mixed.insert(7 * place, (place % PARTITIONS, message))
    with loading():
        produce(mixed)
        eventually(loaded(100), within=60)
        client = warehouse.reader()
        sql = f"SELECT reason, topic, payload = '' FROM {LETTERS.table} ORDER BY reason"
        stored = eventually(lambda: rows if len(rows := client.query(sql).result_rows) == len(bad) else None)
        assert sorted(reason for reason, _, _ in stored) == sorted(reason for _, reason in bad.values())
        assert {topic for _, topic, _ in stored} == {TOPIC.name}


def test_too_many_dead_letters_stop_the_partition_and_the_status_says_so(world: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    with loading() as shell:
        produce([(0, b"\x01 this is no report")] * 200 + reports(world, range(1, 40, 4)))
        entry = eventually(lambda: next((t for t in shell.report()["tables"] if t["stopped"]), None))
        assert entry["table"] == TOPIC.table
        assert "messages cannot be stored, first offset" in entry["stopped"][0]
        eventually(lambda: seqs() == list(range(1, 40, 4)))
        assert warehouse.reader().query(f"SELECT count() FROM {LETTERS.table}").result_rows == [(0,)]


def test_a_newer_schema_loads_without_a_restart(world: Encoder) -> None:
    with loading():
        produce(reports(world, range(10)))
        eventually(loaded(10))
        new = encoder(register(schema=newer()), schema=newer())
        produce([(n % PARTITIONS, report(new if n % 2 else world, n)) for n in range(10, 30)])
        eventually(loaded(30))


def test_a_registry_that_is_down_at_the_start_is_waited_for(world: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    produce(reports(world, range(20)))
    monkeypatch.setenv("HEADRACE_REGISTRY__URL", f"http://127.0.0.1:{free_port()}")
    settings.cache_clear()
    with loading() as shell:
        entry = eventually(lambda: next((t for t in shell.report()["tables"] if t["last_error"]), None))
        assert "does not answer" in entry["last_error"]
        assert seqs() == []
    monkeypatch.undo()


def test_a_warehouse_that_is_killed_while_loading(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = WarehouseProcess(tmp_path)
    for name, value in process.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HEADRACE_LOADER__LINGER_MS", "20")
    settings.cache_clear()
    process.start()
    try:
        migrate.migrate(warehouse.writer("default"), [TOPIC, LETTERS], [])
        encode = encoder(register())
        register(LETTERS)
        produce([], LETTERS.name)
        produce(reports(encode, range(100)))
        with loading():
            eventually(loaded(100))
            for round_ in range(3):
                produce(reports(encode, range(100 + 2_000 * round_, 100 + 2_000 * (round_ + 1))))
                process.kill()
                process.start()
            eventually(loaded(6_100), within=60)
    finally:
        process.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """A function that gives `tmp_path` a file system of so many MiB, first to last; skipped where we may not mount."""
    mounted = False

    def resize(mib: int) -> None:
        nonlocal mounted
        how = f"remount,size={mib}m" if mounted else f"size={mib}m"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(tmp_path)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system of a chosen size can be mounted here: {done.stderr.strip()}")
        mounted = True

    yield resize
    if mounted:
        subprocess.run(["umount", "-l", str(tmp_path)], check=False)


def test_a_full_disk_is_waited_out_and_nothing_is_lost_or_doubled(
    place: str, tmp_path: Path, small_disk: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_disk(24)
    process = WarehouseProcess(tmp_path)
    for name, value in process.environment.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    process.start()
    try:
        migrate.migrate(warehouse.writer("default"), [TOPIC, LETTERS], [])
        encode = encoder(register())
        register(LETTERS)
        produce([], LETTERS.name)
        noise = random.Random(3)
        with loading() as shell:
            count = 0
            while not any(t["last_error"] for t in shell.report()["tables"]):
                numbers = range(count, count + 400)
                produce([(n % PARTITIONS, report(encode, n, url=noise.randbytes(8_000).hex())) for n in numbers])
                count += 400
                eventually(lambda count=count: len(seqs()) >= count or any(t["last_error"] for t in shell.report()["tables"]), within=60)
            words = next(t["last_error"] for t in shell.report()["tables"] if t["last_error"])
            assert "space" in words.lower()
            assert count > 400
            small_disk(400)
            eventually(loaded(count), within=90)
        assert warehouse.reader().query(f"SELECT count() FROM {LETTERS.table}").result_rows == [(0,)]
    finally:
        process.stop()


class LoaderProcess:
    """`python -m sinks.loader` as the stack runs it."""

    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        environment = {**os.environ, "HEADRACE_LOADER__STATUS_URL": self.url, "HEADRACE_LOADER__LINGER_MS": "50"}
        self.process = subprocess.Popen([sys.executable, "-m", "sinks.loader"], env=environment, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(30)


def test_killed_again_and_again_it_loses_and_doubles_nothing(world: Encoder) -> None:
    chance = random.Random(7)
    count = 0
    loader = LoaderProcess()
    for _ in range(4):
        for _ in range(chance.randrange(5, 15)):
            produce(reports(world, range(count, count + 500)))
            count += 500
        target = chance.randrange(count // 2, count)
        eventually(lambda target=target: len(seqs()) >= target, within=90, every=0.02)
        loader.kill()
        loader = LoaderProcess()
    try:
        eventually(loaded(count), within=90)
        assert eventually(lambda: httpx.get(f"{loader.url}/healthz").status_code == 200)

        def knows_its_tables() -> bool:  # perhaps all was stored before it had partitions
            return {t["table"] for t in httpx.get(f"{loader.url}/status").json()["tables"]} >= {TOPIC.table, LETTERS.table}

        eventually(knows_its_tables, within=60)
    finally:
        loader.kill()


def test_two_loaders_share_the_partitions_and_a_stopped_one_wakes_up_as_a_zombie(world: Encoder) -> None:
    import signal

    first, second = LoaderProcess(), LoaderProcess()
    try:
        produce(reports(world, range(2_000)))
        eventually(loaded(2_000), within=90)
        produce(reports(world, range(2_000, 8_000)))
        first.process.send_signal(signal.SIGSTOP)
        produce(reports(world, range(8_000, 10_000)))
        eventually(loaded(10_000), within=90)
        first.process.send_signal(signal.SIGCONT)
        produce(reports(world, range(10_000, 12_000)))
        eventually(loaded(12_000), within=90)
    finally:
        first.kill()
        second.kill()
