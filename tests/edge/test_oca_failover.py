"""A real player over HTTP, real cache servers, and one of them that is killed, stopped, slowed down, hung, withdrawn or corrupt."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import httpx2 as httpx
import pytest

from infra.base.ports import free_port
from producers.players.clock import LoopClock
from producers.players.network import Link
from producers.players.player import Action, Device, Player, Ticket
from producers.players.reports import Outbox
from producers.players.transport import Answer, HttpTransport
from schemas.assets import AssetId, publish
from schemas.cmcd import Report, read
from tests.edge.test_oca_nginx import serving
from tests.producers.fake_edge import LADDER, SEGMENT_S, mpd

SEGMENTS = 30
ILL_S, WATCH_S = 2.0, 8.0
Fault = Callable[[subprocess.Popen[bytes], str], None]


class Hearing(HttpTransport):
    """Keeps what is reported, as a collector would."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: list[Report] = []

    async def post(self, url: str, content: bytes, content_type: str, address: str = "") -> Answer:
        self.reports += [read(line) for line in content.decode().splitlines()]
        return Answer(202)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A title whose segments are noise of the right sizes."""
    root, chance = tmp_path_factory.mktemp("titles"), random.Random(5)
    for rung, kbps in {**LADDER, "audio": 96}.items():
        folder = root / "t/v1" / rung
        folder.mkdir(parents=True)
        (folder / "init.mp4").write_bytes(chance.randbytes(900))
        for number in range(SEGMENTS):
            (folder / f"{number:03}.m4s").write_bytes(chance.randbytes(kbps * 1000 * SEGMENT_S // 8))
    (root / "t/v1/manifest.mpd").write_text(mpd(SEGMENTS))
    publish(root / "t/v1", AssetId("t", 1), 1_700_000_000)
    return root


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[str]:
    """The address of a server that stays well."""
    port = free_port()
    with serving(tmp_path_factory.mktemp("well"), root, port):
        yield f"http://127.0.0.1:{port}"


def told(query: str) -> Fault:
    """A server that is told to fail."""
    return lambda process, url: httpx.post(f"{url}/admin/fail?{query}").raise_for_status() and None


def signalled(number: int) -> Fault:
    return lambda process, url: process.send_signal(number)


@pytest.mark.parametrize(
    ("fault", "causes"),
    [
        (signalled(signal.SIGKILL), {"broken"}),
        (signalled(signal.SIGSTOP), {"slow_start", "stall"}),
        (told("mode=hang"), {"slow_start"}),
        (told("mode=slow&bytes_per_s=12500"), {"slow"}),
        (told("mode=refuse"), {"status"}),
        (told("mode=corrupt"), {"checksum"}),
    ],
    ids=["killed", "stopped", "hanging", "slow", "refusing", "corrupt"],
)
def test_a_server_fails_while_somebody_watches(tmp_path: Path, root: Path, well: str, fault: Fault, causes: set[str]) -> None:
    port = free_port()
    urls = (f"http://127.0.0.1:{port}", well)
    with serving(tmp_path, root, port) as process:

        async def watch() -> tuple[Player, list[Report]]:
            clock, transport = LoopClock(), Hearing()
            outbox = Outbox(transport, clock)
            ticket = Ticket("s", "c", "t", tuple(f"{url}/t/v1/manifest.mpd" for url in urls), "http://collector")
            device = Device("m", "tv", "eu-west", 64497, max_height=720)
            doing = [Action(round(WATCH_S * 1000), "quit")]
            player = Player(ticket, device, transport, Link(repeat((1000.0, 5_000.0)), clock.now_ms()), 20, outbox, clock, doing)
            playing = asyncio.create_task(player.run())
            await asyncio.sleep(ILL_S)
            await asyncio.to_thread(fault, process, urls[0])
            await playing
            await outbox.drain()
            await transport.close()
            return player, transport.reports

        try:
            player, reports = asyncio.run(watch())
        finally:
            process.send_signal(signal.SIGCONT)
    assert player.outcome.state == "q"
    assert player.outcome.rebuffer_ms <= SEGMENT_S * 1000
    [switch] = [r.fields for r in reports if r.fields["e"] == "ce"]
    assert switch["switch_cause"] in causes
    assert [f"http://{switch[name]}" for name in ("switched_from", "switched_to")] == list(urls)
    assert player.outcome.failovers == 1
