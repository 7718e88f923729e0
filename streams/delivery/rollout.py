"""A rolling update: one cache server after the other, and never one that viewers could not do without. Pure but for the clock it is given.

The next is the one with the least to do; it is not taken while another of its site is not UP, or where those that its viewers would go to
could not carry what it sends: servers of its region, and storage anywhere, with which the fallback chain ends. Each is drained, ends, is
started again by whatever keeps it alive, and has come back once it is UP for a while, with the wanted version. The first that does not
is the last that was touched.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from infra.base.clock import Clock
from schemas.network import TIERS

ROOM = 0.8
"""Load up to which others are given what a server leaves behind: from there on steering sends fewer sessions."""
EMBEDDED = "EMBEDDED_FLASH"
STEADY_S = 5.0
"""So long a server must have been UP: a verdict on the old process may still be on its way."""
LOOK_EVERY_S = 0.5
Result = Literal["STARTED", "DONE", "FAILED"]


@dataclass(frozen=True)
class Standing:
    """A server as it is seen now."""

    oca_id: str
    site_id: str
    region: str
    tier: str
    egress_bps: int
    state: str
    """UP, DEGRADED, DRAINING or DOWN; empty: nobody has said."""
    load: float = 0.0
    """Share of its egress in use."""
    epoch: int = -1
    """Of the process that reports; -1: none does."""
    software: str = ""

    @property
    def is_up(self) -> bool:
        """Whether it takes new sessions like any other, and tells of itself."""
        return self.state == "UP" and self.epoch >= 0


def obstacle(server: Standing, servers: Collection[Standing]) -> str:
    """Why a server may not be drained now, in words; empty if it may."""
    if not server.is_up:
        return f"{server.oca_id} is {_state(server)}, not UP: what is wrong with it would be taken for the update's doing"
    others = [other for other in servers if other.oca_id != server.oca_id]
    if away := [other for other in others if other.site_id == server.site_id and not other.is_up]:
        return f"{away[0].oca_id} of the same site {server.site_id} is {_state(away[0])}"
    carriers = [other for other in others if other.is_up and (other.region == server.region or other.tier != EMBEDDED)]
    if not carriers:
        return f"nobody else could serve the viewers of {server.oca_id} in {server.region}"
    sent_bps = server.load * server.egress_bps
    free_bps = sum(max(0.0, ROOM - other.load) * other.egress_bps for other in carriers)
    if sent_bps > free_bps:
        left = f"{sent_bps / 1e6:.0f} Mbit/s that the others of {server.region} and storage have no room for ({free_bps / 1e6:.0f})"
        return f"{server.oca_id} sends {left}"
    return ""


def following(left: Collection[str], servers: Collection[Standing]) -> tuple[str | None, Sequence[str]]:
    """Which of the servers that are left is to be updated now; None where none may be, and why each may not."""
    known = {server.oca_id: server for server in servers}
    obstacles = [f"{oca_id} is no longer installed" for oca_id in sorted(left) if oca_id not in known]
    wanted = [known[oca_id] for oca_id in left if oca_id in known]
    # Tier by tier: most is lost with the last.
    for server in sorted(wanted, key=lambda one: (TIERS.index(one.tier), one.load * one.egress_bps, one.oca_id)):
        if not (why := obstacle(server, servers)):
            return server.oca_id, ()
        obstacles.append(why)
    return None, obstacles


def _state(server: Standing) -> str:
    return (server.state or "of unknown health") if server.epoch >= 0 else "silent"


class Failed(Exception):
    """The update stops here; the message says at which server, what happened, and what to do."""


class Fleet(Protocol):
    """What an update needs of a fleet."""

    def servers(self) -> Mapping[str, Standing]:
        """Those that are installed, as they are now."""
        ...

    def drain(self, oca_id: str) -> None:
        """Have a server take nothing new, and end. Raises ConnectionError in words where it does not take the order."""
        ...

    def listens(self, oca_id: str) -> bool:
        """Whether there is still a process at its address."""
        ...


@dataclass
class Rollout:
    """An update of a fleet. `tell` gets a line for whoever watches, `step` each step of a server: from which version, result, detail."""

    fleet: Fleet
    wanted: str
    clock: Clock
    tell: Callable[[str], None]
    step: Callable[[str, str, Result, str], None]
    drain_s: float = 300.0
    back_s: float = 120.0
    room_s: float = 300.0
    """Most that is waited: for what is in flight, for a server to come back, for room to drain the next one."""
    done: list[str] = field(default_factory=list)

    def run(self, left: Collection[str]) -> None:
        """Update the servers that are `left`, one after the other. Blocks; raises Failed."""
        waiting = set(left)
        while waiting:
            oca_id = self._next(waiting)
            before = self.fleet.servers()[oca_id]
            self.step(oca_id, before.software, "STARTED", "")
            try:
                self._update(before)
            except Failed as failure:
                self.step(oca_id, before.software, "FAILED", str(failure))
                rest = ", ".join(sorted(waiting - {oca_id})) or "no other"
                raise Failed(
                    f"{oca_id}: {failure}. Nothing was done to {rest}. `headrace logs {oca_id}` says what it says; "
                    "go on with `headrace fleet update` when it is UP"
                ) from None
            self.step(oca_id, before.software, "DONE", "")
            self.done.append(oca_id)
            waiting.remove(oca_id)

    def _next(self, left: Collection[str]) -> str:
        told: Sequence[str] = ()
        until_ms = self.clock.now_ms() + round(self.room_s * 1000)
        while True:
            oca_id, obstacles = following(left, self.fleet.servers().values())
            if oca_id is not None:
                return oca_id
            if self.clock.now_ms() > until_ms:
                raise Failed(f"after {self.room_s:g} s no server may be drained: {'; '.join(obstacles)}. Nothing more was done")
            if obstacles != told:
                told = obstacles
                self.tell(f"waiting: {'; '.join(obstacles)}")
            self.clock.sleep(LOOK_EVERY_S)

    def _update(self, before: Standing) -> None:
        oca_id = before.oca_id
        try:
            self.fleet.drain(oca_id)
        except ConnectionError as error:
            raise Failed(f"it was not drained: {error}") from None
        self.tell(f"{oca_id}  drains")
        self._until(self.drain_s, lambda: self._is_gone(before), lambda: "it has not ended: something is still in flight")
        self.tell(f"{oca_id}  has ended")
        self._until(self.back_s, lambda: self._now(oca_id).epoch > before.epoch, lambda: "no new process has reported")
        now = self._now(oca_id)
        if now.software != self.wanted:
            raise Failed(f"it came back with {now.software}, not with {self.wanted}: install that where it is started from")
        self.tell(f"{oca_id}  is back with {now.software}")
        self._until_steady(now)
        self.tell(f"{oca_id}  is UP")

    def _is_gone(self, before: Standing) -> bool:
        return self._now(before.oca_id).epoch > before.epoch or not self.fleet.listens(before.oca_id)

    def _until_steady(self, back: Standing) -> None:
        since_ms: int | None = None

        def is_steady() -> bool:
            nonlocal since_ms
            now, now_ms = self._now(back.oca_id), self.clock.now_ms()
            if now.epoch > back.epoch:
                raise Failed("it came back and ended again")
            since_ms = (now_ms if since_ms is None else since_ms) if now.is_up else None
            return since_ms is not None and now_ms - since_ms >= STEADY_S * 1000

        self._until(self.back_s, is_steady, lambda: f"it is {_state(self._now(back.oca_id))}, not UP")

    def _now(self, oca_id: str) -> Standing:
        try:
            return self.fleet.servers()[oca_id]
        except KeyError:
            raise Failed("it is no longer installed") from None

    def _until(self, within_s: float, probe: Callable[[], bool], words: Callable[[], str]) -> None:
        until_ms = self.clock.now_ms() + round(within_s * 1000)
        while not probe():
            if self.clock.now_ms() > until_ms:
                raise Failed(f"after {within_s:g} s {words()}")
            self.clock.sleep(LOOK_EVERY_S)
