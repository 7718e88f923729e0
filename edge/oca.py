"""A cache server (OCA): serves CMAF segments and manifests from its own store. `python -m edge.oca --index 0`.

    GET, HEAD /<cid>/v<version>/…    the file; single ranges, ETag, 304, 416; open to pages of any origin
              ?narrow_kbps=100       its body at that rate, for a viewer who wants to feel a narrow network
    GET /healthz                     200 while it serves
    POST /admin/fail?rate=0.5        from loopback only: answer that share of requests with 503
    POST /admin/heal                 and stop doing so

Each request leaves one event on delivery.access and one line in `<state_dir>/logs/oca-<n>.access.jsonl`. CMCD in a request's query or
headers (request mode) becomes one report on playback.report, and a dead letter where it is wrong. Serving waits for none of them, and
whatever its CMCD is like, a segment is served: what Kafka cannot take yet is held in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import logging
import logging.handlers
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from edge.judge import DEAD_LETTERS, Judge, Rejected
from edge.judge import TOPIC as REPORTS
from edge.outbox import Outbox
from edge.serve import CORS, run, serve
from edge.store import Found, Store, Unsatisfiable, byte_range, cid
from infra.base import log
from infra.base.settings import settings
from producers.emit import Emitter
from schemas import cmcd

ACCESS = "delivery.access"
TOPICS = (ACCESS, REPORTS, DEAD_LETTERS)
CHUNK = 256 << 10
"""Bytes that are read and handed over at once."""
LOG_BYTES, LOG_FILES = 16 << 20, 3
MAX_DIGITS = 7
SLICE_S = 0.05
"""On a narrowed network, so much time's bytes are handed over at once."""
ALWAYS = {"Accept-Ranges": "bytes", "Timing-Allow-Origin": "*"}


@dataclass
class Access:
    """One request, as the access event and the log line tell it."""

    started: float
    event_time_ms: int
    path: str
    url: str
    report: cmcd.Report | None
    letter: dict[str, Any] | None
    """The dead letter of CMCD that is no report."""
    correlation_id: str
    rc: int = 0
    bytes: int = 0
    range_first: int | None = None
    first_byte: float | None = None
    hit: bool = False

    @property
    def sid(self) -> str | None:
        """The session that the request belongs to, as far as its CMCD says."""
        return None if self.report is None else str(self.report.fields["sid"])


class Body(Response):
    """Sends bytes `first` to `last` of an open file, at `kbps` unless that is 0, notes when and how much, and closes the file."""

    def __init__(self, found: Found, first: int, last: int, access: Access, rc: int, headers: dict[str, str], kbps: int = 0) -> None:
        super().__init__(status_code=rc, headers={**headers, "Content-Length": str(last - first + 1)}, media_type=found.content_type)
        self._fd, self._first, self._last, self._access = found.fd, first, last, access
        self._bytes_per_s = kbps * 125

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            position = self._first if scope["method"] == "GET" else self._last + 1
            most = min(CHUNK, round(self._bytes_per_s * SLICE_S)) or CHUNK
            due = time.perf_counter()
            while position <= self._last:
                chunk = await asyncio.to_thread(os.pread, self._fd, min(most, self._last + 1 - position), position)
                if not chunk:
                    raise OSError(f"{self._access.path} became shorter while it was sent")
                position += len(chunk)
                if self._bytes_per_s:
                    due += len(chunk) / self._bytes_per_s
                    await asyncio.sleep(due - time.perf_counter())
                await send({"type": "http.response.body", "body": chunk, "more_body": position <= self._last})
                self._access.first_byte = self._access.first_byte or time.perf_counter()
                self._access.bytes += len(chunk)
            if not self._access.bytes:
                await send({"type": "http.response.body", "body": b""})
        finally:
            os.close(self._fd)


