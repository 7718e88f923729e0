"""Events of a request path: handed over at once, sent when Kafka and the registry are there, never waited for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

from infra.base import log
from infra.base.registry import RegistryError, RegistryUnavailable
from producers.emit import Backpressure, Emitter, ProducerBroken
from schemas.codec import InvalidEvent

HELD_AT_MOST = 100_000
TRY_EVERY_S = 0.2
GATHER_S = 0.01
"""How long events of a busy path are gathered before they go: requests do not wait for them, nor they for each other's."""
AT_ONCE = 8
"""Events that go between two looks at what else the event loop has to do."""
MARK_EVERY_S = 1.0


@contextlib.asynccontextmanager
async def meanwhile(*work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run `work`, such as draining outboxes, beside the body; at the end all of it is cancelled, and has ended."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Outbox:
    """Sends to one topic. `put` neither blocks nor raises; what cannot go yet is held, `HELD_AT_MOST` at most, the rest counted as lost.

    Not thread-safe: one event loop uses it, and runs `drain` beside its requests, which polls the emitter, too.
    """

    def __init__(self, emitter: Emitter, topic: str, marks: bool = False) -> None:
        """`marks`: write a time marker to each partition every MARK_EVERY_S, for jobs that wait for event time to pass."""
        self._emitter = emitter
        self._marks = marks
        self._marked_s = 0.0
        self._topic = topic
        self._held: deque[tuple[Mapping[str, Any], int, str, str | None]] = deque()
        self._filled = asyncio.Event()
        self._bound = False
        self._log = log.get(__name__)
        self.lost = 0

    @property
    def held(self) -> int:
        """Events that wait for Kafka or the registry."""
        return len(self._held)

    def put(self, record: Mapping[str, Any], event_time_ms: int, correlation_id: str, event_id: str | None = None) -> None:
        """Send `record` in a moment, or hold it. Without an `event_id` it gets one of its own."""
        if len(self._held) < HELD_AT_MOST:
            self._held.append((record, event_time_ms, correlation_id, event_id))
            self._filled.set()
        else:
            self.lost += 1

    async def drain(self) -> None:
        """Send what is held as soon as it can go; runs until it is cancelled, and then sends what is left, as far as it can go at once."""
        try:
            while True:
                if not self._bound:
                    await self._bind()
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TRY_EVERY_S):
                        await self._filled.wait()
                    await asyncio.sleep(GATHER_S)
                self._filled.clear()
                while self._some():
                    await asyncio.sleep(0)
                if self._marks and not self._held and time.monotonic() - self._marked_s >= MARK_EVERY_S:
                    self._marked_s = time.monotonic()
                    with contextlib.suppress(Backpressure, ProducerBroken):  # the next one says more
                        self._emitter.mark(self._topic)
                self._emitter.poll()
                if self._held:
                    await asyncio.sleep(TRY_EVERY_S)
        finally:
            while self._bound and self._some():
                pass

    async def _bind(self) -> None:
        try:
            await asyncio.to_thread(self._emitter.bind, self._topic)
            self._bound = True
        except (RegistryUnavailable, RegistryError) as error:
            self._log.warning("events are held", topic=self._topic, held=len(self._held), reason=str(error))
            await asyncio.sleep(1.0)

    def _some(self) -> bool:
        """Send `AT_ONCE` events; whether there are more that can go."""
        for _ in range(min(AT_ONCE, len(self._held))):
            if not self._send(*self._held[0]):
                return False
            self._held.popleft()
        return bool(self._held)

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
