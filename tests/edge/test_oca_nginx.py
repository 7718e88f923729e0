"""nginx in the place of our own server: the same answers and the same events, whatever becomes of the agent and the log."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import httpx2 as httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.judge import Judge
from edge.oca.access import ACCESS, TOPICS, Teller
from edge.oca.answers import Oca
from edge.oca.nginx import HEAD_BYTES, Tail, tell
from edge.outbox import Outbox
from edge.store import Store
from infra.base.ports import free_port
from infra.base.settings import settings
from schemas.assets import AssetId, publish
from tests.edge.test_serve import environment
from tests.kit import eventually

SEGMENT = random.Random(4).randbytes(8_000_000)
PATH = "/bbb/v1/720/001.m4s"
real = pytest.mark.skipif(
    shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None, reason="nginx is not installed: apt-get install nginx-light"
)


class Kept:
    """Takes the place of an outbox, and keeps."""

    held = lost = 0

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def put(self, *event: Any) -> None:
        self.events.append(event)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = tmp_path / "titles"
    (store / "bbb/v1/720").mkdir(parents=True)
    (store / "bbb/v1/720/001.m4s").write_bytes(SEGMENT)
    (store / "bbb/v1/manifest.mpd").write_text("<MPD/>")
    publish(store / "bbb/v1", AssetId("bbb", 1), 1_700_000_000)
    (tmp_path / "secret").write_text("secret")
    (store / "bbb/link").symlink_to(tmp_path / "secret")
    (store / ".filling").mkdir()
    (store / ".filling/x").write_text("not yet")
    return store


@contextmanager
def serving(state: Path, root: Path, port: int, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "edge.oca", "--root", str(root), *more]
    process = subprocess.Popen(command, env=environment(state, OCA_URLS=f'["http://127.0.0.1:{port}"]'), stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: httpx.get(f"http://127.0.0.1:{port}/healthz").json())
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        finally:
            process.kill()


def lines(state: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (state / "logs/oca-1.access.jsonl").read_text().splitlines()]


def said(answer: httpx.Response) -> dict[str, Any]:
    """What of an answer is to be the same from both. An error's words are each one's own, and nginx calls a forbidden link 403."""
    if not answer.is_success:
        return {"rc": 404 if answer.status_code == 403 else answer.status_code}
    names = ("content-range", "content-length", "content-type", "etag", "last-modified", "cache-control", "timing-allow-origin")
    shared = ("access-control-allow-origin", "access-control-expose-headers")
    return {"rc": answer.status_code, "content": answer.content} | {name: answer.headers.get(name) for name in (*names, *shared)}


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@real
def test_both_data_planes_give_the_same_answers_and_tell_the_same(tmp_path: Path, root: Path) -> None:
    cmcd = quote('com.headrace-cid="c-1",ot=v,sid="s-1"', safe="")
    asks: list[tuple[str, str, dict[str, str]]] = [
        ("GET", PATH, {}),
        ("GET", f"{PATH}?CMCD={cmcd}", {"range": "bytes=100-199"}),
        ("GET", PATH, {"range": "bytes=-5", "x-correlation-id": "c-2"}),
        ("GET", PATH, {"range": "bytes=8000000-"}),
        ("GET", PATH, {"range": "bytes=0-1,5-6"}),
        ("GET", PATH, {"if-none-match": '"6553f100-7a1200"'}),
        ("GET", PATH, {"range": "bytes=0-0", "if-range": '"old"'}),
        ("HEAD", PATH, {"cmcd-session": 'sid="s-2"'}),
        ("GET", "/bbb/v1/manifest.mpd?CMCD=broken%3D%3D", {"origin": "http://page"}),
        ("GET", "/bbb/v1/none.m4s", {}),
        ("GET", "/bbb/link", {}),
        ("GET", "/.filling/y", {}),
    ]
    heard: dict[str, list[Any]] = {}
    told: dict[str, list[Any]] = {}
    for plane in ("own", "nginx"):
        port, state = free_port(), tmp_path / plane
        url = f"http://127.0.0.1:{port}"
        with serving(state, root, port, "--data-plane", plane), httpx.Client(base_url=url, headers={"host": "oca"}) as client:
            heard[plane] = [
                said(client.request(method, client.base_url.copy_with(raw_path=path.encode()), headers=headers))
                for method, path, headers in asks
            ]
            eventually(lambda state=state: len(lines(state)) == len(asks))  # type: ignore[misc]
            told[plane] = [
                [404 if line["rc"] == 403 else line["rc"]]
                + [line[name] for name in ("sid", "cid", "range_first", "hit", "correlation_id", "oca_id", "site_id", "tier")]
                + [line["bytes"] if line["rc"] in (200, 206) else None]
                for line in lines(state)
            ]
            assert all(line["ttfb_us"] <= line["ttlb_us"] for line in lines(state))
            outside = client.get(client.base_url.copy_with(raw_path=b"/bbb/%2e%2e/%2e%2e/secret"))
            assert outside.status_code in (400, 404)
            assert client.options(PATH, headers={"access-control-request-method": "GET"}).headers["access-control-allow-headers"] == "*"
            assert client.post("/admin/fail?rate=1").json() == {"oca_id": "oca-1", "fault": {"mode": "refuse", "rate": 1.0}}
            eventually(lambda client=client: client.get(PATH).status_code == 503)  # type: ignore[misc]
            assert client.post("/admin/heal", headers={"origin": "http://page"}).status_code == 403
            client.post("/admin/heal")
            assert client.post("/admin/fail?mode=hang").status_code == (409 if plane == "nginx" else 200)
            client.post("/admin/heal")
            eventually(lambda client=client: client.get(PATH).status_code == 200)  # type: ignore[misc]
    assert heard["nginx"] == heard["own"]
    assert told["nginx"] == told["own"]


@real
def test_what_nginx_does_not_hold_comes_from_the_parent_and_only_whom_it_advertises_is_served(tmp_path: Path, root: Path) -> None:
    ports = free_port(), free_port(), free_port()
    (tmp_path / "empty").mkdir()
    parent = ("--parent", f"http://127.0.0.1:{ports[0]}", "--data-plane", "nginx")
    with serving(tmp_path / "0", root, ports[0]), serving(tmp_path / "1", tmp_path / "empty", ports[1], *parent):
        answer = httpx.get(f"http://127.0.0.1:{ports[1]}{PATH}")
        assert (answer.content == SEGMENT, answer.headers["access-control-allow-origin"]) == (True, "*")
        assert [line["hit"] for line in eventually(lambda: lines(tmp_path / "1"))] == [False]
    with serving(tmp_path / "2", root, ports[2], "--data-plane", "nginx", "--prefixes", "10.0.0.0/8"):
        assert httpx.get(f"http://127.0.0.1:{ports[2]}{PATH}").status_code == 403


@real
def test_nginx_drains(tmp_path: Path, root: Path) -> None:
    port = free_port()
    with serving(tmp_path, root, port, "--data-plane", "nginx") as process, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        slow.connect(("127.0.0.1", port))
        slow.sendall(f"GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        got = len(slow.recv(1_000))
        assert httpx.post(f"http://127.0.0.1:{port}/admin/drain").json()["state"] == "draining"
        refused = eventually(lambda: (a := httpx.get(f"http://127.0.0.1:{port}{PATH}")).status_code == 503 and a)
        assert refused.headers["retry-after"] == "5"
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").json()["state"] == "draining"
        assert process.poll() is None
        while block := slow.recv(1 << 20):
            got += len(block)
        assert got > len(SEGMENT)
        assert process.wait(timeout=20) == 0
    assert {line["rc"] for line in lines(tmp_path)} == {200, 503}


@real
def test_a_log_that_is_rotated_and_an_agent_that_is_killed_cost_no_event(tmp_path: Path, root: Path) -> None:
    port, asked = free_port(), [str(number) for number in range(300)]
    code = "import edge.oca.access as a; a.LOG_BYTES, a.LOG_FILES = 20_000, 9; from edge.oca.__main__ import main; main()"
    command = [sys.executable, "-c", code, "--root", str(root), "--data-plane", "nginx"]

    def told() -> set[str]:
        logs = (tmp_path / "logs").glob("oca-1.access.jsonl*")
        return {json.loads(line)["correlation_id"] for log in logs for line in log.read_text().splitlines()}

    for part in (asked[:200], asked[200:]):
        state = environment(tmp_path, OCA_URLS=f'["http://127.0.0.1:{port}"]')
        process = subprocess.Popen(command, env=state, stderr=subprocess.DEVNULL)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                eventually(lambda client=client: client.get("/healthz").json())  # type: ignore[misc]
                for number in part:
                    assert client.get("/bbb/v1/manifest.mpd", headers={"x-correlation-id": number}).status_code == 200
                    if int(number) % 50 == 0:
                        eventually(lambda number=number: number in told())  # type: ignore[misc]
        finally:
            process.kill()
            process.wait()
        eventually(lambda: refused(port))
    with serving(tmp_path, root, port, "--data-plane", "nginx"):
        eventually(lambda: told() == set(asked))
    assert len(list((tmp_path / "nginx/oca-1").glob("access.jsonl.*"))) >= 3


def test_without_nginx_it_is_said_in_words(tmp_path: Path) -> None:
    code = "import edge.oca.nginx as n; n.EXECUTABLE = 'no-such-nginx'; from edge.oca.__main__ import main; main()"
    state = environment(tmp_path, OCA_URLS=f'["http://127.0.0.1:{free_port()}"]')
    command = [sys.executable, "-c", code, "--root", str(tmp_path), "--data-plane", "nginx"]
    done = subprocess.run(command, env=state, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "--data-plane nginx: no-such-nginx is not on this machine" in done.stderr


def line_of(number: int, **more: Any) -> bytes:
    told = {
        "request_id": f"{number:032x}", "ended_ms": 1_700_000_000_500, "method": "GET", "path": PATH, "query": "", "host": "oca",
        "client": "10.0.0.7", "rc": 206, "bytes": 100, "range": "bytes=5-104", "sent_range": "bytes 5-104/600", "ttfb_s": 0.002,
        "ttlb_s": 0.123, "correlation_id": "", "upstream": "", "cmcd-object": "", "cmcd-request": "", "cmcd-session": 'sid="s"',
        "cmcd-status": "",
    }  # fmt: skip
    return json.dumps(told | more).encode() + b"\n"


def teller(root: Path) -> tuple[Oca, Kept]:
    kept = {topic: Kept() for topic in TOPICS}
    outboxes = {topic: cast(Outbox, box) for topic, box in kept.items()}
    return Oca(Store(root), Teller("oca-1", "local", "ORIGIN", Judge(settings()), outboxes, lambda line: None), lambda: 0), kept[ACCESS]


def test_the_same_line_is_the_same_event(tmp_path: Path) -> None:
    oca, kept = teller(tmp_path)
    for line in (line_of(1), line_of(1), line_of(2), line_of(3, rc=404, sent_range="", cid="x"), line_of(4, upstream="unix:/x", rc=200)):
        tell(line, oca)
    first, again, other, missing, fetched = kept.events
    assert first == again
    assert first[3] != other[3]
    assert first[1] == 1_700_000_000_377
    record = first[0]
    assert (record["sid"], record["cid"], record["range_first"], record["ttfb_us"], record["ttlb_us"]) == ("s", "bbb", 5, 2_000, 123_000)
    assert (record["hit"], missing[0]["hit"], fetched[0]["hit"]) == (True, False, False)


@pytest.mark.parametrize(
    "line", [b"", b"nonsense\n", b"{}\n", b"[]\n", line_of(1, rc="x"), line_of(1, ttlb_s=None), line_of(1, sent_range="x")]
)
def test_what_is_no_line_of_the_log_is_refused(tmp_path: Path, line: bytes) -> None:
    oca, kept = teller(tmp_path)
    with pytest.raises(ValueError, match=r".+"):
        tell(line, oca)
    assert not kept.events


STEPS = st.lists(st.sampled_from(["write", "half", "read", "keep", "restart", "rotate"]), max_size=40)


@given(STEPS)
def test_each_line_is_read_once_whatever_happens_between(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """And after a restart those again that were read and not kept."""
    folder = tmp_path_factory.mktemp("tail")
    log, state = folder / "access.jsonl", folder / "position.json"
    tail, written, read, kept, half = Tail(log, state), 0, 0, 0, False
    for step in [*steps, "write", "read"]:
        if step in ("write", "half"):
            whole = line_of(written)
            with log.open("ab") as file:
                file.write(whole[100:] if half else whole[:100] if step == "half" else whole)
            half = step == "half" and not half
            written += not half
        elif step == "read":
            got = [int(json.loads(line)["request_id"], 16) for line in tail.lines()]
            assert got == list(range(read, written))
            read = written
        elif step == "keep":
            tail.keep(tail.position)
            kept = read
        elif step == "restart":
            tail, read = Tail(log, state), kept
        elif not half and log.exists() and len(list(folder.glob("access*"))) < 12:  # nginx has written its line before it begins a new log
            for number in range(12, 0, -1):
                older = log.with_name(f"{log.name}.{number - 1}") if number > 1 else log
                if older.exists():
                    older.replace(log.with_name(f"{log.name}.{number}"))


def test_what_was_rotated_away_is_lost_and_the_rest_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    log.write_bytes(line_of(1) + line_of(2))
    tail = Tail(log, tmp_path / "position.json")
    assert len(list(tail.lines(most=1))) == 1
    log.write_bytes(line_of(3))
    assert list(tail.lines()) == [line_of(3)]
    (tmp_path / "position.json").write_text("{damaged")
    assert list(Tail(log, tmp_path / "position.json").lines()) == [line_of(3)]
    assert len(line_of(3)) > HEAD_BYTES
