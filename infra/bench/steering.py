"""What does a steering decision cost, does a full reload of routes stop answers, and does the chooser beat bandits without herding?

The real service, one worker, with a drawn network in memory (infra/bench/network.py): servers, titles and routes from real Kafka, which
titles each server holds from the same world without it, because 27 million events would only be read for minutes. Beside it, in the same
process and application, a handler that reads the same questions as bytes and answers `{}`; the two take turns of a second. (`deaf_per_s`
are the answers of one that does not even read: much of an empty handler's cost is the server's handing over of the body.) Every answer is
read whole by one process of a few connections, and must be a 200, a decision with three servers at least. `inside_*_ms` is from the
handler's start to its answer, at full load.

A reload reads every route from Kafka again while questions go on; `reload_longest_gap_ms` is the longest time without any answer.

The chooser against bandits: infra/bench/congestion.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge.outbox import Outbox
from edge.serve import Json, serve
from edge.steering.__main__ import SWITCH_S
from edge.steering.service import Service, app
from edge.steering.steer import TOPIC, Steering
from edge.steering.tables import Tables
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from infra.bench import network
from infra.bench.congestion import regrets
from infra.bench.harness import READY_WITHIN_S, Figure, Options, cpu_seconds, ground, namespace, say, served, world_argument
from infra.bench.network import Network
from producers.emit import Emitter
from schemas.catalogue import catalogue
from schemas.codec import Encoder
from schemas.publish import publish

FIGURES = {
    "inside_p99_ms": Figure("ms", 2.0, 2.0, higher=False),
    "inside_full_p99_ms": Figure("ms"),
    "of_empty_handler": Figure("share", 0.50, 0.30),
    "decisions_per_s": Figure("1/s"),
    "empty_per_s": Figure("1/s"),
    "memory_mb": Figure("MB"),
    "routes_memory_mb": Figure("MB"),
    "reload_longest_gap_ms": Figure("ms"),
    "reload_s": Figure("s"),
    "of_best_bandit_regret": Figure("share", 0.9, 1.0, higher=False),
    "load_cv": Figure("1"),
}
TOPICS = (
    "encoding.published",
    "delivery.oca",
    "delivery.route",
    "delivery.oca_health",
    "delivery.content",
    "delivery.throughput",
    "playback.abr_features",
    "delivery.steering",
)
CONNECTIONS = 4
"""Enough to keep one worker busy. With more, questions wait inside for others of the same loop, and nothing else would be measured."""
QUESTIONS = 20_000
"""Different ones; they are asked over and over."""
SHARE = 0.5
"""Of the rate that a worker can answer, at which times inside are measured: at its full rate they are those of the queue before it."""
TURN_S = 1.0
SECONDS = 10.0
"""Measured time of each in a run."""
WARM_UP_S = 2.0
LOAD_AT_ONCE = 20_000
QUANTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures per run; the service is up throughout."""
    world = network.read(options.world)
    runs = []
    with ground("kafka,registry"), namespace("bench"):
        publish(catalogue().topic(name) for name in TOPICS)
        drawn = Network(world, options.seed)
        say(f"telling {world.prefixes:,} prefixes")
        tell(drawn)
        with served("infra.bench.steering", "--seed", str(options.seed), *world_argument(options.world)) as service:
            server = Server(*service)
            say(f"ready: {server.told('/memory')}")
            for number in range(options.runs):
                chance = random.Random(f"{options.seed}/{number}")
                figures = measure(server, drawn, chance, options.seconds or SECONDS) | regrets(options.seed + number)
                say(f"run {number + 1} of {options.runs}: " + ", ".join(f"{name} {value:,.4g}" for name, value in figures.items()))
                runs.append(figures)
    return runs


