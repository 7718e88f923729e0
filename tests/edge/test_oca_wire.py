"""The cache server on the wire: what is really sent is what is told, nobody waits for another, and the end is graceful."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx2 as httpx
import pytest

from edge.judge import Judge
from edge.oca import wire
from edge.oca.access import TOPICS, Teller
from edge.oca.answers import Oca
from edge.outbox import Outbox
from edge.store import Store
from infra.base.ports import free_port
from infra.base.settings import settings

SEGMENT = random.Random(2).randbytes(16_000_000)
"""More than the buffers of a connection hold."""


class Nowhere:
    """Takes the place of the outboxes, which would need Kafka."""

    held = lost = 0

    def put(self, *event: object) -> None:
        """Forget it."""

    async def drain(self) -> None:
        """Nothing to send."""


@dataclass
class Running:
    """A cache server that listens."""

    oca: Oca
    port: int
    client: httpx.AsyncClient
    told: list[dict[str, Any]]
    """Its access log."""

    async def tells(self, count: int) -> list[dict[str, Any]]:
        """The access log when it has `count` lines."""
        async with asyncio.timeout(20):
            while len(self.told) < count:
                await asyncio.sleep(0.01)
        return self.told

    async def asks(self, path: str = "/bbb/v1/1.m4s", receive_buffer: int = 65_536) -> socket.socket:
        """A connection that has asked for `path`, and reads only what its owner reads."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", self.port))
        await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return connection


@asynccontextmanager
async def running(root: Path) -> AsyncIterator[Running]:
    told: list[dict[str, Any]] = []
    outboxes = {topic: cast(Outbox, Nowhere()) for topic in TOPICS}
    teller = Teller("oca-1", "local", "EMBEDDED_FLASH", Judge(settings()), outboxes, lambda line: told.append(json.loads(line)))
    oca, port = Oca(Store(root), teller, lambda: 0), free_port()
    async with wire.listening(oca, "127.0.0.1", port), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield Running(oca, port, client, told)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "bbb/v1").mkdir(parents=True)
    (tmp_path / "bbb/v1/1.m4s").write_bytes(SEGMENT)
    (tmp_path / "bbb/v1/2.m4s").write_bytes(SEGMENT[:100])
    return tmp_path


@pytest.mark.parametrize("asked", [f"bytes={wire.SLICE - 1}-{wire.SLICE}", f"bytes={wire.SLICE - 5}-{3 * wire.SLICE}", "bytes=15999990-"])
async def test_ranges_across_the_seams(root: Path, asked: str) -> None:
    async with running(root) as server:
        answer = await server.client.get("/bbb/v1/1.m4s", headers={"range": asked})
        first, last = asked.removeprefix("bytes=").split("-")
        wanted = SEGMENT[int(first) : int(last) + 1 if last else None]
        assert (answer.status_code, answer.content == wanted) == (206, True)
        (line,) = await server.tells(1)
        assert (line["bytes"], line["range_first"]) == (len(wanted), int(first))


