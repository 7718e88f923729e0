"""The collector: where players report to. `python -m edge.collector`.

    POST /cmcd          CMCD v2 event reports: one a line (application/cmcd, text/plain), or JSON objects (application/json); gzip welcome
    POST /interactions  what members do with titles, as `edge.interactions` has it: JSON objects, whatever they are called; gzip welcome
    GET /healthz        200 while both can be accepted

202 says that Kafka has acknowledged every accepted report, and every refused one as a dead letter: {"accepted": n, "rejected":
[{"line", "key", "rule", "message"}]}. 400: no report of the body was right; the same shape. 413, 415: the body as a whole. 429: this
sender has more waiting than is left to the others; 503: Kafka does not keep up; both with Retry-After, and a retry is safe, because a
report keeps its event_id.

In the address, `?target=NAME` tells apart the targets that one player counts `sn` for, and custom keys (`?com.headrace-device=web`) stand
for keys that a player cannot put into its reports. Time markers go to each partition of playback.report every second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge.body import BodyRefused, json_reports, lines, read
from edge.home.titles import Titles
from edge.interactions import TOPICS, Interactions
from edge.judge import DEAD_LETTERS, TOPIC, Judge, Rejected
from edge.outbox import meanwhile
from edge.serve import CORS, Json, serve
from edge.shares import Shares
from infra.base import log
from infra.base.registry import RegistryClient, RegistryError, RegistryUnavailable
from infra.base.settings import settings
from producers.emit import Backpressure, DeliveryFailed, Emitter, OnDelivery, ProducerBroken
from schemas import cmcd
from schemas.codec import InvalidEvent
from streams.folded import followed

MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES = 50_000, 64 << 20
"""Reports, and their bytes, that may wait for Kafka's acknowledgement at once."""
ACKNOWLEDGE_WITHIN_S = 10.0
MARK_EVERY_S = 1.0
MARKER_FRESH_S = 15.0
"""Without an acknowledged marker for so long, Kafka is not there for reports either."""
STEP = 250
"""Reports that are judged and queued in one go before other requests get their turn."""
TEXT_TYPES = ("application/cmcd", "text/plain", "application/octet-stream", "")


