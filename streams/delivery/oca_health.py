"""Which cache servers may new sessions be sent to? A Faust agent: reports and failures in, verdicts out.

    reads     delivery.oca_report        (key oca_id) what servers say of themselves, and the markers by which silence is known
              playback.failed_request    (key sid) what players say of them, condensed by a route of playback.report
    writes    delivery.oca_health        (key oca_id, compacted) a server's verdict when it changes; a time marker a second
    keeps     five seconds of counts and failures for each server, in memory; a new worker has them again after five seconds, and until
              it has heard of a server it says nothing of it
    answers   GET /healthz               200 while it reads

The rule and its bounds: `streams.delivery.health`. At least once: a verdict that is said again changes nothing. Event time only; the wall
clock wakes it and bounds clocks that run ahead. One worker: `python -m streams.delivery.oca_health`.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import faust

from infra.base import log
from infra.base.clock import Clock, WallClock
from infra.base.registry import RegistryClient, RegistryError
from infra.base.settings import settings
from schemas.catalogue import catalogue
from schemas.codec import BadFraming, BadPayload, Decoder, Encoder
from schemas.envelope import marker
from streams.delivery.health import Servers, Verdict

REPORTS, FAILED, HEALTH = "delivery.oca_report", "playback.failed_request", "delivery.oca_health"
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
            if verdict.differs(self._told.get(verdict.oca_id)):
                self._told[verdict.oca_id] = verdict
                out.append((verdict.oca_id, self._encode(_event(verdict))))
        return out

    def marker(self, now_ms: int) -> bytes | None:
        """A time marker, framed, if it is time for one."""
        if now_ms - self._marked_ms < MARK_MS:
            return None
        self._marked_ms = now_ms
        return self._encode({**marker(self._encode.event), **_envelope(f"{PRODUCER}-{now_ms}", now_ms)})


def _event(verdict: Verdict) -> dict[str, Any]:
    fields = asdict(verdict)
    at_ms = fields.pop("at_ms")
    return {**fields, **_envelope(f"{verdict.oca_id}-{at_ms}-{verdict.state}", at_ms)}


def _envelope(event_id: str, at_ms: int) -> dict[str, Any]:
    """A job's output has no sequence of its own."""
    return {"event_id": event_id, "event_time": at_ms, "producer_id": PRODUCER, "epoch": 0, "seq": -1, "correlation_id": ""}


def application(clock: Clock | None = None) -> faust.App:
    """The Faust app, not started."""
    chosen, now = settings(), (clock or WallClock()).now_ms
    web = urlsplit(chosen.edge.oca_health_url)
    app = faust.App(
        chosen.topic("oca_health"),
        broker=[f"kafka://{address}" for address in chosen.kafka.bootstrap.split(",")],
        store="memory://",
        topic_replication_factor=chosen.kafka.replication,
        consumer_auto_offset_reset="latest",  # what was reported before is not how a server is now
        broker_session_timeout=8,
        broker_heartbeat_interval=2,
        broker_rebalance_timeout=10,
        broker_max_poll_interval=120,
        broker_commit_interval=1.0,
        producer_acks=-1,
        producer_linger=0,
        web_bind=web.hostname or "127.0.0.1",
        web_host=web.hostname or "127.0.0.1",
        web_port=web.port or 80,
        datadir=chosen.state_dir / "faust-health",
        web_cors_options=None,
    )
    registry = RegistryClient()
    decode = Decoder(registry.schema)
    declared = catalogue().topic(HEALTH)
    servers = Servers()
    teller: list[Teller] = []
    logger = log.get(__name__)

    def topic(name: str) -> Any:
        partitions = catalogue().topic(name).partitions
        return app.topic(chosen.topic(name), key_serializer="raw", value_serializer="raw", partitions=partitions)

    out = topic(HEALTH)

    def read(message: Any) -> dict[str, Any] | None:
        try:
            return decode(message.value)
        except (BadFraming, BadPayload, RegistryError) as error:
            position = f"{message.message.topic}[{message.message.partition}]@{message.message.offset}"
            logger.error("an event cannot be read and is left out", position=position, reason=str(error))
            return None

    @app.agent(topic(REPORTS), concurrency=1)  # type: ignore[untyped-decorator]
    async def reports(stream: Any) -> None:
        async for message in stream.events():
            event = read(message)
            if event is not None:
                at_ms = round(event["event_time"].timestamp() * 1000)
                if event["marker"]:
                    servers.pass_time(message.message.partition, at_ms, now())
                else:
                    servers.report(event, message.message.partition, at_ms, now())

    @app.agent(topic(FAILED), concurrency=1)  # type: ignore[untyped-decorator]
    async def failures(stream: Any) -> None:
        async for message in stream.events():
            event = read(message)
            if event is not None and not event["marker"]:
                servers.failed(event, round(event["event_time"].timestamp() * 1000))

    @app.timer(LOOK_S)  # type: ignore[untyped-decorator]
    async def tell() -> None:
        if not teller:
            schema_id = registry.lookup(f"{chosen.topic(HEALTH)}-value", declared.event.schema)
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
    app = application()
    sys.argv[1:] = ["worker", "--loglevel", "warn"]
    app.main()


if __name__ == "__main__":
    main()
