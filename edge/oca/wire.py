"""A cache server on the wire: aiohttp speaks HTTP/1.1, the kernel moves files to sockets (sendfile), this stands between.

No byte of a body is read into this process. A section goes in slices, so that a reader who takes all at once leaves room for others between
two of them. What would have to wait for the disk is read by a thread before it is sent, and a thousand readers who take little at a time
cost what they take.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path

from aiohttp import web

from edge.oca.access import Asked, Sent
from edge.oca.answers import Answer, Oca, Section
from edge.outbox import meanwhile
from edge.serve import free_address
from infra.base import log

SLICE = 2 << 20
SLICE_S = 0.05
"""On a narrowed network, so much time's bytes are handed over at once."""
STALLED_MS = 60_000
"""A client that takes nothing for so long is gone (TCP_USER_TIMEOUT, RFC 5482: the kernel counts)."""
KEEP_ALIVE_S = 75.0
HEADER_BYTES = 64 << 10
"""Of the request line and of each header: more than players send. A report that is too long is to become a dead letter, not a 400."""
DRAIN_S = 5.0
"""So long the end that a signal asks for waits for what is in flight: whoever sends signals does not wait long."""
LOOK_EVERY_S = 0.1
SAID_S = 0.6
"""So long a server that drains says so at least: its reports are half a second apart, and steering should not have to notice silence."""
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Patience:
    """From now on SIGTERM and SIGINT drain a server, and this says when that has taken long enough."""

    def __init__(self, oca: Oca) -> None:
        self._oca = oca
        self._latest = math.inf
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._end)

    @property
    def over(self) -> bool:
        """`DRAIN_S` after the first signal, or a second one has come."""
        return time.monotonic() > self._latest

    def _end(self) -> None:
        self._latest = time.monotonic() + DRAIN_S if self._latest == math.inf else 0.0
        self._oca.draining = True


async def serve(oca: Oca, url: str, *beside: Coroutine[None, None, None]) -> None:
    """Serve `oca` at `url`, and run what is `beside` it, until it has drained, for which SIGTERM, SIGINT and POST /admin/drain ask: new
    requests are refused, what is in flight ends. After a signal that may take `DRAIN_S`, or until the next signal. Raises SystemExit in
    words where the address is no use.
    """
    host, port = free_address(url)
    patience = Patience(oca)
    async with listening(oca, host, port), meanwhile(*beside):
        log.get(__name__).info("serving", address=f"{host}:{port}")
        while not oca.draining:
            await asyncio.sleep(LOOK_EVERY_S)
        said = time.monotonic() + SAID_S
        while not patience.over and (oca.in_flight or time.monotonic() < said):
            await asyncio.sleep(LOOK_EVERY_S)


@contextlib.asynccontextmanager
async def listening(oca: Oca, host: str, port: int) -> AsyncIterator[None]:
    """Serve `oca` at an address and send its events, until the end of the context, which cuts off what is in flight."""
    try:
        async with meanwhile(*(outbox.drain() for outbox in oca.teller.outboxes.values())), answering(_handler(oca), host, port):
            yield
    finally:
        if oca.parent is not None:
            await oca.parent.close()


@contextlib.asynccontextmanager
async def answering(handler: Handler, host: str, port: int) -> AsyncIterator[None]:
    """Answer HTTP requests at an address until the end of the context, which cuts off what is in flight."""
    async with _running(handler) as runner:
        await web.TCPSite(runner, host, port, backlog=1024).start()
        yield


@contextlib.asynccontextmanager
async def answering_at(handler: Handler, path: Path) -> AsyncIterator[None]:
    """As `answering`, at a socket of this machine with a name."""
    path.unlink(missing_ok=True)
    async with _running(handler) as runner:
        await web.UnixSite(runner, path).start()
        yield


@contextlib.asynccontextmanager
async def _running(handler: Handler) -> AsyncIterator[web.ServerRunner]:
    server = web.Server(handler, access_log=None, keepalive_timeout=KEEP_ALIVE_S, max_line_size=HEADER_BYTES, max_field_size=HEADER_BYTES)
    runner = web.ServerRunner(server, shutdown_timeout=0)
    try:
        await runner.setup()
        yield runner
    finally:
        await runner.cleanup()


