"""Which cache servers may new sessions be sent to? A Faust agent: reports and failures in, verdicts out.

    reads     delivery.oca_report        (key oca_id) what servers say of themselves, and the markers by which silence is known
              playback.failed_request    (key sid) what players say of them, condensed by routes of playback.report
              playback.oca_switch        (key sid) whom sessions left, and why
    writes    delivery.oca_health        (key oca_id, compacted) a server's verdict when it changes; a time marker a second
    keeps     five seconds of counts and failures for each server, in memory; a new worker has them again after five seconds, and until
              it has heard of a server it says nothing of it
    answers   GET /healthz               200 while it reads

The rule and its bounds: `streams.delivery.health`. At least once: a verdict that is said again changes nothing. Event time only; the wall
clock wakes it and bounds clocks that run ahead. One worker: `python -m streams.delivery.oca_health`.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import faust

from infra.base import log
from infra.base.clock import Clock, WallClock
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from schemas.catalogue import catalogue
from schemas.codec import Decoder, Encoder
from schemas.envelope import marker, of_job
from schemas.publish import subject_of
from streams import worker
from streams.delivery.health import Servers, Verdict

REPORTS, HEALTH = "delivery.oca_report", "delivery.oca_health"
FAILED = ("playback.failed_request", "playback.oca_switch")
PRODUCER = "streams.delivery.oca_health"
LOOK_S = 0.2
MARK_MS = 1_000


class Teller:
    """Turns verdicts into events: those that are news, and now and then a marker."""

    def __init__(self, encode: Encoder) -> None:
        self._encode = encode
        self._told: dict[str, Verdict] = {}
        self._marked_ms = 0

    def news(self, servers: Servers) -> list[tuple[str, bytes]]:
        """Key and framed event of each verdict that is to be told now."""
        out = []
        for verdict in servers.verdicts():
            told = self._told.get(verdict.oca_id)
            if verdict.differs(told):
                if told is not None:  # what was told of the time before it stays: a later verdict is of a later time
                    verdict = replace(verdict, at_ms=max(verdict.at_ms, told.at_ms + 1))
                self._told[verdict.oca_id] = verdict
                out.append((verdict.oca_id, self._encode(_event(verdict))))
        return out

    def marker(self, now_ms: int) -> bytes | None:
        """A time marker, framed, if it is time for one."""
        if now_ms - self._marked_ms < MARK_MS:
            return None
        self._marked_ms = now_ms
        return self._encode({**marker(self._encode.event), **of_job(PRODUCER, f"{PRODUCER}-{now_ms}", now_ms)})


def _event(verdict: Verdict) -> dict[str, Any]:
    fields = asdict(verdict)
    at_ms = fields.pop("at_ms")
    return {**fields, **of_job(PRODUCER, f"{verdict.oca_id}-{at_ms}-{verdict.state}", at_ms)}


def application(clock: Clock | None = None) -> faust.App:
    """The Faust app, not started."""
    now = (clock or WallClock()).now_ms
    # What was reported before is not how a server is now: begin at the end.
    app = worker.application(
        "oca_health", settings().edge.oca_health_url, "faust-health", consumer_auto_offset_reset="latest", producer_linger=0
    )
    registry = RegistryClient()
    decode = Decoder(registry.schema)
    declared = catalogue().topic(HEALTH)
    servers = Servers()
    teller: list[Teller] = []
    out = worker.topic(app, HEALTH)

    @app.agent(worker.topic(app, REPORTS), concurrency=1)  # type: ignore[untyped-decorator]
    async def reports(stream: Any) -> None:
        async for message in stream.events():
            event = worker.read(message, decode)
            if event is not None:
                at_ms = round(event["event_time"].timestamp() * 1000)
                if event["marker"]:
                    servers.pass_time(message.message.partition, at_ms, now())
                else:
                    servers.report(event, message.message.partition, at_ms, now())

    for topic in FAILED:

        @app.agent(worker.topic(app, topic), name=topic, concurrency=1)  # type: ignore[untyped-decorator]
        async def failures(stream: Any) -> None:
            async for message in stream.events():
                event = worker.read(message, decode)
                if event is not None and not event["marker"]:
                    servers.failed(event, round(event["event_time"].timestamp() * 1000))

    @app.timer(LOOK_S)  # type: ignore[untyped-decorator]
    async def tell() -> None:
        if not teller:
            schema_id = registry.lookup(subject_of(declared), declared.event.schema)
            teller.append(Teller(Encoder(declared.event, schema_id)))
        for key, framed in teller[0].news(servers):
            await out.send(key=key.encode(), value=framed)
        mark = teller[0].marker(now())
        for partition in range(declared.partitions if mark else 0):  # the key is empty, not absent: a compacted topic takes nothing without
            await out.send(key=b"", value=mark, partition=partition)

    @app.page("/healthz")  # type: ignore[untyped-decorator]
    async def healthz(web: Any, request: Any) -> Any:
        return web.json({"ready": not app.rebalancing}, status=503 if app.rebalancing else 200)

    return app


def main() -> None:
    """Run the worker until SIGTERM."""
    log.configure("oca-health")
    worker.run(application())


if __name__ == "__main__":
    main()
