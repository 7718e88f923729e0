"""A warehouse of our own with an evening's rows in it, and a board that reads it: real processes, so that readers have readers' rights."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from infra.base import warehouse as clients
from infra.base.ports import free_port
from infra.base.settings import Settings, environment, settings
from producers.emit import Emitter
from producers.encoders import encode, events
from schemas.catalogue import catalogue
from sinks import migrate
from tests.board.browser import browser
from tests.board.rows import Evening, evening
from tests.kit import eventually

MINUTE_MS = 60_000
SEED = 3
"""Of an evening in which only the player that becomes bad is out of its baseline; with some, chance puts another one there."""


@pytest.fixture(scope="package")
def open_evening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evening]:
    """A running warehouse with all tables, and an evening that began forty minutes ago; `settings()` point at it."""
    state_dir = tmp_path_factory.mktemp("board")
    url = f"http://127.0.0.1:{free_port()}"
    env = {
        "HEADRACE_STATE_DIR": str(state_dir),
        "HEADRACE_WAREHOUSE__DSN": url,
        "HEADRACE_WAREHOUSE__LOADER_PASSWORD": "rows",
        "HEADRACE_EDGE__SUPERVISOR_URL": "",
        "HEADRACE_EDGE__LIVE_SESSIONS_URL": f"http://127.0.0.1:{free_port()}",
    }
    with environment(env), running("sinks.warehouse", f"{url}/healthz"):
        migrate.migrate(clients.writer("default"), catalogue().landed(), migrate.objects())
        yield evening(now_ms() - 40 * MINUTE_MS, now_ms() + 30 * MINUTE_MS, SEED)


@pytest.fixture
def warehouse(open_evening: Evening) -> Evening:
    """The evening as it is now: its rows up to this moment are in the warehouse, whichever tests ran before."""
    open_evening.go_on(clients.writer(), now_ms())
    return open_evening


@pytest.fixture(scope="package")
def board(open_evening: Evening) -> Iterator[str]:
    """The address of a running board over that warehouse."""
    need_libraries()
    url = f"http://127.0.0.1:{free_port()}"
    with environment({"HEADRACE_EDGE__BOARD_URL": url}), running("edge.board", f"{url}/healthz"):
        yield url


@pytest.fixture(scope="module")
def published_board(stack: Settings) -> str:
    """The address of the board of the running stack, with the demo's titles published."""
    need_libraries()
    with Emitter("encoder") as emitter:
        events.emit(encode.prepare(), emitter)
    return stack.edge.board_url


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    """A running browser."""
    with browser() as launched:
        yield launched


@dataclass
class Worker:
    """A double of the worker that follows sessions: what it tells of them, None while it rebuilds its table."""

    sessions: list[dict[str, Any]] | None


@pytest.fixture
def worker(open_evening: Evening) -> Iterator[Worker]:
    """The double, at the address where the board looks for the worker."""
    told = Worker([])

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = told.sessions
            body = {"error": "being rebuilt"} if known is None else {"playing": len(known), "sessions": known}
            self.send_response(503 if known is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *told: object) -> None:
            """Say nothing."""

    address = urlsplit(settings().edge.live_sessions_url)
    with ThreadingHTTPServer((address.hostname or "", address.port or 0), Answer) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield told
        server.shutdown()
        serving.join()


def need_libraries() -> None:
    """Skip the test in words where the page's libraries are not installed."""
    if not (Path(__file__).parents[2] / "edge" / "board" / "node_modules").exists():
        pytest.skip("the page's libraries are not installed: run `headrace setup`")


@contextmanager
def running(module: str, health: str) -> Iterator[None]:
    """A module of ours as a process of its own, ready when `health` answers 200, ended by SIGTERM."""
    process = subprocess.Popen([sys.executable, "-m", module])
    try:
        eventually(lambda: httpx.get(health).status_code == 200 or process.poll() is not None, within=60)
        assert process.poll() is None, f"{module} ended with {process.returncode} instead of serving"
        yield
    finally:
        process.terminate()
        assert process.wait(15) == 0, f"{module} did not end cleanly"


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
