"""How much of nginx does our cache server move, and does a crowd of slow readers starve a fast one?

Segments of 4 MB from the page cache over loopback, from one worker each: `python -m edge.oca`, its events going to a real Kafka, and nginx
with sendfile, configured by `edge.oca.nginx`, writing the same log. Both are up at once and take turns of a second. One client drives
both: a few connections with keep-alive, the next request sent when the last byte of a body is there, bodies read into one buffer. That
the client is not what limits is seen in the cores that servers and client used (`server_cpu`, `client_cpu`): whose is near 1 limits.
Before anything is measured the bytes of both are compared with the file. `cmcd_of_nginx`: the same with CMCD in each request, which
nginx does not read and ours makes a report of.

Then a single reader takes one segment after the other from ours, alone and beside 1,000 who take 4 kB a second each, in turns again.
"""

from __future__ import annotations

import getpass
import random
import select
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from urllib.parse import quote

import httpx2 as httpx
import numpy as np

from edge.oca.access import TOPICS
from edge.oca.nginx import Plane, configuration
from infra.base.ports import free_port
from infra.base.settings import environment
from infra.bench.harness import Figure, Options, cpu_seconds, ground, say
from schemas.catalogue import catalogue
from schemas.publish import publish

FIGURES = {
    "of_nginx": Figure("share", 0.80, 0.50),
    "bytes_per_s": Figure("B/s"),
    "nginx_bytes_per_s": Figure("B/s"),
    "cmcd_of_nginx": Figure("share"),
    "fast_beside_slow": Figure("share", 0.80, 0.50),
    "fast_p99_ms": Figure("ms"),
    "fast_alone_p99_ms": Figure("ms"),
}
SEGMENT_BYTES = 4_000_000
SEGMENTS = 16
CONNECTIONS = 6
BUFFER_BYTES = 1 << 20
TURN_S = 1.0
SECONDS = 8.0
"""Measured time of each in a run."""
SLOW_READERS, SLOW_BYTES_PER_S = 1_000, 4_096
NGINX = "nginx"
CMCD = "?CMCD=" + quote('bl=(4000),br=(8000),d=4000,ot=v,sid="bench",sn={n},sta=p,v=2', safe="{}")
"""What a player says with a request; the number differs from one to the next."""


@dataclass
class Reply:
    """An answer as far as it was read."""

    asked_at: float = 0.0
    left: int | None = None
    """Bytes of the body that are still to come; None before the headers are there."""

    def read(self, connection: socket.socket, buffer: memoryview) -> int:
        """Read once; returns bytes of the body."""
        if self.left is not None:
            count = connection.recv_into(buffer, min(self.left, len(buffer)))
            if not count:
                raise AssertionError(f"the connection ended {self.left} bytes before its body did")
            self.left -= count
            return count
        count = connection.recv_into(buffer)
        head = bytes(buffer[: min(count, 4_096)]).partition(b"\r\n\r\n")[0]
        if not head.startswith(b"HTTP/1.1 200 ") or f"content-length: {SEGMENT_BYTES}\r".encode() not in head.lower() + b"\r":
            raise AssertionError(f"not the answer that was asked for: {head!r}")
        body = count - len(head) - 4
        self.left = SEGMENT_BYTES - body
        return body


@dataclass(frozen=True)
class Measured:
    """Of one turn."""

    bytes_per_s: float
    times_s: list[float]
    """Of each segment, from asking to its last byte."""