def measure(server: Server, drawn: Network, chance: random.Random, seconds: float) -> dict[str, float]:
    """Decisions and empty answers in turns, then a reload under load."""
    questions = [server.question(drawn.client(chance), chance, drawn.world.titles) for _ in range(QUESTIONS)]
    nothing, nobody = ([question.replace(b"/steer", path, 1) for question in questions] for path in (b"/empty", b"/deaf"))
    ours, empty, deaf = Turns(), Turns(), Turns()
    server.ask(questions, WARM_UP_S, Turns(), check=True)
    server.ask(nothing, WARM_UP_S, Turns())
    server.told("/took")  # what came before is not counted
    for _ in range(max(1, round(seconds / TURN_S))):
        server.ask(questions, TURN_S, ours, check=True)
        server.ask(nothing, TURN_S, empty)
        server.ask(nobody, TURN_S, deaf)
    full_ms = server.told("/took")
    server.pace(questions, SHARE * ours.per_s, seconds, chance)
    took_ms = server.told("/took")
    memory = server.told("/memory")
    again = Turns()
    httpx.post(f"{server.url}/admin/reload").raise_for_status()
    started = time.perf_counter()
    while server.told("/reloading")["reloading"]:
        server.ask(questions, TURN_S, again, check=True)
        if time.perf_counter() - started > READY_WITHIN_S:
            raise AssertionError(f"routes were not read again in {READY_WITHIN_S:g} s")
    return {
        "inside_p50_ms": took_ms["p50"],
        "inside_p99_ms": took_ms["p99"],
        "inside_max_ms": took_ms["max"],
        "inside_full_p50_ms": full_ms["p50"],
        "inside_full_p99_ms": full_ms["p99"],
        "empty_full_p50_ms": full_ms["empty_p50"],
        "empty_full_p99_ms": full_ms["empty_p99"],
        "of_empty_handler": ours.per_s / empty.per_s,
        "decisions_per_s": ours.per_s,
        "empty_per_s": empty.per_s,
        "deaf_per_s": deaf.per_s,
        "cpu_us_per_decision": ours.cpu_us,
        "cpu_us_per_empty": empty.cpu_us,
        "memory_mb": memory["resident_mb"],
        "routes_memory_mb": memory["routes_mb"],
        "reload_longest_gap_ms": again.longest_gap_s * 1000,
        "reload_s": time.perf_counter() - started,
        "reload_decisions_per_s": again.per_s,
        "reload_inside_p99_ms": server.told("/took")["p99"],
    }


def tell(drawn: Network) -> None:
    """Servers, titles and routes onto their topics, through the emitter's way for many."""
    now_ms = time.time_ns() // 1_000_000
    with Emitter("bench-network") as emitter:
        for topic, records in (
            ("encoding.published", drawn.published()), ("delivery.oca", drawn.ocas()), ("delivery.route", drawn.routes()),
        ):  # fmt: skip
            declared = catalogue().topic(topic)
            encode = Encoder(declared.event, emitter.schema_id(topic))
            while batch := list(islice(records, LOAD_AT_ONCE)):

                def write(epoch: int, first: int, batch: Sequence[dict[str, Any]] = batch, encode: Encoder = encode) -> list[bytes]:
                    told = {"event_time": now_ms, "producer_id": "bench-network", "epoch": epoch}
                    return [encode({**told, "event_id": f"{n}", "seq": n, **record}) for n, record in enumerate(batch, first)]

                emitter.send_all(topic, [record[declared.key].encode() for record in batch], [now_ms] * len(batch), write)
                emitter.poll()
        left = emitter.flush(60)
        if left or emitter.counts.failed:
            raise AssertionError(f"{left + emitter.counts.failed} events of the network were not acknowledged")


class Turns:
    """What a server has answered in its turns so far."""

    def __init__(self) -> None:
        self.answers = 0
        self.seconds = self.cpu_s = self.longest_gap_s = 0.0

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of the server's process an answer."""
        return self.cpu_s / self.answers * 1e6


class Server:
    """The service under load: many connections, one request under way on each, every answer read whole."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self._address = urlsplit(url)
        self._pid = pid

    def told(self, path: str) -> Any:
        """What a GET is answered."""
        return httpx.get(self.url + path, timeout=60).raise_for_status().json()

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        """A request as it goes over the wire."""
        told = {"Host": self._address.netloc, "Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        return "\r\n".join([f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items()), "", ""]).encode() + body

    def question(self, client: str, chance: random.Random, titles: int) -> bytes:
        """A press of play of somebody; half of all titles are asked for twice as often as the other half."""
        body = {"cid": f"tt-{min(chance.randrange(titles), chance.randrange(titles))}", "sid": f"s-{chance.getrandbits(64):016x}"}
        return self.post("/steer", json.dumps(body).encode(), {"X-Forwarded-For": client})

    def _connection(self) -> socket.socket:
        connection = socket.create_connection((self._address.hostname, self._address.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def ask(self, requests: Sequence[bytes], seconds: float, turns: Turns, check: bool = False) -> None:
        """Ask for so long. Raises AssertionError for another answer than 200, or, with `check`, one of fewer than three servers."""
        selector = selectors.DefaultSelector()
        for n in range(CONNECTIONS):
            connection = self._connection()
            mine = cycle(requests[n::CONNECTIONS])
            selector.register(connection, selectors.EVENT_READ, (connection, mine, bytearray()))
            connection.sendall(next(mine))
        started, cpu_s = time.perf_counter(), cpu_seconds([self._pid])
        last, answered, open_ = started, 0, CONNECTIONS
        while open_:
            for key, _ in selector.select():
                connection, mine, buffer = key.data
                buffer += connection.recv(1 << 16)
                if not whole(buffer, check):
                    continue
                now = time.perf_counter()
                turns.longest_gap_s = max(turns.longest_gap_s, now - last)
                last = now
                answered += 1
                buffer.clear()
                if now - started < seconds:
                    connection.sendall(next(mine))
                else:
                    selector.unregister(connection)
                    connection.close()
                    open_ -= 1
        turns.answers += answered
        turns.seconds += time.perf_counter() - started
        turns.cpu_s += cpu_seconds([self._pid]) - cpu_s
        selector.close()

    def pace(self, requests: Sequence[bytes], per_s: float, seconds: float, chance: random.Random) -> None:
        """Ask at random moments, so many a second on average, whether or not what was asked before has been answered. Raises like `ask`."""
        selector, idle, asked = selectors.DefaultSelector(), [], cycle(requests)
        started = due = time.perf_counter()
        under_way = 0
        while under_way or time.perf_counter() - started < seconds:
            for key, _ in selector.select(max(0.0, due - time.perf_counter())):
                key.data.extend(key.fileobj.recv(1 << 16))  # type: ignore[union-attr]
                if whole(key.data, check=True):
                    key.data.clear()
                    idle.append(key.fileobj)
                    under_way -= 1
            while due <= time.perf_counter() and due - started < seconds:
                if not idle:
                    connection = self._connection()
                    selector.register(connection, selectors.EVENT_READ, bytearray())
                    idle.append(connection)
                idle.pop().sendall(next(asked))  # type: ignore[union-attr]
                under_way += 1
                due += chance.expovariate(per_s)
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        selector.close()


def whole(buffer: bytearray, check: bool) -> bool:
    """Whether a buffer holds a whole answer. Raises AssertionError for one that is not as it must be."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return False
    at = buffer.find(b"content-length: ")
    length = int(buffer[at + 16 : buffer.find(b"\r\n", at)])
    if len(buffer) < end + 4 + length:
        return False
    if not buffer.startswith(b"HTTP/1.1 200") or (check and buffer.count(b'"manifest_url"') < 3):
        raise AssertionError(f"a question was answered {bytes(buffer[:800]).decode()}")
    return True


