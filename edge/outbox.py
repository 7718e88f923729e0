"""Events of a request path: handed over at once, sent when Kafka and the registry are there, never waited for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from infra.base import log
from infra.base.registry import RegistryError, RegistryUnavailable
from producers.emit import Backpressure, Emitter, ProducerBroken
from schemas.codec import InvalidEvent

HELD_AT_MOST = 100_000
TRY_EVERY_S = 0.2
MARK_EVERY_S = 1.0


class Outbox:
    """Sends to one topic. `put` neither blocks nor raises; what cannot go yet is held, `HELD_AT_MOST` at most, the rest counted as lost.

    Not thread-safe: one event loop uses it, and runs `drain` beside its requests.
    """

    def __init__(self, emitter: Emitter, topic: str, marks: bool = False) -> None:
        """`marks`: write a time marker to each partition every MARK_EVERY_S, for jobs that wait for event time to pass."""
        self._emitter = emitter
        self._marks = marks
        self._marked_s = 0.0
        self._topic = topic
        self._held: deque[tuple[Mapping[str, Any], int, str, str | None]] = deque()
        self._bound = False
        self._log = log.get(__name__)
        self.lost = 0

    @property
    def held(self) -> int:
        """Events that wait for Kafka or the registry."""
        return len(self._held)

    def put(self, record: Mapping[str, Any], event_time_ms: int, correlation_id: str, event_id: str | None = None) -> None:
        """Send `record`, or hold it. Without an `event_id` it gets one of its own."""
        if self._bound and not self._held and self._send(record, event_time_ms, correlation_id, event_id):
            return
        if len(self._held) < HELD_AT_MOST:
            self._held.append((record, event_time_ms, correlation_id, event_id))
        else:
            self.lost += 1

    async def drain(self) -> None:
        """Send what is held as soon as it can go; runs for ever."""
        while True:
            if not self._bound:
                try:
                    await asyncio.to_thread(self._emitter.bind, self._topic)
                    self._bound = True
                except (RegistryUnavailable, RegistryError) as error:
                    self._log.warning("events are held", topic=self._topic, held=len(self._held), reason=str(error))
                    await asyncio.sleep(1.0)
                    continue
            while self._held and self._send(*self._held[0]):
                self._held.popleft()
            if self._marks and not self._held and time.monotonic() - self._marked_s >= MARK_EVERY_S:
                self._marked_s = time.monotonic()
                with contextlib.suppress(Backpressure, ProducerBroken):  # the next one says more
                    self._emitter.mark(self._topic)
            await asyncio.sleep(TRY_EVERY_S)

    def _send(self, record: Mapping[str, Any], event_time_ms: int, correlation_id: str, event_id: str | None) -> bool:
        """Whether the event is off our hands: on its way, or refused for good."""
        try:
            self._emitter.send(self._topic, record, event_time_ms=event_time_ms, correlation_id=correlation_id, event_id=event_id)
        except (Backpressure, ProducerBroken):
            return False
        except InvalidEvent as error:
            self.lost += 1
            self._log.error("event is not sent", topic=self._topic, reason=str(error))
        return True
