"""Serving: one ASGI application on the address that the settings give, until SIGTERM or SIGINT asks it to end.

A service's `main` calls `serve` inside what it has to close.
"""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import orjson
import uvicorn
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from infra.base import log

EXPOSED = ("Accept-Ranges", "Content-Length", "Content-Range", "Date", "ETag", "Retry-After", "X-Correlation-Id")
"""Headers of an answer that a page may read."""
METHODS = ("GET", "HEAD", "POST", "OPTIONS")
KEEP_ALIVE_S = 75
"""How long a connection may be silent. Longer than clients keep theirs, or they would now and then ask on one that is just being closed."""
FINISH_WITHIN_S = 5
"""How long answers under way may take when the end is asked for: less than a supervisor's patience."""
PREFLIGHT_S = 86_400
"""How long a browser may remember what it was told before it asks."""
CORS = Middleware(
    CORSMiddleware, allow_origins=["*"], allow_methods=METHODS, allow_headers=["*"], expose_headers=EXPOSED, max_age=PREFLIGHT_S
)
"""Browsers on any page may use the edge: no cookie or credential is involved."""


class Json(JSONResponse):
    """An answer in JSON, written by orjson in a twentieth of the time that the standard library takes."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return orjson.dumps(content)


def from_here(headers: Mapping[str, str], peer: str) -> bool:
    """Whether somebody on this machine asks, and no web page that he looks at."""
    try:
        return "origin" not in headers and ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False


def serve(app: ASGIApp, url: str, ending: Callable[[], None] = lambda: None) -> None:
    """Serve `app` at the host and port of `url`; returns after requests under way were answered and the app's lifespan has ended.

    `ending` is called first when the end is asked for: an app with answers that never end by themselves ends them there.

    Raises SystemExit in words when the address cannot be used, and with code 3, after its traceback, when the app cannot begin.
    """
    host, port = free_address(url)
    server = _Server(
        uvicorn.Config(
            app,
            host,
            port,
            loop="asyncio",
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # whom to believe about the client is each service's own question: `edge.asked.client`
            server_header=False,
            backlog=1024,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=FINISH_WITHIN_S,
        )
    )
    asyncio.run(_until_asked_to_end(server, ending))


class _Server(uvicorn.Server):
    """uvicorn's server without its own handling of signals, which would send them to the process again after the end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever started it."""
        yield


def free_address(url: str) -> tuple[str, int]:
    """Host and port of `url`, nobody listening there: a server may share a taken port without a word. Raises SystemExit in words."""
    address = urlsplit(url)
    if address.hostname is None or address.port is None:
        raise SystemExit(f"{url!r} is no address to serve at: http://host:port is")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.hostname, address.port))
        except OSError as error:
            raise SystemExit(f"{url} cannot be served: {error}; `headrace doctor` says what is in the way") from None
    return address.hostname, address.port


async def _until_asked_to_end(server: _Server, ending: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()

    def end() -> None:
        ending()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    log.get(__name__).info("serving", address=f"{server.config.host}:{server.config.port}")
    await server.serve()