class Measured(Service):
    """The service, with what the benchmark wants to know of it."""

    took_s: list[float]
    empty_took_s: list[float]
    before_mb: float
    routes: Any = None

    async def steer(self, request: Request) -> Response:
        """As it is, timed."""
        started = time.perf_counter()
        answer = await super().steer(request)
        self.took_s.append(time.perf_counter() - started)
        return answer

    async def empty(self, request: Request) -> Response:
        """The least that a handler of questions can do, timed."""
        started = time.perf_counter()
        async for _ in request.stream():
            pass
        answer = Json({})
        self.empty_took_s.append(time.perf_counter() - started)
        return answer

    async def deaf(self, request: Request) -> Response:
        """The least that a handler can do."""
        return Json({})

    async def took(self, request: Request) -> Response:
        """Times inside since this was asked last, ms: of decisions, and of empty answers as `empty_…`."""
        told: dict[str, float] = {}
        for kind, times in (("", self.took_s), ("empty_", self.empty_took_s)):
            took = sorted(times) or [0.0]
            times.clear()
            told |= {f"{kind}{name}": took[int(share * (len(took) - 1))] * 1000 for name, share in QUANTILES.items()}
        return Json(told)

    async def memory(self, request: Request) -> Response:
        """Resident memory, and how much of it reading the network has added; MB."""
        now_mb = resident_mb()
        return Json({"resident_mb": now_mb, "routes_mb": now_mb - self.before_mb, "prefixes": len(self.steering.tables.routes.table)})

    async def reloading(self, request: Request) -> Response:
        """Whether the routes that answer are still those that answered when this was false last."""
        table = self.steering.tables.routes.table
        if self.routes is None:
            self.routes = table
        still = table is self.routes
        if not still:
            self.routes = None
        return Json({"reloading": still})


def resident_mb() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """The service's process."""
    parser = argparse.ArgumentParser(prog="python -m infra.bench.steering", description="The steering service with a drawn network.")
    parser.add_argument("--url", required=True, help="address to serve at")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--world", type=Path, default=None)
    arguments = parser.parse_args()
    sys.setswitchinterval(SWITCH_S)
    tables = Tables()
    world = network.read(arguments.world)
    # Who holds what needs the world's size and the seed, not its prefixes.
    drawn = Network(world.model_copy(update={"prefixes": 1}), arguments.seed)
    masks = [1 << tables.bits[oca["oca_id"]] for oca in drawn.ocas()]
    for cid, held in drawn.holders():
        tables.contents.table[cid, 1] = sum(mask for mask, holds in zip(masks, held, strict=True) if holds)
    before_mb = resident_mb()
    with tables.followed(RegistryClient().schema), Emitter("bench-steering") as emitter:
        service = Measured(Steering.of(settings().edge, tables, Outbox(emitter, TOPIC), emitter.clock.now_ms))
        service.took_s, service.empty_took_s, service.before_mb = [], [], before_mb
        application = app(service)
        application.router.routes.extend(
            [
                *(Route(f"/{m.__name__}", m, methods=["POST"]) for m in (service.empty, service.deaf)),
                *(Route(f"/{m.__name__}", m) for m in (service.took, service.memory, service.reloading)),
            ]
        )
        serve(application, arguments.url)


if __name__ == "__main__":
    main()
