"""One object from one of several servers: a race where the one in use keeps us waiting, the next one where it fails.

What races shares the viewer's link, so a race is short: who is behind is cut as soon as another has more. `failover` says when.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from producers.players.clock import LoopClock
from producers.players.failover import Budget, Cause, Progress, Servers, patience
from producers.players.network import Link
from producers.players.transport import NoAnswer, Transport

ROUNDS = 2
"""How often every server is asked for the same thing before the player gives up."""
ROUND_PAUSE_MS = 500
DEAR_PAUSE_MS = 10_000
"""Before a retry that the budget has not got: a player asks once a second, so that is a tenth of it still."""
MOST_AT_ONCE = 3
LOOK_EVERY_MS = 50
STARTS_KEPT = 20


class Unplayable(Exception):
    """No server gave what was needed; the message is the CMCD error code."""


@dataclass(frozen=True)
class Wanted:
    """An object, at each server. `segment_ms` is how long it plays, `sha256` what it has to be, where that is known; `keep`: its bytes."""

    urls: Sequence[str]
    segment_ms: int | None = None
    sha256: str | None = None
    keep: bool = False


@dataclass
class Transfer:
    """One request, as far as it has come. `rc` is 0 where no answer came, it broke off or was given up."""

    server: int
    url: str
    keys: Mapping[str, Any]
    """What its CMCD said."""
    asked_ms: int
    rc: int = 0
    oca_id: str | None = None
    first_ms: int | None = None
    last_ms: int = 0
    content: bytearray = field(default_factory=bytearray)
    cause: Cause | None = None
    """What is wrong with it: for good when it has ended, a suspicion before."""
    progress: Progress = field(default_factory=Progress)

    @property
    def ttfb_ms(self) -> int:
        """From request to first byte, or to the end where none came."""
        return (self.first_ms or self.last_ms) - self.asked_ms

    @property
    def ttlb_ms(self) -> int:
        """From request to the end."""
        return self.last_ms - self.asked_ms


class Audience(Protocol):
    """Who wants to know of requests and switches."""

    def ask(self, keys: Mapping[str, Any]) -> str:
        """The CMCD argument of a request that is about to be made."""
        ...

    def drains_ms(self) -> int | None:
        """The buffer that is left, ms; None while it does not run dry."""
        ...

    def requested(self, transfer: Transfer) -> None:
        """A request has ended."""
        ...

    def switched(self, left: str, to: str, cause: Cause) -> None:
        """The server in use is another one now; both by id, or by host while that is unknown."""
        ...


class Fetcher:
    """Fetches for one session, one object at a time. `urls` are the addresses of its servers, best first."""

    def __init__(self, urls: Sequence[str], transport: Transport, link: Link, rtt_ms: float, clock: LoopClock, audience: Audience) -> None:
        self.names = [urlsplit(url).netloc for url in urls]
        self.servers = Servers(len(urls))
        self.budget = Budget()
        self.starts_ms: deque[int] = deque(maxlen=STARTS_KEPT)
        """How long the last first bytes were waited for."""
        self.audience = audience
        self.clock = clock
        self._transport = transport
        self._link = link
        self._rtt_ms = rtt_ms

    async def get(self, wanted: Wanted, keys: Callable[[], Mapping[str, Any]]) -> Transfer:
        """Fetch an object; `keys` says at each request what its CMCD is. Raises Unplayable."""
        in_use = self.servers.in_use
        self.budget.earn()
        race = _Race(self, wanted, keys)
        try:
            winner = await race.run()
        finally:
            await race.cut(*race.running)
        self.servers.worked(winner.server)
        if winner.server in race.causes:  # it gave what was asked for after all
            self.servers.suspect(winner.server, self.clock.now_ms())
        if winner.server != in_use:
            self.audience.switched(self.names[in_use], self.names[winner.server], race.causes[in_use])
        return winner

    def penalty_ms(self, segment_ms: int) -> int:
        """What leaving the server in use would cost the next object, while it is suspected: the patience with it, and a round trip more."""
        if len(self.names) < 2 or not self.servers.suspected(self.clock.now_ms()):
            return 0
        return patience(self.audience.drains_ms(), segment_ms, self.starts_ms).silent_ms + round(self._rtt_ms)

    async def once(self, server: int, wanted: Wanted, keys: Mapping[str, Any]) -> Transfer:
        """Ask one server once, whatever comes of it."""
        transfer = Transfer(server, wanted.urls[server], keys, self.clock.now_ms())
        await self.pass_through(transfer, wanted)
        self.audience.requested(transfer)
        return transfer

    async def pass_through(self, transfer: Transfer, wanted: Wanted) -> None:
        """One GET through the shaped link, to its end."""
        query = ("&" if "?" in transfer.url else "?") + self.audience.ask(transfer.keys)
        progress, digest = transfer.progress, hashlib.sha256()
        try:
            await self.clock.until(transfer.asked_ms + self._rtt_ms)
            progress.waits(self.clock.now_ms())
            async with self._transport.get(transfer.url + query) as incoming:
                if oca_id := incoming.headers.get("x-oca-id"):
                    transfer.oca_id = self.names[transfer.server] = oca_id
                length = incoming.headers.get("content-length", "")
                progress.total = int(length) if length.isdecimal() else None
                async for piece in incoming.body():
                    progress.came(self.clock.now_ms(), len(piece))
                    if transfer.first_ms is None:
                        self.starts_ms.append(progress.start_ms)
                    await self.clock.until(self._link.pass_bytes(self.clock.now_ms(), len(piece)))
                    transfer.first_ms = transfer.first_ms or self.clock.now_ms()
                    if wanted.sha256:
                        digest.update(piece)
                    if wanted.keep:
                        transfer.content += piece
                    progress.waits(self.clock.now_ms())
                transfer.rc = incoming.status
            wrong = wanted.sha256 is not None and digest.hexdigest() != wanted.sha256
            transfer.cause = "status" if transfer.rc != 200 else "checksum" if wrong else None
        except NoAnswer:
            transfer.cause = transfer.cause or "broken"
        transfer.last_ms = self.clock.now_ms()


class _Race:
    """Those who are asked for one object."""

    def __init__(self, fetcher: Fetcher, wanted: Wanted, keys: Callable[[], Mapping[str, Any]]) -> None:
        self.running: dict[asyncio.Task[None], Transfer] = {}
        """Oldest first."""
        self.causes: dict[int, Cause] = {}
        """What was wrong with servers, or seemed to be."""
        self._fetcher = fetcher
        self._wanted = wanted
        self._keys = keys
        self._asked: list[int] = []
        self._last_rc = 0

    async def run(self) -> Transfer:
        """The first transfer that came whole. Those who let us wait for it have lost, and are told of. Raises Unplayable."""
        while True:
            if not self.running:
                await self._pause()
                self._start()
            await asyncio.wait(self.running, timeout=LOOK_EVERY_MS / 1000, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in self.running if task.done()]:
                transfer = self.running.pop(task)
                task.result()
                self._fetcher.audience.requested(transfer)
                if transfer.cause is None:
                    await self._give_up(*(task for task, other in self.running.items() if other.cause))
                    return transfer
                self._lost(transfer)
            await self._look()

    async def cut(self, *tasks: asyncio.Task[None]) -> None:
        """End some of those that run; nobody is told: nothing was wrong with them."""
        for task in tasks:
            self.running.pop(task)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pause(self) -> None:
        """Wait for as long as has to be waited before somebody is asked again. Raises Unplayable when enough were."""
        if not self._asked:
            return
        servers = len(self._wanted.urls)
        if len(self._asked) >= ROUNDS * servers:
            raise Unplayable(str(self._last_rc))
        pause_ms = 0 if len(self._asked) % servers else ROUND_PAUSE_MS
        if not self._fetcher.budget.spend():
            pause_ms = DEAR_PAUSE_MS
        await self._fetcher.clock.until(self._fetcher.clock.now_ms() + pause_ms)

    def _start(self) -> None:
        server, now_ms = self._next(), self._fetcher.clock.now_ms()
        self._asked.append(server)
        transfer = Transfer(server, self._wanted.urls[server], self._keys(), now_ms)
        self.running[asyncio.create_task(self._fetcher.pass_through(transfer, self._wanted))] = transfer

    def _next(self) -> int:
        return self._fetcher.servers.next(self._fetcher.clock.now_ms(), self._asked)

    async def _look(self) -> None:
        """Judge those that run; end who is behind; ask one server more where all of them let us wait, and the budget has it."""
        fetcher, now_ms = self._fetcher, self._fetcher.clock.now_ms()
        limits = patience(fetcher.audience.drains_ms(), self._wanted.segment_ms, fetcher.starts_ms)
        for task, transfer in list(self.running.items()):
            cause = transfer.cause or transfer.progress.judge(now_ms, limits)
            if task.done() or cause is None:
                continue
            transfer.cause = self.causes[transfer.server] = cause
            others = [(other, rival) for other, rival in self.running.items() if other is not task and rival.cause is None]
            if any(rival.progress.size > transfer.progress.size for _, rival in others):
                await self._give_up(task)
            elif transfer.cause == "slow_start" and transfer.progress.size:
                transfer.cause = None  # it was about to speak: those who are behind would only take its place on the link
                await self.cut(*(other for other, _ in others))
        room = len(self.running) < MOST_AT_ONCE and len(self._asked) < ROUNDS * len(self._wanted.urls)
        waiting = bool(self.running) and all(transfer.cause and not task.done() for task, transfer in self.running.items())
        if room and waiting and self._next() not in {t.server for t in self.running.values()} and fetcher.budget.spend():
            self._start()

    async def _give_up(self, *tasks: asyncio.Task[None]) -> None:
        """End some of those that run because of what is wrong with them. A request that was cut has no status, whatever it began with."""
        for task in tasks:
            transfer = self.running[task]
            await self.cut(task)
            transfer.rc, transfer.last_ms = 0, self._fetcher.clock.now_ms()
            self._fetcher.audience.requested(transfer)
            self._lost(transfer)

    def _lost(self, transfer: Transfer) -> None:
        assert transfer.cause
        self._last_rc = transfer.rc
        self.causes[transfer.server] = transfer.cause
        self._fetcher.servers.failed(transfer.server, self._fetcher.clock.now_ms())
