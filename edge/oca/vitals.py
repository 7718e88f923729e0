"""What a cache server says of itself: counts of its requests, its probe of itself, and the report of both every half second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx

from edge.oca.access import Access
from infra.base import log
from infra.base.registry import RegistryError, RegistryUnavailable
from producers.emit import Backpressure, Emitter, ProducerBroken

TOPIC = "delivery.oca_report"
EVERY_S = 0.5
PROBE_WITHIN_S = 0.4
EGRESS_BPS = 1_000_000_000
"""What a server is taken to be able to send, bit/s."""
KEPT = 512
"""Times to first byte that are kept of an interval: enough for a 99th percentile."""


@dataclass
class Tally:
    """Counts since the last `take`, fed by the data plane. What is under way counts with what of it has been sent."""

    requests: int = 0
    errors: int = 0
    bytes: int = 0
    _under_way: dict[int, tuple[Access, int]] = field(default_factory=dict)
    """Accesses by identity, with how many of their bytes have been counted."""
    _ttfb_us: list[int] = field(default_factory=list)

    def begin(self, access: Access) -> None:
        """A request came."""
        self._under_way[id(access)] = (access, 0)

    def end(self, access: Access, ended: float) -> None:
        """A request was answered, or its client left; `ended` by the clock of `access.started`."""
        _, counted = self._under_way.pop(id(access))
        self.bytes += access.sent.bytes - counted
        self.requests += 1
        self.errors += access.rc >= 500
        if len(self._ttfb_us) < KEPT:
            self._ttfb_us.append(round(((access.sent.first_byte or ended) - access.started) * 1e6))

    def take(self) -> dict[str, int]:
        """The counts as delivery.oca_report has them; they begin anew."""
        for key, (access, counted) in self._under_way.items():
            self.bytes += access.sent.bytes - counted
            self._under_way[key] = (access, access.sent.bytes)
        times = sorted(self._ttfb_us)
        told = {
            "requests": self.requests,
            "errors": self.errors,
            "bytes": self.bytes,
            "connections": len(self._under_way),
            "ttfb_p99_us": times[min(len(times) - 1, len(times) * 99 // 100)] if times else 0,
        }
        self.requests = self.errors = self.bytes = 0
        self._ttfb_us.clear()
        return told


async def probe_us(client: httpx.AsyncClient, url: str) -> int | None:
    """Microseconds until the server at `url` answers a request like anybody's; None if it does not, or with an error."""
    began = time.perf_counter()
    try:
        answer = await client.get(f"{url}/healthz", timeout=PROBE_WITHIN_S)
    except httpx.HTTPError:
        return None
    return round((time.perf_counter() - began) * 1e6) if answer.status_code < 500 else None


async def report(emitter: Emitter, tally: Tally, about: Callable[[], Mapping[str, Any]], url: str) -> None:
    """Send a report and a marker to each partition every EVERY_S; runs for ever.

    `about` gives what does not come out of counting: oca_id, site_id, state, software, capacities, held_bytes, throttle. What Kafka cannot
    take is left out: an old report is worth nothing, and silence says what there is to say.
    """
    logger, complaint = log.get(__name__), ""
    async with httpx.AsyncClient() as client:
        last = due = time.monotonic()
        while True:
            due = max(due + EVERY_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            answered_us = await probe_us(client, url)
            now = time.monotonic()
            record = {
                **await asyncio.to_thread(about),
                **tally.take(),
                "interval_ms": max(1, round((now - last) * 1000)),
                "probe_us": answered_us,
            }
            last = now
            try:
                await asyncio.to_thread(_send, emitter, record)
                complaint = ""
            except (Backpressure, ProducerBroken, RegistryError, RegistryUnavailable) as error:
                if str(error) != complaint:
                    complaint = str(error)
                    logger.warning("reports are left out", reason=complaint)


def _send(emitter: Emitter, record: Mapping[str, Any]) -> None:
    emitter.mark(TOPIC)
    emitter.send(TOPIC, record)
