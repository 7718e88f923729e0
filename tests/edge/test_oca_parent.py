"""A miss: fetched once for all who ask, passed on while it comes, never kept; and whom a cache server serves at all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2 as httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.oca.parent import MAX_BYTES, Parent
from edge.oca.prefixes import Prefixes
from tests.edge.test_oca_wire import Running, running

SEGMENT = random.Random(3).randbytes(3_000_000)
PATH = "/bbb/v1/1.m4s"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


class Upstream:
    """A parent that answers each connection with what a test wants, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.go_on = asyncio.Event()
        self.head = f'HTTP/1.1 200 OK\r\nContent-Length: {len(SEGMENT)}\r\nETag: "t"\r\nContent-Type: video/iso.segment\r\n\r\n'
        self.parts = [SEGMENT[:1_000_000], SEGMENT[1_000_000:]]
        """Before and after `go_on`."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            writer.write(self.head.encode() + self.parts[0])
            await writer.drain()
            await self.go_on.wait()
            writer.write(self.parts[1])
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def with_parent(store: Path) -> AsyncIterator[tuple[Running, Upstream]]:
    upstream = Upstream()
    async with await asyncio.start_server(upstream.answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with running(store) as oca:
            oca.oca.parent = Parent(url, store)
            try:
                yield oca, upstream
            finally:
                upstream.go_on.set()


async def test_a_miss_is_fetched_once_and_passed_on_while_it_comes(store: Path) -> None:
    async with with_parent(store) as (oca, upstream):
        async with oca.client.stream("GET", PATH) as first:
            parts = first.aiter_bytes()
            got = await anext(parts)  # the parent has not sent the rest yet
            others = [asyncio.create_task(oca.client.get(PATH, headers=headers)) for headers in ({}, {"range": "bytes=999990-1000009"})]
            while oca.oca.in_flight < 3:
                await asyncio.sleep(0.01)
            assert upstream.asked == 1
            upstream.go_on.set()
            async for part in parts:
                got += part
        assert got == SEGMENT
        whole, part = await asyncio.gather(*others)
        assert (whole.content == SEGMENT, whole.headers["etag"], whole.headers["content-type"]) == (True, '"t"', "video/iso.segment")
        assert (part.status_code, part.content) == (206, SEGMENT[999_990:1_000_010])
        assert upstream.asked == 1
        told = await oca.tells(3)
        assert [line["hit"] for line in told] == [False] * 3
        assert (await oca.client.get(PATH)).content == SEGMENT
        assert upstream.asked == 2
        assert not list(store.iterdir())


@pytest.mark.parametrize(
    ("head", "rc"),
    [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 502),
        (f"HTTP/1.1 200 OK\r\nContent-Length: {MAX_BYTES + 1}\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nLast-Modified: yesterday\r\n\r\n", 502),
        ("nonsense\r\n\r\n", 502),
    ],
)
async def test_a_parent_that_cannot_is_an_answer_in_words(store: Path, head: str, rc: int) -> None:
    async with with_parent(store) as (oca, upstream):
        upstream.head, upstream.parts = head, [b"", b""]
        answer = await oca.client.get(PATH)
        assert (answer.status_code, bool(answer.text)) == (rc, True)
        upstream.go_on.set()
        for path in ("/healthz/x", "/x", "/bbb/v1/", "/.filling/v1/x"):
            assert (await oca.client.get(path)).status_code == 404
        assert upstream.asked == 1


async def test_a_parent_that_breaks_in_the_middle_ends_the_connection_of_all_who_wait(store: Path) -> None:
    async with with_parent(store) as (oca, upstream):
        upstream.parts = [SEGMENT[:1_000_000], b""]
        asking = [asyncio.create_task(oca.client.get(PATH)) for _ in range(3)]
        while oca.oca.in_flight < 3:
            await asyncio.sleep(0.01)
        upstream.go_on.set()
        for answer in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(answer, httpx.RemoteProtocolError)
        assert [line["bytes"] for line in await oca.tells(3)] == [1_000_000] * 3
        upstream.parts = [SEGMENT, b""]
        assert (await oca.client.get(PATH)).content == SEGMENT


async def test_nobody_at_the_address_of_the_parent(store: Path) -> None:
    async with running(store) as oca:
        oca.oca.parent = Parent("http://127.0.0.1:1", store)
        assert (await oca.client.get(PATH)).status_code == 502


async def test_only_whom_it_advertises_is_served(store: Path) -> None:
    async with running(store) as oca:
        oca.oca.prefixes = Prefixes(["10.0.0.0/8", "2001:db8::/32"])
        answer = await oca.client.get(PATH)
        assert answer.status_code == 403
        assert "127.0.0.1 is in none of the prefixes" in answer.text
        assert (await oca.client.get("/healthz")).status_code == 200
        oca.oca.prefixes = Prefixes(["127.0.0.1/32"])
        assert (await oca.client.get(PATH)).status_code == 404
        assert [line["rc"] for line in await oca.tells(2)] == [403, 404]


@pytest.mark.parametrize(
    ("address", "within"),
    [
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("::ffff:10.0.0.1", True),
        ("2001:db8:ffff::1", True),
        ("2001:db9::1", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_prefixes(address: str, within: bool) -> None:
    assert Prefixes(["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]).has(address) is within


@given(st.lists(st.ip_addresses(), max_size=5), st.ip_addresses(), st.integers(0, 32))
def test_prefixes_agree_with_the_standard_library(networks: list[object], address: object, bits: int) -> None:
    import ipaddress

    known = [ipaddress.ip_network((str(n), bits), strict=False) for n in networks]
    expected = any(ipaddress.ip_address(str(address)) in network for network in known)
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is None:
        assert Prefixes(map(str, known)).has(str(address)) is expected
    assert Prefixes().has(str(address))


def test_what_is_no_prefix_is_named() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        Prefixes(["10.0.0.1/8"])