class Driver:
    """Fetches segments over `connections` keep-alive connections."""

    def __init__(self, port: int, connections: int = CONNECTIONS, query: str = "") -> None:
        self._query = query
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._asked = 0
        self._selector = selectors.DefaultSelector()
        for _ in range(connections):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(connection, selectors.EVENT_READ, Reply())

    def take(self, seconds: float) -> Measured:
        """Fetch for so long; what was begun then is read to its end, and counts."""
        total, times_s, open_ones = 0, [], 0
        began = time.perf_counter()
        for key in self._selector.get_map().values():
            self._ask(key)
            open_ones += 1
        while open_ones:
            for key, _ in self._selector.select(10):
                reply: Reply = key.data
                total += reply.read(key.fileobj, self._buffer)  # type: ignore[arg-type]
                if reply.left == 0:
                    now = time.perf_counter()
                    times_s.append(now - reply.asked_at)
                    if now - began < seconds:
                        self._ask(key)
                    else:
                        reply.left = -1
                        open_ones -= 1
        return Measured(total / (time.perf_counter() - began), times_s)

    def close(self) -> None:
        """Close the connections."""
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _ask(self, key: selectors.SelectorKey) -> None:
        self._asked += 1
        path = segment(self._asked % SEGMENTS) + self._query.replace("{n}", str(self._asked))
        key.data.left, key.data.asked_at = None, time.perf_counter()
        key.fileobj.sendall(f"GET {path} HTTP/1.1\r\nHost: oca\r\n\r\n".encode())  # type: ignore[union-attr]


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures per run; servers are up throughout."""
    if shutil.which(NGINX) is None and not Path(NGINX).exists():
        raise SystemExit(f"{NGINX} is not on this machine, and this benchmark compares with it: install nginx-light")
    chance = random.Random(options.seed)
    with ground("kafka,registry") as stack, tempfile.TemporaryDirectory() as folder:
        publish(catalogue().topic(name) for name in TOPICS)
        root = Path(folder, "titles")
        Path(root, "bench/v1").mkdir(parents=True)
        for number in range(SEGMENTS):
            Path(root, segment(number)[1:]).write_bytes(chance.randbytes(SEGMENT_BYTES))
        with ours(root) as (oca, oca_port), nginx(root, stack.state_dir.resolve() / "nginx") as (peer, peer_port):
            check(root, oca_port)
            check(root, peer_port)
            return [measure(number, options, (oca, oca_port), (peer, peer_port)) for number in range(options.runs)]


def measure(number: int, options: Options, oca: tuple[int, int], peer: tuple[int, int]) -> dict[str, float]:
    """Figures of one run; servers are (pid, port)."""
    turns = round((options.seconds or SECONDS) / TURN_S)
    figures: dict[str, float] = {}
    for name, query in (("", ""), ("cmcd_", CMCD)):
        ours, theirs = Driver(oca[1], query=query), Driver(peer[1], query=query)
        ours.take(TURN_S)
        theirs.take(TURN_S)
        rates = [[_turn(ours, oca[0]), _turn(theirs, peer[0])] for _ in range(turns)]
        (rate, cpu, client_cpu), (peer_rate, peer_cpu, peer_client_cpu) = np.mean(np.array(rates), axis=0)
        figures |= {f"{name}of_nginx": rate / peer_rate, f"{name}bytes_per_s": rate, f"nginx_{name}bytes_per_s": peer_rate}
        figures |= {f"{name}server_cpu": cpu, f"nginx_{name}cpu": peer_cpu}
        figures |= {f"{name}client_cpu": client_cpu, f"nginx_{name}client_cpu": peer_client_cpu}
        ours.close()
        theirs.close()
    figures |= beside_slow_readers(oca[1], turns)
    say(f"run {number + 1} of {options.runs}: " + ", ".join(f"{name} {value:,.4g}" for name, value in figures.items()))
    return figures


def _turn(driver: Driver, pid: int) -> tuple[float, float, float]:
    """Bytes/s, and cores that the server and the client used."""
    before, client_before, began = cpu_seconds([pid]), time.process_time(), time.perf_counter()
    measured = driver.take(TURN_S)
    took_s = time.perf_counter() - began
    return measured.bytes_per_s, (cpu_seconds([pid]) - before) / took_s, (time.process_time() - client_before) / took_s


def beside_slow_readers(port: int, turns: int) -> dict[str, float]:
    """What one fast reader gets alone and beside many slow ones."""
    fast = Driver(port, connections=1)
    fast.take(TURN_S)
    alone = [fast.take(TURN_S) for _ in range(turns)]
    with slow_readers(port) as count_read:
        before, began = count_read(), time.perf_counter()
        beside = [fast.take(TURN_S) for _ in range(turns)]
        slow_bytes_per_s = (count_read() - before) / (time.perf_counter() - began)
    fast.close()
    return {
        "fast_beside_slow": _mean_rate(beside) / _mean_rate(alone),
        "fast_bytes_per_s": _mean_rate(beside),
        "fast_alone_bytes_per_s": _mean_rate(alone),
        "fast_p99_ms": _p99_ms(beside),
        "fast_alone_p99_ms": _p99_ms(alone),
        "slow_bytes_per_s": slow_bytes_per_s,
    }


def _mean_rate(turns: list[Measured]) -> float:
    return float(np.mean([turn.bytes_per_s for turn in turns]))


def _p99_ms(turns: list[Measured]) -> float:
    return float(np.quantile([time_s for turn in turns for time_s in turn.times_s], 0.99)) * 1000


@contextmanager
def slow_readers(port: int) -> Iterator[Callable[[], int]]:
    """A process of `SLOW_READERS`, each in the midst of a segment; gives what tells the bytes that they have read."""
    command = [sys.executable, "-m", "infra.bench.oca", str(port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert process.stdin
    assert process.stdout

    def count_read() -> int:
        assert process.stdin
        assert process.stdout
        process.stdin.write("\n")
        return int(process.stdout.readline())

    try:
        count_read()  # all of them are there
        yield count_read
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def read_slowly(port: int) -> None:
    """Be that process: each reader takes a second's bytes at a time, one after the other; a line on standard input asks how many."""
    connections = []
    for number in range(SLOW_READERS):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BYTES_PER_S)  # or the kernel would read ahead for it
        connection.connect(("127.0.0.1", port))
        connection.sendall(f"GET {segment(number % SEGMENTS)} HTTP/1.1\r\nHost: oca\r\n\r\n".encode())
        connection.setblocking(False)
        connections.append(connection)
    total, due = 0, time.perf_counter()
    for connection in cycle(connections):
        with suppress(BlockingIOError):
            count = len(connection.recv(SLOW_BYTES_PER_S))
            if not count:
                raise SystemExit("a slow reader was cut off")
            total += count
        due += 1 / SLOW_READERS
        if select.select([sys.stdin], [], [], max(0.0, due - time.perf_counter()))[0]:
            if not sys.stdin.readline():
                return
            sys.stdout.write(f"{total}\n")
            sys.stdout.flush()