class Acknowledgements:
    """The deliveries that one answer waits for; `expect` on the event loop, its results from the emitter's thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._settled: asyncio.Future[None] = self._loop.create_future()
        self._lock = threading.Lock()
        self._open = 1  # the sender, who may still add
        self._failure: Exception | None = None

    def expect(self) -> OnDelivery:
        """One delivery more; hand the result to the emitter."""
        with self._lock:
            self._open += 1
        return self._note

    def withdraw(self) -> None:
        """The delivery expected last was not even sent."""
        self._note(None)

    async def all(self, within_s: float) -> None:
        """Wait for every delivery. Raises DeliveryFailed for the first that failed, TimeoutError when time is up."""
        self._note(None)
        await asyncio.wait_for(self._settled, within_s)
        if self._failure is not None:
            raise self._failure

    def _note(self, failure: Exception | None) -> None:
        with self._lock:
            self._open -= 1
            self._failure = self._failure or failure
            last = self._open == 0
        if last:
            self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        if not self._settled.done():
            self._settled.set_result(None)


Send = Callable[[bytes, bool, Acknowledgements], None]
"""Judges a report, JSON or not, and queues it. Raises Rejected, InvalidEvent, and like `Emitter.send`."""
Refuse = Callable[[str, str, bytes, Acknowledgements], None]
"""Queues a dead letter: reason, words, bytes."""


class Way(NamedTuple):
    """How reports of one kind come in: `topic` and `reason` of what breaks their rules, and whether text is JSON, too."""

    topic: str
    reason: str
    only_json: bool


CMCD = Way(TOPIC, "invalid_cmcd", False)
DOINGS = Way(TOPICS["interaction"], "decode", True)
MOST_DIGITS = 15
"""Of a time in ms."""


@dataclass
class Collector:
    """Takes requests, queues what is right, dead-letters what is not, answers when Kafka has both."""

    emitter: Emitter
    judge: Judge
    interactions: Interactions
    in_flight: Shares = field(default_factory=lambda: Shares(MAX_IN_FLIGHT))
    in_flight_bytes: Shares = field(default_factory=lambda: Shares(MAX_IN_FLIGHT_BYTES))
    accepted: int = 0
    rejected: int = 0
    marked_at: float = float("-inf")
    waiting_for: str = "the registry"

    async def reports(self, request: Request) -> Response:
        """POST /cmcd."""
        return await self._through(CMCD, request, self._cmcd)

    async def doings(self, request: Request) -> Response:
        """POST /interactions."""
        return await self._through(DOINGS, request, self._doings)

    async def _through(self, way: Way, request: Request, judging: Callable[[Request, int, str], Send]) -> Response:
        if not self.ready:
            return _later(503, f"not ready: {self.waiting_for}")
        sender = request.client.host if request.client else ""
        if not self.in_flight.fits(sender, 1):
            return self._too_much(sender)  # before its body is read, which costs more than the answer
        arrival_ms = self.emitter.clock.now_ms()
        correlation_id = request.headers.get("x-correlation-id", "")[:128]
        refuse = partial(self._send_dead_letter, way.topic, correlation_id)
        try:
            send = judging(request, arrival_ms, correlation_id)
            is_json, reports = await _reports(request, way)
        except BodyRefused as refusal:
            return await self._refuse_whole(refusal, "size" if refusal.rule == "size" else way.reason, refuse)
        count, size = len(reports), sum(len(raw) for _, raw in reports)
        if not (self.in_flight.fits(sender, count) and self.in_flight_bytes.fits(sender, size)):
            return self._too_much(sender)
        self.in_flight.take(sender, count)
        self.in_flight_bytes.take(sender, size)
        try:
            return await self._take(way, is_json, reports, send, refuse)
        except (Backpressure, DeliveryFailed, TimeoutError, ProducerBroken) as error:
            return _later(503, f"Kafka does not keep up: {error or type(error).__name__}")
        finally:
            self.in_flight.give_back(sender, count)
            self.in_flight_bytes.give_back(sender, size)

    def _cmcd(self, request: Request, arrival_ms: int, correlation_id: str) -> Send:
        """Raises BodyRefused for what the address says."""
        target, beside = _from_address(request.query_params)

        def send(raw: bytes, is_json: bool, acknowledgements: Acknowledgements) -> None:
            report = self.judge.event(raw, is_json, arrival_ms, target, beside)
            envelope = {"event_id": report.event_id, "event_time_ms": report.event_time_ms}
            self._send(TOPIC, report.fields, acknowledgements, correlation_id=report.correlation_id or correlation_id, **envelope)

        return send

    def _doings(self, request: Request, arrival_ms: int, correlation_id: str) -> Send:
        """Raises BodyRefused for what the address says."""
        said = request.query_params.get("sent")
        if said is not None and not (said.isascii() and said.isdigit() and len(said) <= MOST_DIGITS):
            raise BodyRefused(400, "sent", "in the address: `sent` is the client's clock, ms since 1970", said.encode())
        sent_ms = None if said is None else int(said)

        def send(raw: bytes, is_json: bool, acknowledgements: Acknowledgements) -> None:
            told = self.interactions.event(raw, arrival_ms, sent_ms)
            envelope = {"event_id": told.event_id, "event_time_ms": told.event_time_ms}
            self._send(told.topic, told.fields, acknowledgements, correlation_id=correlation_id, **envelope)

        return send

    def _too_much(self, sender: str) -> Response:
        held = self.in_flight.by_sender[sender]
        return _later(429, f"{self.in_flight.taken} reports wait for Kafka here already, {held} of them from {sender or 'you'}")

    async def _take(self, way: Way, is_json: bool, reports: list[tuple[int, bytes]], send: Send, refuse: Refuse) -> Response:
        acknowledgements = Acknowledgements()
        rejected: list[dict[str, Any]] = []
        for done, (number, raw) in enumerate(reports, 1):
            # Judged and queued without a pause in between, so that no marker can overtake a report that is already known.
            try:
                send(raw, is_json, acknowledgements)
            except (Rejected, InvalidEvent) as refusal:
                rejection = refusal if isinstance(refusal, Rejected) else Rejected(way.reason, "*", "contract", str(refusal))
                rejected.append(rejection.on_line(number))
                refuse(rejection.reason, str(rejection), raw, acknowledgements)
            if done % STEP == 0:
                await asyncio.sleep(0)
        await acknowledgements.all(ACKNOWLEDGE_WITHIN_S)
        accepted = len(reports) - len(rejected)
        self.accepted += accepted
        self.rejected += len(rejected)
        return Json({"accepted": accepted, "rejected": rejected}, 202 if accepted else 400)

    async def _refuse_whole(self, refusal: BodyRefused, reason: str, refuse: Refuse) -> Response:
        acknowledgements = Acknowledgements()
        try:
            refuse(reason, str(refusal), refusal.received, acknowledgements)
            await acknowledgements.all(ACKNOWLEDGE_WITHIN_S)
        except (Backpressure, DeliveryFailed, TimeoutError, ProducerBroken) as error:
            return _later(503, f"Kafka does not keep up: {error or type(error).__name__}")
        self.rejected += 1
        rejection = {"line": 0, "key": "*", "rule": refusal.rule, "message": str(refusal)}
        return Json({"accepted": 0, "rejected": [rejection]}, refusal.status)

    def _send_dead_letter(
        self, topic: str, correlation_id: str, reason: str, detail: str, payload: bytes, acknowledgements: Acknowledgements
    ) -> None:
        letter = {"component": "collector", "topic": topic, "reason": reason, "detail": detail, "payload": payload}
        self._send(DEAD_LETTERS, letter, acknowledgements, correlation_id=correlation_id)

    def _send(self, topic: str, record: Mapping[str, Any], acknowledgements: Acknowledgements, **envelope: Any) -> None:
        on_delivery = acknowledgements.expect()
        try:
            self.emitter.send(topic, record, on_delivery=on_delivery, **envelope)
        except Exception:
            acknowledgements.withdraw()
            raise

    @property
    def ready(self) -> bool:
        """Kafka has acknowledged a marker lately."""
        return time.monotonic() - self.marked_at < MARKER_FRESH_S

    def health(self, request: Request) -> Response:
        """GET /healthz."""
        counts = {"in_flight": self.in_flight.taken, "accepted": self.accepted, "rejected": self.rejected}
        return Json({"ready": self.ready, "waiting_for": None if self.ready else self.waiting_for, **counts}, 200 if self.ready else 503)

    async def mark(self) -> None:
        """Write time markers every second, for ever; ends the process when the producer is broken."""
        while True:
            try:
                await asyncio.to_thread(self.emitter.bind, TOPIC, DEAD_LETTERS, *TOPICS.values())
                for topic in (TOPIC, *TOPICS.values()):
                    self.emitter.mark(topic, on_delivery=self._marked)
                self.waiting_for = "Kafka's acknowledgement of a time marker"
            except (RegistryUnavailable, RegistryError, Backpressure) as error:
                self.waiting_for = str(error)
            except ProducerBroken as error:
                self.waiting_for = str(error)
                signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(MARK_EVERY_S)

    def _marked(self, failure: Exception | None) -> None:
        if failure is None:
            self.marked_at = time.monotonic()


def _later(status: int, why: str) -> Response:
    return Json({"accepted": 0, "rejected": [], "error": why}, status, {"Retry-After": "1" if status == 429 else "2"})


def _from_address(query: QueryParams) -> tuple[str, cmcd.Members]:
    """The report target and the custom keys that the collector's own address brings. Raises BodyRefused."""
    try:
        beside = cmcd.custom((key, value) for key, value in query.multi_items() if key != "target")
    except cmcd.InvalidCmcd as error:
        raise BodyRefused(400, error.violations[0].rule, f"in the address: {error}", str(query).encode()) from None
    return query.get("target", "default")[:64], beside


