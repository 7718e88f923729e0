"""When a player leaves a cache server for another one, and what that may cost. Pure: the caller has the clock.

A server is judged by how long it made us wait for bytes, never by how long those took through the viewer's own link: on a slow link another
server helps nobody. Who makes us wait too long is raced by the next one (Dean, Barroso, "The Tail at Scale", CACM 56(2), 2013), and what is
asked twice comes out of a budget, as in gRPC's retry throttling (its proposal A6), lest clients attack a fleet that has too much to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Cause: TypeAlias = Literal["status", "broken", "slow_start", "stall", "slow", "checksum"]
"""Why a server was left: no status 200; no connection, or one that was lost; no first byte in time; no further byte in time; too few bytes
for the buffer; content that is not what its checksum says."""

SILENT_LEAST_MS, SILENT_MOST_MS = 300, 2_000
SILENT_UNKNOWN_MS = 1_000
"""Without a time to first byte to go by."""
OF_P95 = 3
OF_BUFFER = 3
BEHIND_UNKNOWN_MS = 2_000
FORGIVEN_MS, FORGIVEN_MOST_MS = 5_000, 300_000


@dataclass(frozen=True)
class Patience:
    """How long a server may keep us waiting, ms: for the next byte, and for all that is left."""

    silent_ms: int
    rest_ms: int


def patience(buffer_ms: int | None, segment_ms: int | None, starts_ms: Sequence[int]) -> Patience:
    """The patience of a player. `buffer_ms` is None where nothing plays that could run dry, `segment_ms` where it is no segment that is
    fetched; `starts_ms` are recent waits for a first byte.

    A byte may take three times the 95th percentile of them, but no more than a third of the buffer. The rest of a segment may take as long
    as the segment lasts, or else the buffer drains, but no more than half of the buffer: the other half is for the next server.
    """
    silent_ms = OF_P95 * sorted(starts_ms)[len(starts_ms) * 95 // 100] if starts_ms else SILENT_UNKNOWN_MS
    rest_ms = segment_ms or BEHIND_UNKNOWN_MS
    if buffer_ms is not None:
        silent_ms, rest_ms = min(silent_ms, buffer_ms // OF_BUFFER), min(rest_ms, buffer_ms // 2)
    return Patience(min(max(silent_ms, SILENT_LEAST_MS), SILENT_MOST_MS), max(rest_ms, SILENT_LEAST_MS))


@dataclass
class Progress:
    """How far a transfer is, and how long its server made us wait."""

    total: int | None = None
    """Bytes of the body, where the server has said so."""
    size: int = 0
    start_ms: int = 0
    """The wait for the first byte."""
    waited_ms: int = 0
    """The latest waits for further bytes, as many as make up SILENT_LEAST_MS."""
    came_of_it: int = 0
    """Bytes that came after those waits."""
    _recent: deque[tuple[int, int]] = field(default_factory=deque)
    since_ms: int | None = None
    """When the wait began that is not over; None while the link has bytes to pass."""

    def waits(self, now_ms: int) -> None:
        """From now on the next bytes are waited for."""
        self.since_ms = now_ms

    def came(self, now_ms: int, size: int) -> None:
        """So many bytes came from the server."""
        waited_ms = 0 if self.since_ms is None else now_ms - self.since_ms
        if self.size:
            self._count(waited_ms, size)
            self._recent.append((waited_ms, size))
            while self.waited_ms - self._recent[0][0] >= SILENT_LEAST_MS:
                forgotten_ms, forgotten = self._recent.popleft()
                self._count(-forgotten_ms, -forgotten)
        else:
            self.start_ms = waited_ms
        self.since_ms = None
        self.size += size

    def _count(self, waited_ms: int, size: int) -> None:
        self.waited_ms += waited_ms
        self.came_of_it += size

    def judge(self, now_ms: int, patience: Patience) -> Cause | None:
        """What is wrong with the server, if anything. What is left of the body is expected to come as the last of it did."""
        silent_ms = 0 if self.since_ms is None else now_ms - self.since_ms
        if silent_ms > patience.silent_ms:
            return "stall" if self.size else "slow_start"
        waited_ms = self.waited_ms + silent_ms
        if not self.total or not self.size or waited_ms < SILENT_LEAST_MS:
            return None
        return "slow" if waited_ms * (self.total - self.size) > patience.rest_ms * self.came_of_it else None


class Budget:
    """What may be asked beside what has to be asked: a `share` of it in the long run, and `burst` at once."""

    def __init__(self, share: float = 0.1, burst: int = 10) -> None:
        self._share, self._burst = share, burst
        self._left = float(burst)

    def earn(self) -> None:
        """Something had to be asked."""
        self._left = min(self._burst, self._left + self._share)

    def spend(self) -> bool:
        """Whether one request more may be made; if so, it counts as made."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass
class _Record:
    failures: int = 0
    failed_ms: int = 0
    shunned_until_ms: int = 0
    suspected_until_ms: int = 0


class Servers:
    """What a session remembers of its servers, numbered best first. Who failed is shunned for a while, at each failure twice as long."""

    def __init__(self, count: int) -> None:
        self.in_use = 0
        self._records = [_Record() for _ in range(count)]

    def next(self, now_ms: int, asked: Sequence[int]) -> int:
        """Whom to ask: of those that were `asked` least, for this object, the one in use, else the best; of none but failed ones the one
        that has not failed for longest.
        """

        def rank(server: int) -> tuple[int, bool, int, bool, int]:
            record = self._records[server]
            shunned = now_ms < record.shunned_until_ms
            return asked.count(server), shunned, shunned * record.failed_ms, server != self.in_use, server

        return min(range(len(self._records)), key=rank)

    def failed(self, server: int, now_ms: int) -> None:
        """It failed us."""
        record = self._records[server]
        record.failures += 1
        record.failed_ms = now_ms
        record.shunned_until_ms = now_ms + min(FORGIVEN_MS << min(record.failures - 1, 10), FORGIVEN_MOST_MS)

    def worked(self, server: int) -> None:
        """It gave what was asked for, and is the one in use from now on. What it did before is half forgotten."""
        record = self._records[server]
        record.failures //= 2
        record.shunned_until_ms = 0
        self.in_use = server

    def suspect(self, server: int, now_ms: int) -> None:
        """It worked, but had kept us waiting or failed us before: for a while it may do so again."""
        self._records[server].suspected_until_ms = now_ms + FORGIVEN_MS

    def suspected(self, now_ms: int) -> bool:
        """Whether the one in use is suspected."""
        return now_ms < self._records[self.in_use].suspected_until_ms