def segment(number: int) -> str:
    """Path of a segment."""
    return f"/bench/v1/{number}.m4s"


def check(root: Path, port: int) -> None:
    """Raise AssertionError where a server's segment is not the file's."""
    for number in range(SEGMENTS):
        answer = httpx.get(f"http://127.0.0.1:{port}{segment(number)}")
        if answer.content != Path(root, segment(number)[1:]).read_bytes():
            raise AssertionError(f"port {port}: {segment(number)} is not the file: {answer.status_code}, {len(answer.content)} bytes")


@contextmanager
def ours(root: Path) -> Iterator[tuple[int, int]]:
    """Our cache server, ready: its pid and port."""
    port = free_port()
    with (
        environment({"HEADRACE_EDGE__OCA_URLS": f'["http://127.0.0.1:{port}"]'}),
        serving(sys.executable, "-m", "edge.oca", "--root", str(root)) as pid,
    ):
        answered(f"http://127.0.0.1:{port}/healthz")
        yield pid, port


@contextmanager
def nginx(root: Path, folder: Path) -> Iterator[tuple[int, int]]:
    """nginx, ready: the pid of its one worker, and its port."""
    plane = Plane(root, "127.0.0.1", free_port(), folder, getpass.getuser())
    folder.mkdir()
    (folder / "nginx.conf").write_text(configuration(plane))
    with serving(NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")) as pid:
        answered(f"http://127.0.0.1:{plane.port}{segment(0)}")
        (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        yield int(worker), plane.port


@contextmanager
def serving(*command: str) -> Iterator[int]:
    """A process until the end of the context."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def answered(url: str) -> None:
    """Wait until a server answers."""
    for _ in range(300):
        with suppress(httpx.HTTPError):
            if httpx.get(url).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


if __name__ == "__main__":
    read_slowly(int(sys.argv[1]))
