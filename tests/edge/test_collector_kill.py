"""The collector on real Kafka, killed while players report: what was answered 202 is stored, and its ledger tells the truth."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from confluent_kafka import Message

from edge.interactions import TOPICS
from infra.base.ports import free_port
from infra.base.registry import RegistryClient
from infra.base.settings import Settings, settings
from producers import ledger
from schemas.catalogue import catalogue
from schemas.cmcd import report_id
from schemas.codec import Decoder
from schemas.envelope import fingerprint
from schemas.publish import publish
from tests.kit import eventually
from tests.world import committed

pytestmark = pytest.mark.stack
REPORT = catalogue().topic("playback.report")
PLAYERS, KILLS, BATCH = 4, 4, 20


@pytest.fixture
def world(stack: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A namespace of its own on the stack, with a ledger of its own."""
    monkeypatch.setenv("HEADRACE_NAMESPACE", f"collector{time.time_ns() % 1_000_000}")
    monkeypatch.setenv("HEADRACE_KAFKA__BOOTSTRAP", stack.kafka.bootstrap)
    monkeypatch.setenv("HEADRACE_REGISTRY__URL", stack.registry.url)
    monkeypatch.setenv("HEADRACE_STATE_DIR", str(tmp_path))
    settings.cache_clear()
    publish([REPORT, *map(catalogue().topic, ("observability.dead_letter", *TOPICS.values()))])
    yield settings()
    monkeypatch.undo()
    settings.cache_clear()


class Player(threading.Thread):
    """Reports in batches, each sent again until it is answered with 202."""

    def __init__(self, sid: str, url: str, stopping: threading.Event) -> None:
        super().__init__()
        self.sid, self._url, self._stopping = sid, url, stopping
        self.taken = 0
        self.sent_again = 0

    def run(self) -> None:
        with httpx.Client(timeout=20) as client:
            while not self._stopping.is_set():
                ts, numbers = time.time_ns() // 1_000_000, range(self.taken, self.taken + BATCH)
                body = "\n".join(f'e=t,sid="{self.sid}",sn={sn},ts={ts},v=2' for sn in numbers)
                while not self._is_taken(client, body):
                    self.sent_again += 1
                    time.sleep(0.05)
                self.taken += BATCH

    def _is_taken(self, client: httpx.Client, body: str) -> bool:
        with suppress(httpx.HTTPError):
            return client.post(f"{self._url}/cmcd", content=body, headers={"content-type": "application/cmcd"}).status_code == 202
        return False


def test_what_was_answered_202_is_stored_and_the_ledger_tells_the_truth(world: Settings) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    chance = random.Random(3)
    collectors: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        collectors.append(subprocess.Popen([sys.executable, "-m", "edge.collector", "--url", url], stderr=subprocess.DEVNULL))
        eventually(lambda: httpx.get(f"{url}/healthz").status_code == 200)

    stopping = threading.Event()
    players = [Player(f"s-{n}", url, stopping) for n in range(PLAYERS)]
    try:
        start()
        for player in players:
            player.start()
        for _ in range(KILLS):
            time.sleep(0.5 + chance.random())  # the moment of the kill is the point: anywhere in a batch
            collectors[-1].kill()
            collectors[-1].wait()
            start()
        stopping.set()
        for player in players:
            player.join()
        collectors[-1].terminate()
        assert collectors[-1].wait(timeout=30) == 0
    finally:
        stopping.set()
        for collector in collectors:
            collector.kill()
            collector.wait()

    decode = Decoder(RegistryClient().schema)
    by_position: dict[tuple[int, int], Message] = {(m.partition(), m.offset()): m for m in committed(REPORT.name)}
    records: dict[tuple[int, int], dict[str, Any]] = {position: decode(message.value()) for position, message in by_position.items()}
    reports = [record for record in records.values() if not record["marker"]]
    assert {record["event_id"] for record in reports} == {report_id(p.sid, "event:default", sn) for p in players for sn in range(p.taken)}
    assert len({(record["producer_id"], record["epoch"], record["seq"]) for record in records.values()}) == len(records)

    acknowledged = 0
    for epoch in range(1, len(collectors) + 1):
        for line in (ledger.folder() / "collector-1" / f"{epoch}.ledger").read_text().splitlines():
            if line.startswith(f"A {REPORT.name} "):
                _, _, partition, offset, seq, digest = line.split()
                message, record = by_position[int(partition), int(offset)], records[int(partition), int(offset)]
                assert (record["epoch"], record["seq"], fingerprint(message.value())) == (epoch, int(seq), digest)
                acknowledged += 1
    assert 0 < acknowledged <= len(records)
    assert sum(player.sent_again for player in players) > 0, "no kill hit anything"
