"""Services as processes: they serve without Kafka, say in words what is in the way, and end when asked."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from infra.base.ports import free_port
from tests.kit import eventually


def environment(state: Path, **edge: str) -> dict[str, str]:
    nowhere = {"HEADRACE_KAFKA__BOOTSTRAP": "127.0.0.1:1", "HEADRACE_REGISTRY__URL": "http://127.0.0.1:1"}
    return {**os.environ, **nowhere, "HEADRACE_STATE_DIR": str(state), **{f"HEADRACE_EDGE__{name}": value for name, value in edge.items()}}


@contextmanager
def oca(state: Path, root: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "edge.oca", "--root", str(root)]
    process = subprocess.Popen(command, env=environment(state, OCA_URLS=f'["http://127.0.0.1:{port}"]'), stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_cache_server_serves_without_kafka_over_real_http_and_ends_when_asked(tmp_path: Path) -> None:
    content = os.urandom(700_000)
    (tmp_path / "titles/bbb/v1").mkdir(parents=True)
    (tmp_path / "titles/bbb/v1/1.m4s").write_bytes(content)
    port = free_port()
    with oca(tmp_path, tmp_path / "titles", port) as process, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        eventually(lambda: client.get("/healthz").status_code == 200)
        assert client.get("/bbb/v1/1.m4s").content == content
        assert client.get("/bbb/v1/1.m4s", headers={"range": "bytes=5-9"}).content == content[5:10]
        head = client.head("/bbb/v1/1.m4s")
        assert (head.headers["content-length"], head.content) == ("700000", b"")
        with socket.create_connection(("127.0.0.1", port)) as raw:  # no client library tidies this path up
            raw.sendall(b"GET /../../../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"404" in raw.makefile("rb").readline()
        assert client.get("/healthz").json()["events_held"] == 4
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    assert len((tmp_path / "logs/oca-1.access.jsonl").read_text().splitlines()) == 4


SERVICE = """
import asyncio, contextlib, sys
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from edge.serve import serve
from infra.base import log

@contextlib.asynccontextmanager
async def lifespan(_):
    if sys.argv[2] == "broken":
        raise RuntimeError("no disk")
    yield
    print("closed")

async def slow(_):
    await asyncio.sleep(1)
    return PlainTextResponse("done")

log.configure("last")
serve(Starlette(lifespan=lifespan, routes=[Route("/slow", slow)]), sys.argv[1])
print("left")
"""


def test_a_service_that_is_asked_to_end_answers_who_has_asked_and_closes(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    process = subprocess.Popen([sys.executable, "-c", SERVICE, url, "well"], stdout=subprocess.PIPE, env=environment(tmp_path))
    eventually(lambda: httpx.get(url).status_code == 404)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.get, f"{url}/slow")
        eventually(answer.running)
        eventually(lambda: established(urlsplit(url).port or 0))
        process.terminate()
        assert answer.result().text == "done"
    assert process.communicate(timeout=20)[0] == b"closed\nleft\n"
    assert process.returncode == 0


def established(port: int) -> bool:
    """Whether somebody is connected to a local port (state 01 of /proc/net/tcp)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(int(row[1].rpartition(":")[2], 16) == port and row[3] == "01" for row in rows)


def test_a_service_that_cannot_begin_ends_with_an_error(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = subprocess.run(
        [sys.executable, "-c", SERVICE, url, "broken"], env=environment(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    assert "no disk" in done.stderr


def test_an_address_that_is_taken_is_said_in_words(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "edge.collector", "--url", url], env=environment(tmp_path), capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 1
    assert f"{url} cannot be served" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["edge.oca", "--index", "3"], "--index 3: edge.oca_urls has 0 addresses"),
        (["edge.collector", "--url", "nonsense"], "'nonsense' is no address to serve at"),
    ],
)
def test_a_wrong_argument_is_said_in_words(tmp_path: Path, command: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment(tmp_path, OCA_URLS="[]"), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert words in done.stderr
