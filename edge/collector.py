"""The collector: where players report to. `python -m edge.collector`.

    POST /cmcd     CMCD v2 event reports: one a line (application/cmcd, text/plain), or JSON objects (application/json); gzip welcome
    GET /healthz   200 while reports can be accepted

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
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge.body import BodyRefused, json_reports, lines, read
from edge.judge import DEAD_LETTERS, TOPIC, Judge, Rejected
from edge.outbox import meanwhile
from edge.serve import CORS, Json, serve
from edge.shares import Shares
from infra.base import log
from infra.base.registry import RegistryError, RegistryUnavailable
from infra.base.settings import settings
from producers.emit import Backpressure, DeliveryFailed, Emitter, OnDelivery, ProducerBroken
from schemas import cmcd
from schemas.codec import InvalidEvent

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


@dataclass
class Collector:
    """Takes requests, queues what is right, dead-letters what is not, answers when Kafka has both."""

    emitter: Emitter
    judge: Judge
    in_flight: Shares = field(default_factory=lambda: Shares(MAX_IN_FLIGHT))
    in_flight_bytes: Shares = field(default_factory=lambda: Shares(MAX_IN_FLIGHT_BYTES))
    accepted: int = 0
    rejected: int = 0
    marked_at: float = float("-inf")
    waiting_for: str = "the registry"

    async def reports(self, request: Request) -> Response:
        """POST /cmcd."""
        if not self.ready:
            return _later(503, f"not ready: {self.waiting_for}")
        sender = request.client.host if request.client else ""
        if not self.in_flight.fits(sender, 1):
            return self._too_much(sender)  # before its body is read, which costs more than the answer
        arrival_ms = self.emitter.clock.now_ms()
        correlation_id = request.headers.get("x-correlation-id", "")[:128]
        try:
            target, beside = _from_address(request.query_params)
            is_json, reports = await _reports(request)
        except BodyRefused as refusal:
            return await self._refuse_whole(refusal, correlation_id)
        count, size = len(reports), sum(len(raw) for _, raw in reports)
        if not (self.in_flight.fits(sender, count) and self.in_flight_bytes.fits(sender, size)):
            return self._too_much(sender)
        self.in_flight.take(sender, count)
        self.in_flight_bytes.take(sender, size)
        try:
            return await self._take(reports, is_json, arrival_ms, target, beside, correlation_id)
        except (Backpressure, DeliveryFailed, TimeoutError, ProducerBroken) as error:
            return _later(503, f"Kafka does not keep up: {error or type(error).__name__}")
        finally:
            self.in_flight.give_back(sender, count)
            self.in_flight_bytes.give_back(sender, size)

    def _too_much(self, sender: str) -> Response:
        held = self.in_flight.by_sender[sender]
        return _later(429, f"{self.in_flight.taken} reports wait for Kafka here already, {held} of them from {sender or 'you'}")

    async def _take(
        self, reports: list[tuple[int, bytes]], is_json: bool, arrival_ms: int, target: str, beside: cmcd.Members, correlation_id: str
    ) -> Response:
        acknowledgements = Acknowledgements()
        rejected: list[dict[str, Any]] = []
        for done, (number, raw) in enumerate(reports, 1):
            # Judged and queued without a pause in between, so that no marker can overtake a report that is already known.
            try:
                report = self.judge.event(raw, is_json, arrival_ms, target, beside)
                self._send_report(report, correlation_id, acknowledgements)
            except (Rejected, InvalidEvent) as refusal:
                rejection = refusal if isinstance(refusal, Rejected) else Rejected("invalid_cmcd", "*", "contract", str(refusal))
                rejected.append(rejection.on_line(number))
                self._send_dead_letter(rejection.reason, str(rejection), raw, correlation_id, acknowledgements)
            if done % STEP == 0:
                await asyncio.sleep(0)
        await acknowledgements.all(ACKNOWLEDGE_WITHIN_S)
        accepted = len(reports) - len(rejected)
        self.accepted += accepted
        self.rejected += len(rejected)
        return Json({"accepted": accepted, "rejected": rejected}, 202 if accepted else 400)

    async def _refuse_whole(self, refusal: BodyRefused, correlation_id: str) -> Response:
        acknowledgements = Acknowledgements()
        reason = "size" if refusal.rule == "size" else "invalid_cmcd"
        try:
            self._send_dead_letter(reason, str(refusal), refusal.received, correlation_id, acknowledgements)
            await acknowledgements.all(ACKNOWLEDGE_WITHIN_S)
        except (Backpressure, DeliveryFailed, TimeoutError, ProducerBroken) as error:
            return _later(503, f"Kafka does not keep up: {error or type(error).__name__}")
        self.rejected += 1
        rejection = {"line": 0, "key": "*", "rule": refusal.rule, "message": str(refusal)}
        return Json({"accepted": 0, "rejected": [rejection]}, refusal.status)

    def _send_report(self, report: cmcd.Report, correlation_id: str, acknowledgements: Acknowledgements) -> None:
        self._send(
            TOPIC,
            report.fields,
            acknowledgements,
            event_id=report.event_id,
            event_time_ms=report.event_time_ms,
            correlation_id=report.correlation_id or correlation_id,
        )

    def _send_dead_letter(self, reason: str, detail: str, payload: bytes, correlation_id: str, acknowledgements: Acknowledgements) -> None:
        letter = {"component": "collector", "topic": TOPIC, "reason": reason, "detail": detail, "payload": payload}
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
                await asyncio.to_thread(self.emitter.bind, TOPIC, DEAD_LETTERS)
                self.emitter.mark(TOPIC, on_delivery=self._marked)
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


async def _reports(request: Request) -> tuple[bool, list[tuple[int, bytes]]]:
    """Whether the reports are JSON, and each with its number. Raises BodyRefused."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await read(request.stream(), request.headers.get("content-encoding", "").strip().lower())
    if kind == "application/json":
        found = json_reports(body)
    elif kind in TEXT_TYPES:
        found = lines(body)
    else:
        raise BodyRefused(415, "media_type", f"Content-Type {kind!r} is not understood; application/cmcd is", body)
    if not found:
        raise BodyRefused(400, "empty", "the body holds no report", body)
    return kind == "application/json", found


def app(collector: Collector) -> Starlette:
    """The ASGI application around a collector; its lifespan writes the time markers."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with meanwhile(collector.mark()):
            yield

    routes = [Route("/cmcd", collector.reports, methods=["POST"]), Route("/healthz", collector.health)]
    return Starlette(routes=routes, middleware=[CORS], lifespan=lifespan)


def main() -> None:
    """Serve until asked to end."""
    parser = argparse.ArgumentParser(prog="python -m edge.collector", description="Take CMCD reports of players.")
    parser.add_argument("--index", type=int, default=0, help="which collector this is, from 0; its producer id is collector-<index + 1>")
    parser.add_argument("--url", default=settings().edge.collector_url, help="address to serve at")
    arguments = parser.parse_args()
    log.configure("collector")
    with Emitter(f"collector-{arguments.index + 1}", background=True) as emitter:
        serve(app(Collector(emitter, Judge(settings()))), arguments.url)
    if emitter.broken:
        raise SystemExit(f"collector-{arguments.index + 1} ended: {emitter.broken}")


if __name__ == "__main__":
    main()
