"""Sessions of the real player over a network that changes, in virtual time, and their reports as the warehouse has them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from producers.abr.bola_finite import Choice
from producers.abr.prior import Prior
from producers.players.adaptation import ALGORITHMS, Situation
from producers.players.clock import LoopClock, run_virtual
from producers.players.network import Link, Step
from producers.players.player import Action, Device, Player, Ticket
from producers.players.reports import Outbox
from schemas.cmcd import Report
from tests.producers.fake_edge import FakeEdge

EPOCH_MS = 1_700_000_000_000
STEPS: tuple[Step, ...] = ((6_000.0, 4_000.0), (9_000.0, 900.0), (5_000.0, 2_200.0), (7_000.0, 450.0))
COLUMNS = ("cid", "abr", "sta", "ot", "br_kbps", "tb_kbps", "bl_ms", "d_ms", "rc", "bytes", "ttlb_ms")


def session(
    sid: str = "sid-1", segments: int = 24, steps: Sequence[Step] = STEPS, prior: Prior | None = None, abr: str = "policy",
    actions: Sequence[Action] = (), epoch_ms: int = EPOCH_MS,
) -> tuple[list[Report], list[Situation]]:  # fmt: skip
    """The session's reports, and what its algorithm was asked before each segment."""
    asked: list[Situation] = []

    def adapt(situation: Situation) -> Choice:
        choice = ALGORITHMS[abr](situation)
        if not choice.pause_ms:
            asked.append(situation)
        return choice

    async def play() -> list[Report]:
        edge, clock = FakeEdge(segments=segments, sums=True), LoopClock(epoch_ms)
        outbox = Outbox(edge, clock)
        ticket = Ticket(sid, f"c-{sid}", "t", edge.urls, "http://collector/cmcd", prior)
        device = Device("member-1", "tv", "eu-west", 64497, max_height=720, abr=abr)
        await Player(ticket, device, edge, Link(cycle(steps), epoch_ms), 20, outbox, clock, actions, adapt=adapt).run()
        await outbox.drain()
        return edge.reports

    return run_virtual(play()), asked


def rows(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """As `headrace abr explain` reads them."""
    found = [
        {"sid": r.fields["sid"], "event_time": r.event_time_ms, "target": r.fields["target"], "marker": False, "e": r.fields["e"]}
        | {name: r.fields.get(name) for name in COLUMNS}
        | {"custom": r.fields.get("custom", {})}
        for r in reports
    ]
    return sorted(found, key=lambda row: row["event_time"])