def _handler(oca: Oca) -> Handler:
    """What aiohttp calls with each request."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        asked = asked_of(request, request.remote or "")
        if asked.method not in ("GET", "HEAD") or asked.path == "/healthz" or asked.path.startswith("/admin/"):
            if not asked.path.startswith("/admin/"):
                await _hang(oca, request)
            return await send(request, oca.beside(asked))
        asked = oca.admit(asked)
        access = oca.begin(asked)
        try:
            await _hang(oca, request)
            answer = await oca.content(asked, access)
            if answer.section is None:
                return await send(request, answer)
            return await send_section(request, answer, answer.section, access.sent)
        finally:
            oca.end(access)

    return handle


async def _hang(oca: Oca, request: web.BaseRequest) -> None:
    """Where the server is to hang, wait until it is healed. Raises ConnectionError where the client leaves before."""
    while oca.hangs:
        await asyncio.sleep(LOOK_EVERY_S)
        if request.transport is None:
            raise ConnectionError("the client has left")


def asked_of(request: web.BaseRequest, client: str) -> Asked:
    """A request that came from the address `client`."""
    url = f"{request.scheme}://{request.host}{request.path}"
    return Asked(request.method, request.path, request.rel_url.raw_query_string, request.headers, url, client)


async def send(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """Send an answer without a section."""
    response = web.Response(status=answer.rc, headers=answer.headers, body=answer.body)
    await response.prepare(request)
    await response.write_eof()
    return response


async def send_section(request: web.BaseRequest, answer: Answer, section: Section, counts: Sent) -> web.StreamResponse:
    """Send headers and section; `counts` learns when the first byte was handed over, and how many were. Closes the file."""
    out = -1
    try:
        response = web.StreamResponse(status=answer.rc, headers=answer.headers)
        response.content_length = section.last + 1 - section.first
        await response.prepare(request)
        if request.method == "GET":
            out = _number_of_our_own(request)
            await request.writer.drain()
            await _hand_over(out, section, counts)
        await response.write_eof()
        return response
    finally:
        os.close(section.found.fd)
        if out >= 0:
            os.close(out)


def _number_of_our_own(request: web.BaseRequest) -> int:
    """A second number of a connection's socket, for bytes that go past its transport: the transport's own may be another client's once it
    has let go of it, and asyncio lets nobody else wait for it. The transport's buffer is to be empty first: from here on `drain` waits for
    that. Raises ConnectionError where the client has left.
    """
    if request.transport is None:
        raise ConnectionError("the client has left")
    request.transport.set_write_buffer_limits(high=0)
    connection = request.transport.get_extra_info("socket")
    with contextlib.suppress(OSError):  # one with a name in this machine knows no such option
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_MS)
    return os.dup(connection.fileno())


async def _hand_over(out: int, section: Section, counts: Sent) -> None:
    """The bytes of a section, from file to socket. Raises ConnectionError where that ends early."""
    fd, until = section.found.fd, section.found.until
    most = min(SLICE, round(section.bytes_per_s * SLICE_S)) or SLICE
    position, due = section.first, time.perf_counter()
    while position <= section.last:
        count = min(most, section.last + 1 - position)
        if section.bytes_per_s:
            due += count / section.bytes_per_s
            await asyncio.sleep(due - time.perf_counter())
        if until is not None:
            await until(position + 1)
        if not _in_memory(fd, position, count):
            await asyncio.to_thread(os.pread, fd, count, position)
        try:
            sent = _pass(out, section, position, count)
        except BlockingIOError:
            await _writable(out)
            continue
        if not sent:
            raise ConnectionError("a file became shorter while it was sent")  # the client learns it by the end of the connection
        if counts.first_byte is None:
            counts.first_byte = time.perf_counter()
        counts.bytes += sent
        position += sent
        if sent == count and position <= section.last:
            await asyncio.sleep(0)  # who takes all at once gives way to the others


def _pass(out: int, section: Section, position: int, count: int) -> int:
    """Hand over some bytes from a position on; returns how many were taken. Raises BlockingIOError where none are."""
    if section.flipped is None:
        return os.sendfile(out, section.found.fd, position, count)
    piece = bytearray(os.pread(section.found.fd, count, position))
    if 0 <= section.flipped - position < len(piece):
        piece[section.flipped - position] ^= 0xFF
    return os.write(out, piece)


async def _writable(fd: int) -> None:
    """Wait until a socket takes bytes, or can tell why it never will."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _done, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _done(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _in_memory(fd: int, position: int, count: int) -> bool:
    """Whether the ends of these bytes are in the page cache, so that what lies between them most likely is."""
    try:
        os.preadv(fd, _SCRAP, position, os.RWF_NOWAIT)
        os.preadv(fd, _SCRAP, position + count - 1, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:  # this file system cannot say
        return True
    return True


_SCRAP = [bytearray(1)]
