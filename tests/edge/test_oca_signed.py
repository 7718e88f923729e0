"""Signed URLs at a cache server: whoever has no token that allows it gets nothing, and behind the token everything is as without."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from edge.gateway import Gateway, app
from edge.outbox import Outbox
from edge.sign import HEADER, LENT_S, Grant, Keys, lender
from edge.steering.routes import prefix
from edge.steering.steer import Steering
from edge.steering.tables import Tables
from infra.base.ports import free_port
from producers.emit import Emitter
from producers.players.clock import LoopClock
from producers.players.network import Link
from producers.players.player import Device, Player, press_play
from producers.players.reports import Outbox as Reports
from producers.players.transport import Answer, HttpTransport
from schemas.assets import AssetId, publish
from schemas.cmcd import Report, read
from tests.broker import FakeRegistry, MockCluster
from tests.edge.test_gateway import published, table
from tests.edge.test_oca_nginx import lines, serving
from tests.edge.test_oca_wire import SEGMENT, root, running
from tests.edge.test_serve import environment
from tests.kit import eventually
from tests.producers.fake_edge import LADDER, SEGMENT_S, mpd

__all__ = ["root"]

KEYS = Keys({"k": b"secret"})
PATH = "/bbb/v1/1.m4s"
GRANT = Grant("/bbb/v1/", 60, "s-1", prefix("127.0.0.0/8"))
SIGNED = KEYS.sign(PATH, GRANT)
SEGMENTS = 3


async def test_behind_a_good_token_everything_is_as_without(root: Path) -> None:
    async with running(root) as server:
        server.oca.keys = KEYS
        whole = await server.client.get(SIGNED, headers={"x-correlation-id": "c-1"})
        part = await server.client.get(SIGNED, headers={"range": "bytes=5-9"})
        beyond = await server.client.get(SIGNED, headers={"range": "bytes=16000000-"})
        head = await server.client.head(SIGNED)
        again = await server.client.get(SIGNED, headers={"if-none-match": whole.headers["etag"]})
        none = await server.client.get(SIGNED.replace("1.m4s", "9.m4s"))
        told = await server.tells(6)
    assert (whole.content == SEGMENT, part.content, head.headers["content-length"]) == (True, SEGMENT[5:10], "16000000")
    assert [answer.status_code for answer in (whole, part, beyond, head, again, none)] == [200, 206, 416, 200, 304, 404]
    assert [(line["path"], line["cid"], line["sid"]) for line in told] == [(PATH, "bbb", "s-1")] * 5 + [("/bbb/v1/9.m4s", "bbb", "s-1")]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (PATH, "unsigned"),
        (SIGNED.replace(".", "A.", 1), "tampered"),
        (Keys({"k": b"guessed"}).sign(PATH, GRANT), "tampered"),
        (Keys({"other": b"secret"}).sign(PATH, GRANT), "unknown key"),
        (KEYS.sign(PATH, replace(GRANT, expires_s=0)), "expired"),
        (KEYS.sign(PATH, replace(GRANT, client=prefix("198.51.100.0/24"))), "another network"),
        (SIGNED.replace("/bbb/v1/", "/bbb/v2/"), "another path"),
        (SIGNED.replace("/1.m4s", "/%2e%2e/v2/1.m4s"), "another path"),
        (SIGNED.replace("/1.m4s", "%2f..%2fv2%2f1.m4s"), "another path"),
    ],
)
async def test_without_one_nothing_is_served_in_words(root: Path, path: str, words: str) -> None:
    async with running(root) as server:
        server.oca.keys = KEYS
        for asked in (path, f"{path}?CMCD=sid%3D%22s-1%22"):
            answer = await server.client.get(asked, headers={"range": "bytes=0-9"})
            assert (answer.status_code, words in answer.text, answer.headers["access-control-allow-origin"]) == (403, True, "*")
        assert (await server.client.head(path)).status_code == 403
        told = await server.tells(3)
    assert {(line["rc"], "~" in line["path"]) for line in told} == {(403, False)}


async def test_whoever_asks_for_no_file_needs_no_token(root: Path) -> None:
    async with running(root) as server:
        server.oca.keys = KEYS
        assert (await server.client.get("/healthz")).json()["state"] == "serving"
        assert (await server.client.options(PATH)).status_code == 204
        assert (await server.client.post("/admin/fail?rate=0")).status_code == 200
        assert (await server.client.post("/admin/heal")).status_code == 200
        assert not server.told


async def test_a_session_is_whom_its_player_names_and_else_whom_the_token_names(root: Path) -> None:
    async with running(root) as server:
        server.oca.keys = KEYS
        await server.client.get(f"{SIGNED}?CMCD=sid%3D%22mine%22")
        await server.client.get(KEYS.sign(PATH, replace(GRANT, sid="")))
        told = await server.tells(2)
    assert [line["sid"] for line in told] == ["mine", None]


async def test_cache_servers_show_each_other_a_token_of_their_own(root: Path) -> None:
    shown = lender(KEYS, lambda: 0)("/bbb/v1/")
    async with running(root) as server:
        server.oca.keys = KEYS
        answer = await server.client.get(PATH, headers=shown)
        other = await server.client.get("/bbb/v2/1.m4s", headers=shown)
        server.oca.now_ms = lambda: LENT_S * 1000
        late = await server.client.get(PATH, headers=shown)
        [line, *_] = await server.tells(3)
    assert (answer.content == SEGMENT, other.status_code, late.status_code) == (True, 403, 403)
    assert ("another path" in other.text, "expired" in late.text) == (True, True)
    assert (line["path"], line["sid"]) == (PATH, None)
    assert lender(None, lambda: 0)("/bbb/v1/") == {}
    assert set(shown) == {HEADER}


class Hearing(HttpTransport):
    """A player's way to the real cache servers, and to a gateway in this process; keeps what is reported, as a collector would."""

    def __init__(self, gateway: httpx.AsyncClient) -> None:
        super().__init__()
        self._gateway = gateway
        self.reports: list[Report] = []

    async def post(self, url: str, content: bytes, content_type: str, address: str = "") -> Answer:
        if "/play" in url:
            answer = await self._gateway.post(url, content=content, headers={"content-type": content_type})
            return Answer(answer.status_code, answer.headers, answer.content)
        self.reports += [read(line) for line in content.decode().splitlines()]
        return Answer(202)


