"""CMCD v2 (CTA-5004-B) as a player sends it: reports in event mode, through an outbox that keeps them until the collector has them.

A report is numbered when it is made and keeps its number however often it is sent, so the collector can tell a retry from a new report.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.base import log
from producers.players.clock import LoopClock
from producers.players.transport import Answer, NoAnswer, Transport
from schemas.cmcd import CUSTOM, serialise, to_query

CONTENT_TYPE = "application/cmcd"


def accepted(answer: Answer, reports: int) -> int:
    """How many of a batch of `reports` an answer accepted: what it says, else all of them if it is 202 and none if it is a refusal."""
    try:
        return int(json.loads(answer.content)["accepted"])
    except (ValueError, KeyError, TypeError):
        return reports if answer.status == 202 else 0


@dataclass
class Counts:
    """What became of the reports of an outbox."""

    made: int = 0
    taken: int = 0
    """Answered 202: Kafka has them."""
    refused: int = 0
    """Wrong by content, says the collector, so sending them again is useless."""
    dropped: int = 0
    """Fell out of a full outbox, or were left at the end."""
    retries: int = 0
    """Batches that had to be sent again."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.made + other.made,
            self.taken + other.taken,
            self.refused + other.refused,
            self.dropped + other.dropped,
            self.retries + other.retries,
        )


class Outbox:
    """Reports on their way to one collector, oldest first. Bounded: when full, the oldest is dropped and counted."""

    def __init__(self, transport: Transport, clock: LoopClock, capacity: int = 2_000, batch: int = 50, linger_ms: int = 500) -> None:
        self.counts = Counts()
        self._transport = transport
        self._clock = clock
        self._lines: deque[tuple[str, str]] = deque(maxlen=capacity)
        self._batch = batch
        self._linger_ms = linger_ms
        self._work = asyncio.Event()
        self._log = log.get(__name__)

    def put(self, url: str, text: str) -> None:
        """Hand over one report for the collector at `url`."""
        self.counts.made += 1
        if len(self._lines) == self._lines.maxlen:
            self.counts.dropped += 1
        self._lines.append((url, text))
        self._work.set()

    async def run(self) -> None:
        """Send what there is, for ever, a little late so that reports travel together. Cancel it, then call `drain`."""
        while True:
            await self._work.wait()
            await self._clock.until(self._clock.now_ms() + self._linger_ms)
            while self._lines:
                await self._send()
            self._work.clear()

    async def drain(self, within_ms: int = 5_000) -> None:
        """Send what is left; what the collector has not taken by then is counted as dropped."""
        try:
            async with asyncio.timeout(within_ms / 1000):
                while self._lines:
                    await self._send()
        except TimeoutError:
            self._log.error("reports left behind: the collector did not take them in time", reports=len(self._lines))
        self.counts.dropped += len(self._lines)
        self._lines.clear()

    async def _send(self) -> None:
        """Send the oldest batch until the collector has taken or refused it, waiting as long as it says. Cancelled, it keeps the batch."""
        url = self._lines[0][0]
        batch: list[tuple[str, str]] = []
        while self._lines and self._lines[0][0] == url and len(batch) < self._batch:
            batch.append(self._lines.popleft())
        try:
            await self._deliver(url, "\n".join(text for _, text in batch).encode(), len(batch))
        except asyncio.CancelledError:
            self._lines.extendleft(reversed(batch))
            raise

    async def _deliver(self, url: str, content: bytes, reports: int) -> None:
        wait_ms = 500
        while True:
            status, told, reason = 0, "", ""
            try:
                answer = await self._transport.post(url, content, CONTENT_TYPE)
                status, told, reason = answer.status, answer.headers.get("retry-after", ""), answer.content[:500].decode(errors="replace")
            except NoAnswer as error:
                reason = str(error)
            if status == 202 or (400 <= status < 500 and status not in (408, 429)):
                taken = accepted(answer, reports)
                self.counts.taken += taken
                self.counts.refused += reports - taken
                if taken < reports:
                    self._log.error("the collector refuses reports", url=url, status=status, refused=reports - taken, reason=reason)
                return
            self.counts.retries += 1
            pause_ms = int(told) * 1000 if told.isdigit() else wait_ms
            wait_ms = min(2 * wait_ms, 8_000)
            self._log.warning("the collector cannot take reports now", url=url, status=status, reason=reason, again_in_ms=pause_ms)
            await self._clock.until(self._clock.now_ms() + pause_ms)


class Reporter:
    """Makes the reports of one session: adds what every report carries and numbers them."""

    def __init__(self, outbox: Outbox, url: str, shared: Mapping[str, Any]) -> None:
        self._outbox = outbox
        self._url = url
        self._shared = {"sf": "d", "st": "v", **shared}
        self._sn = {"event": 0, "request": 0}

    def report(self, e: str, ts: int, **keys: Any) -> None:
        """Event `e` at `ts`, ms since 1970; `keys` by CMCD name, None where there is nothing to say."""
        self._outbox.put(self._url, serialise({**self._shared, **keys, "e": e, "ts": ts, "sn": self._number("event")}))

    def request(self, **keys: Any) -> str:
        """The CMCD argument for the query of one request. Our own keys stay out of it: cache servers need not know the member."""
        shared = {name: value for name, value in self._shared.items() if not name.startswith(CUSTOM)}
        return to_query(serialise({**shared, **keys, "sn": self._number("request")}))

    def _number(self, mode: str) -> int:
        self._sn[mode] += 1
        return self._sn[mode] - 1