@dataclass
class Oca:
    """One cache server."""

    oca_id: str
    site_id: str
    tier: str
    store: Store
    judge: Judge
    outboxes: Mapping[str, Outbox]
    """By topic: what was served, what players said in their requests, and what of that was wrong."""
    now_ms: Callable[[], int]
    write_line: Callable[[str], None]
    chance: random.Random = field(default_factory=random.Random)
    fail_rate: float = 0.0
    requests: int = 0

    async def content(self, request: Request) -> ASGIApp:
        """GET or HEAD of a file."""
        access = self._access(request)
        self.requests += 1
        narrow = request.query_params.get("narrow_kbps", "0")
        if not (narrow.isascii() and narrow.isdigit() and len(narrow) <= MAX_DIGITS):
            return self._noted(access, PlainTextResponse("narrow_kbps is a whole number of kbit/s\n", 400, ALWAYS))
        if self.fail_rate and self.chance.random() < self.fail_rate:
            return self._noted(access, PlainTextResponse("this cache server has been told to fail\n", 503, ALWAYS))
        found = await asyncio.to_thread(self.store.open, request.scope["path"])
        if found is None:
            return self._noted(access, PlainTextResponse("no such file here\n", 404, ALWAYS))
        access.hit = True
        headers = {
            **ALWAYS,
            "ETag": found.etag,
            "Last-Modified": formatdate(found.modified_s, usegmt=True),
            "Cache-Control": found.cache_control,
        }
        asked = request.headers
        if found.etag in asked.get("if-none-match", ""):
            os.close(found.fd)
            return self._noted(access, Response(status_code=304, headers=headers))
        try:
            wanted = byte_range(asked.get("range"), found.size) if asked.get("if-range", found.etag) == found.etag else None
        except Unsatisfiable:
            os.close(found.fd)
            return self._noted(access, Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{found.size}"}))
        if wanted is None:
            return self._noted(access, Body(found, 0, found.size - 1, access, 200, headers, int(narrow)))
        access.range_first = wanted[0]
        headers["Content-Range"] = f"bytes {wanted[0]}-{wanted[1]}/{found.size}"
        return self._noted(access, Body(found, *wanted, access, 206, headers, int(narrow)))

    def fail(self, request: Request) -> Response:
        """POST /admin/fail."""
        try:
            rate = float(request.query_params.get("rate", "1"))
        except ValueError:
            rate = -1.0
        if not 0.0 <= rate <= 1.0:
            return JSONResponse({"error": f"rate={request.query_params.get('rate')!r}: a number from 0 to 1"}, 400)
        return self._set_fail_rate(request, rate)

    def heal(self, request: Request) -> Response:
        """POST /admin/heal."""
        return self._set_fail_rate(request, 0.0)

    def health(self, request: Request) -> Response:
        """GET /healthz."""
        told = {"oca_id": self.oca_id, "fail_rate": self.fail_rate, "requests": self.requests}
        held, lost = (sum(getattr(outbox, name) for outbox in self.outboxes.values()) for name in ("held", "lost"))
        return JSONResponse({**told, "events_held": held, "events_lost": lost})

    def _set_fail_rate(self, request: Request, rate: float) -> Response:
        host = request.client.host if request.client else ""
        if "origin" in request.headers or not _is_loopback(host):
            return JSONResponse({"error": "only from this machine, and from no web page"}, 403)
        self.fail_rate = rate
        return JSONResponse({"oca_id": self.oca_id, "fail_rate": rate})

    def _access(self, request: Request) -> Access:
        started, now_ms, url = time.perf_counter(), self.now_ms(), str(request.url.replace(query=""))
        report, letter = None, None
        try:
            asked = f"{url} {request.headers.get('range', '')}"
            report = self.judge.request(request.url.query, request.headers, now_ms, self.oca_id, asked)
        except Rejected as refusal:
            told = {"component": "oca", "topic": REPORTS, "reason": refusal.reason, "detail": str(refusal)}
            letter = {**told, "payload": _cmcd_as_it_came(request)}
        correlation_id = request.headers.get("x-correlation-id") or ("" if report is None else report.correlation_id)
        return Access(started, now_ms, request.url.path, url, report, letter, correlation_id[:128])

    def _noted(self, access: Access, response: Response) -> ASGIApp:
        """`response`, with the access told when it has been sent."""
        access.rc, access.bytes = response.status_code, len(response.body)
        return _Noted(response, access, self._tell)

    def _tell(self, access: Access) -> None:
        ended = time.perf_counter()
        record: dict[str, Any] = {
            "oca_id": self.oca_id,
            "site_id": self.site_id,
            "tier": self.tier,
            "sid": access.sid,
            "cid": cid(access.path),
            "path": access.path,
            "rc": access.rc,
            "bytes": access.bytes,
            "range_first": access.range_first,
            "ttfb_us": round(((access.first_byte or ended) - access.started) * 1e6),
            "ttlb_us": round((ended - access.started) * 1e6),
            "hit": access.hit,
        }
        self.outboxes[ACCESS].put(record, access.event_time_ms, access.correlation_id)
        if access.report is not None:
            ours = {"url": access.url, "oca_id": self.oca_id, "rc": access.rc, "bytes": access.bytes}
            times = {"ttfb_ms": round(record["ttfb_us"] / 1000), "ttlb_ms": round(record["ttlb_us"] / 1000)}
            fields = {**access.report.fields, **ours, **times}
            self.outboxes[REPORTS].put(fields, access.event_time_ms, access.correlation_id, access.report.event_id)
        if access.letter is not None:
            self.outboxes[DEAD_LETTERS].put(access.letter, access.event_time_ms, access.correlation_id)
        self.write_line(json.dumps({"event_time": access.event_time_ms, "correlation_id": access.correlation_id, **record}))


class _Noted:
    """A response after which its access is told, whether it was sent whole or the client left."""

    def __init__(self, response: Response, access: Access, tell: Callable[[Access], None]) -> None:
        self._response, self._access, self._tell = response, access, tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._response(scope, receive, send)
        finally:
            self._tell(self._access)


def _cmcd_as_it_came(request: Request) -> bytes:
    """The query of a request and its CMCD headers, one a line."""
    headers = [f"{name}: {text}" for name, text in request.headers.items() if name in cmcd.SHARDS]
    return "\n".join([request.url.query, *headers]).encode()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def access_log(path: Path) -> Iterator[Callable[[str], None]]:
    """A function that appends a line to `path`, which is rotated at `LOG_BYTES`; `LOG_FILES` older ones are kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES)) as handler:
        yield lambda line: handler.emit(logging.LogRecord("access", logging.INFO, "", 0, line, None, None))


def app(oca: Oca) -> Starlette:
    """The ASGI application around a cache server; its lifespan sends the events."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        draining = [asyncio.create_task(outbox.drain()) for outbox in oca.outboxes.values()]
        yield
        for task in draining:
            task.cancel()

    routes = [
        Route("/healthz", oca.health),
        Route("/admin/fail", oca.fail, methods=["POST"]),
        Route("/admin/heal", oca.heal, methods=["POST"]),
        Route("/{path:path}", oca.content, methods=["GET", "HEAD"]),
    ]
    return Starlette(routes=routes, middleware=[CORS], lifespan=lifespan)


def main() -> None:
    """Serve until asked to end."""
    config = settings()
    parser = argparse.ArgumentParser(prog="python -m edge.oca", description="Serve segments and manifests.")
    parser.add_argument("--index", type=int, default=0, help="which of edge.oca_urls to serve at, from 0; its oca_id is oca-<index + 1>")
    parser.add_argument("--root", type=Path, default=config.cache / "titles", help="directory of the titles")
    parser.add_argument("--site", default="local", help="site_id in its events")
    parser.add_argument("--tier", default="EMBEDDED_FLASH", choices=["EMBEDDED_FLASH", "IX_STORAGE", "ORIGIN"], help="tier in its events")
    arguments = parser.parse_args()
    log.configure("oca")
    if not 0 <= arguments.index < len(config.edge.oca_urls):
        raise SystemExit(f"--index {arguments.index}: edge.oca_urls has {len(config.edge.oca_urls)} addresses")
    oca_id = f"oca-{arguments.index + 1}"
    arguments.root.mkdir(parents=True, exist_ok=True)
    with access_log(config.state_dir / "logs" / f"{oca_id}.access.jsonl") as write_line, Emitter(oca_id, background=True) as emitter:
        outboxes = {topic: Outbox(emitter, topic) for topic in TOPICS}
        store, judge = Store(arguments.root), Judge(config)
        oca = Oca(oca_id, arguments.site, arguments.tier, store, judge, outboxes, emitter.clock.now_ms, write_line)
        serve(app(oca), config.edge.oca_urls[arguments.index])


if __name__ == "__main__":
    run(main)