async def _reports(request: Request, way: Way) -> tuple[bool, list[tuple[int, bytes]]]:
    """Whether the reports are JSON, and each with its number. Raises BodyRefused."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await read(request.stream(), request.headers.get("content-encoding", "").strip().lower())
    is_json = kind == "application/json" or (way.only_json and kind in TEXT_TYPES)
    if is_json:
        found = json_reports(body)
    elif kind in TEXT_TYPES:
        found = lines(body)
    else:
        raise BodyRefused(
            415, "media_type", f"Content-Type {kind!r} is not understood; application/{'json' if way.only_json else 'cmcd'} is", body
        )
    if not found:
        raise BodyRefused(400, "empty", "the body holds no report", body)
    return is_json, found


def app(collector: Collector) -> Starlette:
    """The ASGI application around a collector; its lifespan writes the time markers."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with meanwhile(collector.mark()):
            yield

    routes = [
        Route("/cmcd", collector.reports, methods=["POST"]),
        Route("/interactions", collector.doings, methods=["POST"]),
        Route("/healthz", collector.health),
    ]
    return Starlette(routes=routes, middleware=[CORS], lifespan=lifespan)


def main() -> None:
    """Serve until asked to end."""
    parser = argparse.ArgumentParser(prog="python -m edge.collector", description="Take players' CMCD reports, and what members do.")
    parser.add_argument("--index", type=int, default=0, help="which collector this is, from 0; its producer id is collector-<index + 1>")
    parser.add_argument("--url", default=settings().edge.collector_url, help="address to serve at")
    arguments = parser.parse_args()
    log.configure("collector")
    titles = Titles()
    with followed([titles], RegistryClient().schema), Emitter(f"collector-{arguments.index + 1}", background=True) as emitter:
        serve(app(Collector(emitter, Judge(settings()), Interactions(settings(), titles.genres))), arguments.url)
    if emitter.broken:
        raise SystemExit(f"collector-{arguments.index + 1} ended: {emitter.broken}")


if __name__ == "__main__":
    main()
