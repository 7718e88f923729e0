"""A status page for processes that serve nothing else: GET /healthz (200 or 503) and GET /status, as JSON."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], status: Callable[[], tuple[bool, dict[str, Any]]]) -> None:
        super().__init__(address, _Handler)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10

    def do_GET(self) -> None:
        ready, told = self.server.status()
        path = urlsplit(self.path).path
        if path not in ("/healthz", "/status"):
            code, told = 404, {"error": f"{path} is nothing here: /healthz and /status are"}
        else:
            code = 503 if path == "/healthz" and not ready else 200
        body = json.dumps({"ready": ready, **told}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Health questions come every second: nothing is logged."""


@contextlib.contextmanager
def serving(url: str, status: Callable[[], tuple[bool, dict[str, Any]]]) -> Iterator[None]:
    """Answer at the host and port of `url` while the block runs. `status` says whether all is well, and details; it is called on other
    threads. Raises SystemExit in words when the address cannot be used.
    """
    address = urlsplit(url)
    try:
        server = _Server((address.hostname or "127.0.0.1", 80 if address.port is None else address.port), status)
    except OSError as error:
        raise SystemExit(f"{url} cannot be served: {error}; `headrace doctor` says what is in the way") from None
    thread = threading.Thread(target=server.serve_forever, name="status", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
