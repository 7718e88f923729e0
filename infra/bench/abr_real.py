"""Does the environment rank algorithms as real sessions do?

Twenty training traces, ours, BOLA and RobustMPC on each: sixty sessions of the real player against a real HTTP server
(`infra.bench.abr_segments`, a process of its own), side by side and in real time, over links that follow the traces
(`producers.players.network`). The title is the environment's: 48 segments of 4 s, of the stated sizes. Nothing is shortened and time is not
scaled: buffers take minutes to fill, and what HTTP costs does not shrink with a segment. The player is told what the environment takes
for granted: its buffer of 60 s, its round trip, the first segment's level.

Each session's reward is also predicted: the same function on the same trace in the environment. What the environment leaves out shows in
the difference: manifest and init segments before the first byte, the link's time during round trips, what servers and clocks take. On a
busy machine that is more, and `late_ms` says by how much this process woke up late on average; bytes of a body that are read late have
been waiting for the link, which therefore goes on from where it was free.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle, pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
from rich.table import Table

from infra.bench.abr_play import FOLDER
from infra.bench.abr_segments import TITLE
from infra.bench.harness import Figure, Options, console, say, served
from producers.abr import bola, policy, robust_mpc
from producers.abr.environment import (
    BUFFER_MAX_S,
    FIRST_LEVEL,
    PAYLOAD,
    ROUND_TRIP_S,
    Floats,
    Policy,
    Trace,
    Video,
    play,
    read_traces,
    read_video,
)
from producers.abr.rewards import MBPS
from producers.players.adaptation import Situation, paced
from producers.players.clock import LoopClock
from producers.players.network import Link, Step
from producers.players.player import Device, Player, Ticket
from producers.players.reports import Outbox
from producers.players.transport import HttpTransport, Incoming, Transport

ALGORITHMS: Mapping[str, Policy] = MappingProxyType({"ours": policy.load().choose, "bola": bola.choose, "robust_mpc": robust_mpc.choose})
SESSIONS = 60
"""Of thirty, one whose outage meets another segment than in the environment may turn the order of two means."""
WITHIN_S = 1_200.0
TALLEST = 4_320
WATCH_S = 0.1
FIGURES = {
    "sessions": Figure("sessions", 30, 30),
    "ranking_agrees": Figure("", 1, 1),
    "rank_correlation": Figure(""),
    "mean_difference": Figure("reward"),
    "late_ms": Figure("ms", higher=False),
    **{f"{name}_{how}": Figure("reward") for name in ALGORITHMS for how in ("predicted", "measured")},
}


class Steady(Link):
    """A link that loses no time within a body: whoever reads it may be late, the server, which has it all, is not."""

    _begins = False

    def begin(self) -> None:
        """A body is about to come."""
        self._begins = True

    def pass_bytes(self, now_ms: float, size: int) -> float:
        """As any link; what is not the begin of a body was there as soon as the link was free."""
        begins, self._begins = self._begins, False
        return super().pass_bytes(now_ms if begins else 0.0, size)


class Shaped:
    """The network of one session: tells its link of each body."""

    def __init__(self, transport: Transport, link: Steady) -> None:
        self._transport, self._link = transport, link
        self.post = transport.post

    @asynccontextmanager
    async def get(self, url: str) -> AsyncIterator[Incoming]:
        """GET with the body in pieces."""
        async with self._transport.get(url) as incoming:
            self._link.begin()
            yield incoming


@dataclass(frozen=True)
class Real:
    """A session that was played: mean reward of its scored segments, and of what it is made."""

    algorithm: str
    trace: str
    levels: tuple[int, ...]
    rebuffer_s: float
    reward: float


def run(options: Options) -> list[dict[str, Any]]:
    """One mapping of figures. Raises FileNotFoundError where the vectors are not beside the checkout."""
    count = (options.sessions or SESSIONS) // len(ALGORITHMS)
    traces, video = spread(read_traces(options.traces or FOLDER / "hsdpa_train"), count), read_video(FOLDER)
    with served("infra.bench.abr_segments", "--video", str(FOLDER)) as (url, _):
        real, late_ms = asyncio.run(sessions(url, traces, video))
    return [figures_of(real, traces, video) | {"late_ms": late_ms}]


def spread(traces: list[Trace], count: int) -> list[Trace]:
    """So many of them, evenly from first to last. Raises ValueError where there are fewer."""
    if not 1 <= count <= len(traces):
        raise ValueError(f"{count} traces are wanted, there are {len(traces)}")
    return [traces[at * len(traces) // count] for at in range(count)]


async def sessions(url: str, traces: list[Trace], video: Video) -> tuple[list[Real], float]:
    """Each algorithm over each trace, all at once, in real time, and how late this process woke up, ms.

    Raises TimeoutError, and AssertionError where a session does not end well.
    """
    clock, transport = LoopClock(), HttpTransport(stall_s=30.0, connections=4 * len(traces) * len(ALGORITHMS))
    outbox = Outbox(transport, clock)
    late_ms: list[float] = []
    beside = [asyncio.create_task(outbox.run()), asyncio.create_task(_watch(late_ms))]
    done = 0

    async def one(name: str, trace: Trace) -> Real:
        nonlocal done
        session = await _session(name, trace, video, url, clock, transport, outbox)
        done += 1
        say(f"{done} of {len(traces) * len(ALGORITHMS)}: {name} over {trace.name}, {session.reward:.4f}, stalls {session.rebuffer_s:.1f} s")
        return session

    try:
        async with asyncio.timeout(WITHIN_S):
            real = await asyncio.gather(*(one(name, trace) for trace in traces for name in ALGORITHMS))
            return list(real), float(np.mean(late_ms))
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await outbox.drain()
        await transport.close()


async def _watch(late_ms: list[float]) -> None:
    """Sleep again and again, and note by how much each sleep was too long."""
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + WATCH_S
        await asyncio.sleep(WATCH_S)
        late_ms.append((loop.time() - due_s) * 1000)


async def _session(
    name: str, trace: Trace, video: Video, url: str, clock: LoopClock, transport: HttpTransport, outbox: Outbox
) -> Real:  # fmt: skip
    levels: list[int] = []

    def level(situation: Situation) -> int:
        levels.append(ALGORITHMS[name](situation.state) if levels else FIRST_LEVEL)
        return levels[-1]

    sid = f"{name}-{trace.name}"
    ticket = Ticket(sid[:64], sid[:64], "t", (f"{url}{TITLE}manifest.mpd",), f"{url}/reports")
    device = Device("bench", "headless", "nowhere", 64496, TALLEST)
    link = Steady(cycle(steps(trace)), clock.now_ms())
    buffer_max_ms = round(BUFFER_MAX_S * 1000)
    player = Player(
        ticket, device, Shaped(transport, link), link, ROUND_TRIP_S * 1000, outbox, clock, adapt=paced(level), buffer_max_ms=buffer_max_ms
    )  # fmt: skip
    outcome = await player.run()
    assert (outcome.state, len(levels)) == ("e", len(video.sizes)), f"{sid} did not play to its end: {outcome}"
    return Real(name, trace.name, tuple(levels), outcome.rebuffer_ms / 1000, reward(levels, outcome.rebuffer_ms / 1000, video))


def steps(trace: Trace) -> list[Step]:
    """The trace as a link of the players follows it: bodies pass it, so headers have been taken off."""
    lasts_s = [until_s - since_s for since_s, until_s in pairwise(trace.times_s)]
    return [(seconds * 1000, mbps * 1000 * PAYLOAD) for seconds, mbps in zip(lasts_s, trace.mbps[1:], strict=True)]


def reward(levels: list[int], rebuffer_s: float, video: Video) -> float:
    """What a session was worth, per scored segment. What starting took is none, as the environment does not score the first."""
    utilities = MBPS.utilities(video)
    worth = [utilities[number][level] for number, level in enumerate(levels)]
    return (sum(MBPS(after, before, 0.0) for before, after in pairwise(worth)) - MBPS.rebuffer * rebuffer_s) / (len(worth) - 1)


def figures_of(real: list[Real], traces: list[Trace], video: Video) -> dict[str, Any]:
    """The figures, and both rewards of each session; a table of them on standard error."""
    by_name = {trace.name: trace for trace in traces}
    predicted = [play(ALGORITHMS[session.algorithm], by_name[session.trace], video) for session in real]
    expected, found = np.array([session.reward for session in predicted]), np.array([session.reward for session in real])
    of = np.array([session.algorithm for session in real])
    means = {name: (float(expected[of == name].mean()), float(found[of == name].mean())) for name in ALGORITHMS}
    stalls = np.array([session.rebuffer_s for session in predicted]), np.array([session.rebuffer_s for session in real])
    table = Table("algorithm", "predicted", "measured", "stall s predicted", "measured", title=f"{len(real)} sessions")
    for name, (before, after) in means.items():
        cells = (f"{value:.2f}" for value in (stalls[0][of == name].mean(), stalls[1][of == name].mean()))
        table.add_row(name, f"{before:.4f}", f"{after:.4f}", *cells)
    console.print(table)
    agrees = sorted(means, key=lambda name: means[name][0]) == sorted(means, key=lambda name: means[name][1])
    return {
        "sessions": len(real),
        "ranking_agrees": float(agrees),
        "rank_correlation": rank_correlation(expected, found),
        "mean_difference": float(np.abs(expected - found).mean()),
        **{f"{name}_{how}": value for name, both in means.items() for how, value in zip(("predicted", "measured"), both, strict=True)},
        "rewards": [
            {"algorithm": one.algorithm, "trace": one.trace, "predicted": before, "measured": after, "rebuffer_s": one.rebuffer_s}
            for one, before, after in zip(real, expected.tolist(), found.tolist(), strict=True)
        ],
    }  # fmt: skip


def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's; equal values share the mean of their ranks."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Floats) -> Floats:
    ascending = np.sort(values)
    return np.asarray((np.searchsorted(ascending, values, "left") + np.searchsorted(ascending, values, "right")) / 2)