async def test_one_connection_serves_request_after_request(root: Path) -> None:
    async with running(root) as server:
        connection = await server.asks("/bbb/v1/2.m4s")
        loop = asyncio.get_running_loop()
        for _ in range(3):
            got = b""
            while not got.endswith(SEGMENT[:100]):
                got += await loop.sock_recv(connection, 65_536)
            await loop.sock_sendall(connection, b"GET /bbb/v1/2.m4s HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.close()
        assert [line["bytes"] for line in await server.tells(3)][:3] == [100, 100, 100]


async def test_a_client_that_leaves_was_sent_what_the_event_says(root: Path) -> None:
    async with running(root) as server:
        connection = await server.asks()
        received = len(await asyncio.get_running_loop().sock_recv(connection, 65_536))
        connection.close()
        (line,) = await server.tells(1)
        assert received - 1_000 < line["bytes"] < len(SEGMENT)
        assert line["rc"] == 200
        assert 0 < line["ttfb_us"] < line["ttlb_us"]
        assert server.oca.in_flight == 0
        assert (await server.client.get("/bbb/v1/1.m4s")).content == SEGMENT


async def test_a_file_that_becomes_shorter_ends_the_connection_and_not_the_server(root: Path) -> None:
    async with running(root) as server:
        connection = await server.asks()
        loop = asyncio.get_running_loop()
        await loop.sock_recv(connection, 1_000)
        with (root / "bbb/v1/1.m4s").open("r+b") as file:
            file.truncate(wire.SLICE)
        total = 0
        while received := await loop.sock_recv(connection, 1 << 20):
            total += len(received)
        connection.close()
        assert total < len(SEGMENT)
        (line,) = await server.tells(1)
        assert line["bytes"] <= total + 1_000
        assert (await server.client.get("/bbb/v1/2.m4s")).status_code == 200


async def test_those_who_do_not_read_keep_nobody_waiting(root: Path) -> None:
    async with running(root) as server:
        idle = [await server.asks(receive_buffer=4_096) for _ in range(200)]
        assert (await server.client.get("/bbb/v1/1.m4s")).content == SEGMENT
        assert [line["bytes"] for line in await server.tells(1)] == [len(SEGMENT)]
        assert (await server.client.get("/healthz")).json()["in_flight"] == len(idle)
        for connection in idle:
            connection.close()
        await server.tells(1 + len(idle))


async def test_a_narrowed_body_takes_its_time_and_is_whole(root: Path) -> None:
    async with running(root) as server:
        answer = await server.client.get("/bbb/v1/1.m4s?narrow_kbps=4000", headers={"range": "bytes=0-199999"})
        assert answer.content == SEGMENT[:200_000]
        (line,) = await server.tells(1)
        assert line["ttlb_us"] >= 390_000
        assert line["ttfb_us"] <= 200_000
        for wrong in ("x", "-1", "1e3", "", "99999999"):
            assert (await server.client.get(f"/bbb/v1/2.m4s?narrow_kbps={wrong}")).status_code == 400


async def test_what_is_not_in_memory_is_read_by_a_thread(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = 0

    def cold(*where: object) -> bool:
        nonlocal fetched
        fetched += 1
        return False

    monkeypatch.setattr(wire, "_in_memory", cold)
    async with running(root) as server:
        assert (await server.client.get("/bbb/v1/1.m4s")).content == SEGMENT
    assert fetched >= -(-len(SEGMENT) // wire.SLICE)


async def test_whoever_drains_refuses_what_is_new_and_ends_what_is_in_flight(root: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    told: list[str] = []
    outboxes = {topic: cast(Outbox, Nowhere()) for topic in TOPICS}
    oca = Oca(Store(root), Teller("oca-1", "local", "ORIGIN", Judge(settings()), outboxes, told.append), lambda: 0)
    serving = asyncio.create_task(wire.serve(oca, url))
    async with httpx.AsyncClient(base_url=url, transport=httpx.AsyncHTTPTransport(retries=20)) as client:
        assert (await client.get("/healthz")).json()["state"] == "serving"
        async with client.stream("GET", "/bbb/v1/1.m4s?narrow_kbps=400000") as slow:
            parts = slow.aiter_bytes()
            got = [await anext(parts)]
            assert (await client.post("/admin/drain")).json() == {"oca_id": "oca-1", "state": "draining", "in_flight": 1}
            refused = await client.get("/bbb/v1/2.m4s")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert (await client.get("/healthz")).json()["state"] == "draining"
            got += [part async for part in parts]
        assert b"".join(got) == SEGMENT
    async with asyncio.timeout(10):
        await serving
    assert [json.loads(line)["rc"] for line in told] == [503, 200]


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
async def test_what_is_not_http_is_answered_with_400(root: Path, sent: bytes) -> None:
    async with running(root) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent + b"\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
        assert (await server.client.get("/bbb/v1/2.m4s")).status_code == 200


async def test_pages_of_any_origin_may_ask(root: Path) -> None:
    async with running(root) as server:
        asks = {"origin": "http://page", "access-control-request-method": "GET", "access-control-request-headers": "cmcd-object"}
        answer = await server.client.options("/bbb/v1/2.m4s", headers=asks)
        assert answer.is_success
        assert {answer.headers[f"access-control-allow-{name}"] for name in ("origin", "headers")} == {"*"}
        assert "GET" in answer.headers["access-control-allow-methods"]
        assert not server.told
