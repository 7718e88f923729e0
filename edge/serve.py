"""Serving: one ASGI application on the address that the settings give, until SIGTERM or SIGINT asks it to end.

A service's module ends with `run(main)`, and its `main` calls `serve` inside what it has to close.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from infra.base import log

EXPOSED = ("Accept-Ranges", "Content-Length", "Content-Range", "Date", "ETag", "Retry-After", "X-Correlation-Id")
"""Headers of an answer that a page may read."""
METHODS = ("GET", "HEAD", "POST", "OPTIONS")
PREFLIGHT_S = 86_400
"""How long a browser may remember what it was told before it asks."""
CORS = Middleware(
    CORSMiddleware, allow_origins=["*"], allow_methods=METHODS, allow_headers=["*"], expose_headers=EXPOSED, max_age=PREFLIGHT_S
)
"""Browsers on any page may use the edge: no cookie or credential is involved."""


def from_here(headers: Mapping[str, str], peer: str) -> bool:
    """Whether somebody on this machine asks, and no web page that he looks at."""
    try:
        return "origin" not in headers and ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False


def run(main: Callable[[], None]) -> None:
    """Be the process of a service: call `main`, and when it returns leave with code 0. What `main` raises ends the process the usual way.

    The process is left without finalising the interpreter, as granian's own worker processes are. Threads of granian's outlive its
    server: one waits for work until the last request is dropped, and a request in a reference cycle is dropped by the finalisation
    itself. A thread that then asks for the GIL is ended by CPython with pthread_exit, and a thread that Rust has started cannot be
    unwound: "panic in a function that cannot unwind", and the process aborts. By now `main` has closed what matters.
    """
    main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def serve(app: ASGIApp, url: str, ending: Callable[[], None] = lambda: None) -> None:
    """Serve `app` at the host and port of `url`; returns after requests under way were answered and the app's lifespan has ended.

    `ending` is called first when the end is asked for: an app with answers that never end by themselves ends them there.

    Raises SystemExit in words when the address cannot be used.
    """
    host, port = free_address(url)
    server = Server(
        app,
        host,
        port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
        backlog=1024,
        backpressure=1024,
    )
    asyncio.run(_until_asked_to_end(server, ending))


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


async def _until_asked_to_end(server: Server, ending: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()

    def end() -> None:
        ending()
        server.stop()  # type: ignore[no-untyped-call]

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    log.get(__name__).info("serving", address=f"{server.bind_addr}:{server.bind_port}")
    await server.serve()