def test_a_player_plays_to_the_end_through_servers_that_verify(
    tmp_path: Path, cluster: MockCluster, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first server holds nothing: each object is a miss that it fetches from the second; then it is filled from there."""
    store, chance = tmp_path / "titles", random.Random(5)
    for rung, kbps in {**LADDER, "audio": 96}.items():
        (store / "t/v1" / rung).mkdir(parents=True)
        (store / f"t/v1/{rung}/init.mp4").write_bytes(chance.randbytes(900))
        for number in range(SEGMENTS):
            (store / f"t/v1/{rung}/{number:03}.m4s").write_bytes(chance.randbytes(kbps * 1000 * SEGMENT_S // 8))
    (store / "t/v1/manifest.mpd").write_text(mpd(SEGMENTS))
    publish(store / "t/v1", AssetId("t", 1), 1_700_000_000)
    monkeypatch.setenv("HEADRACE_EDGE__URL_KEYS", '{"k": "secret"}')
    ports = free_port(), free_port()
    edge, storage = (f"http://127.0.0.1:{port}" for port in ports)

    async def watch() -> tuple[Player, list[Report]]:
        with Emitter("gateway", registry=registry, background=True) as emitter:
            now_ms, outbox = emitter.clock.now_ms, Outbox(emitter, "control.request")
            steering = Steering(Tables(), Outbox(emitter, "delivery.steering"), now_ms, KEYS, 60, frozenset(), [])
            gateway = app(Gateway(table(published("t")), outbox, now_ms, [edge], "http://collector", steering=steering))
            async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway)) as client:
                transport, clock = Hearing(client), LoopClock()
                ticket = await press_play(transport, "http://gateway", "t", "m-1")
                reports = Reports(transport, clock)
                device = Device("m-1", "tv", "eu-west", 64497, max_height=720)
                player = Player(ticket, device, transport, Link(repeat((1000.0, 20_000.0)), clock.now_ms()), 20, reports, clock)
                await player.run()
                await reports.drain()
                await transport.close()
                return player, transport.reports

    with (
        serving(tmp_path / "storage", store, ports[1]),
        serving(tmp_path / "edge", tmp_path / "flash", ports[0], "--capacity-bytes", "50000000", "--parent", storage),
    ):
        player, reports = asyncio.run(watch())
        assert (player.outcome.state, player.outcome.failovers) == ("e", 0)
        fetched = [line for line in lines(tmp_path / "edge") if line["rc"] == 200]
        assert {line["sid"] for line in fetched} == {player.ticket.sid}
        assert {line["path"] for line in fetched} >= {"/t/v1/manifest.mpd", *(f"/t/v1/audio/{n:03}.m4s" for n in range(SEGMENTS))}
        assert {(line["sid"], line["path"][:6]) for line in lines(tmp_path / "storage")} == {(None, "/t/v1/")}
        assert any(urlsplit(report.fields["url"]).path.startswith("/~") for report in reports if "url" in report.fields)
        wrong = player.ticket.manifest_urls[0].replace(".", "x.", 4)
        assert httpx.get(player.ticket.manifest_urls[0]).text == mpd(SEGMENTS)
        assert httpx.get(wrong.replace("127x.0x.0x.1", "127.0.0.1")).status_code == 403
        httpx.post(f"{edge}/admin/fill", params={"asset": "t/v1", "source": storage}).raise_for_status()
        eventually(lambda: httpx.get(f"{edge}/healthz").json()["assets"] == 1)


def test_nginx_does_not_start_where_it_would_serve_anybody(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge.oca", "--data-plane", "nginx"]
    told = environment(tmp_path, OCA_URLS='["http://127.0.0.1:1"]', URL_KEYS='{"k": "secret"}')
    done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "it cannot verify what edge.url_keys sign" in done.stderr) == (1, True)
