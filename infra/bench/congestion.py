"""Chooser against bandits: sessions of one prefix, servers that routing finds equal, paths whose capacity drifts and is shared. Pure.

A step is ten seconds. Sessions come in a daily rhythm, stay for a while, and each gets the least of what its access gives and an equal
share of its server's egress and of the path to it. The paths' capacities drift (a random walk that returns, on a logarithmic scale) and
break in now and then; nobody is told. At the end of each step every rule hears the same: what the sessions of each server measured, with
noise, and the load that the server reports of its egress. A session is worth the share of the best bitrate that it gets. Regret is what
it falls short of an oracle's, which knows all capacities and sessions and sends each session where it will get most.

The bandits are UCB1 (Auer et al., 2002), D-UCB (Garivier and Moulines, 2011) and ε-greedy; sessions on their way count as pulls, and each
has the constants that turn out best on these very worlds. Ours is `edge.steering.rank` as it is.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from edge.steering.rank import Ask, Health, Server, State, plan, rank, salt
from edge.steering.routes import Path, PathClass, Paths
from edge.steering.throughput import Evidence, Throughput

SERVERS = 6
STEPS = 600
STAY_STEPS = 24
ARRIVALS = 30.0
SWING = 0.4
BEST_BPS = 8e6
ACCESS_BPS = 25e6
HEADROOM = 1.35
"""All paths together, on average, over what all sessions want at the peak."""
NOISE = 0.3
"""Standard deviation of the logarithm of one session's measurement."""
DRIFT, RETURN = 0.06, 0.02
BREAKS = 1 / 300
"""Chance that a path loses most of its capacity, a step and path; it is back after some minutes."""
BREAK_STEPS = 30
WIDTHS = (0.05, 0.3, math.sqrt(2))
FADE = 0.8
"""A step's weight in the evidence of the next, as a job over recent sessions would have it."""
WORLDS = 3
PREFIX = "198.51.100.0/24"


@dataclass(frozen=True)
class World:
    """What happens whatever is chosen: arrivals by step, and by step and server what the path can carry, bit/s. Egress by server."""

    arrivals: Sequence[int]
    paths_bps: Sequence[Sequence[float]]
    egress_bps: Sequence[float]


@dataclass(frozen=True)
class Heard:
    """What is heard of a server at the end of a step: its sessions, the mean of their ln(bit/s), what they were worth, its load."""

    sessions: int
    mean_log_bps: float
    mean_worth: float
    load: float


class Chooser(Protocol):
    """A rule that sends sessions to servers."""

    def choose(self, session: int) -> int:
        """The server of a session."""

    def hear(self, heard: Sequence[Heard]) -> None:
        """What a step has shown, by server."""


def world(seed: int) -> World:
    """A world; the same for the same seed."""
    chance = random.Random(f"congestion/{seed}")
    peak = ARRIVALS * (1 + SWING) * STAY_STEPS * BEST_BPS * HEADROOM
    sizes = [chance.uniform(0.5, 1.5) for _ in range(SERVERS)]
    usual = [math.log(peak * size / sum(sizes)) for size in sizes]
    now, broken = list(usual), [0] * SERVERS
    paths: list[list[float]] = []
    for _ in range(STEPS):
        for k in range(SERVERS):
            now[k] += RETURN * (usual[k] - now[k]) + chance.gauss(0, DRIFT)
            broken[k] = BREAK_STEPS if chance.random() < BREAKS else max(0, broken[k] - 1)
        paths.append([math.exp(now[k]) * (0.25 if broken[k] else 1.0) for k in range(SERVERS)])
    rates = [ARRIVALS * (1 + SWING * math.sin(2 * math.pi * step / STEPS)) for step in range(STEPS)]
    arrivals = [max(0, round(chance.gauss(rate, math.sqrt(rate)))) for rate in rates]
    return World(arrivals, paths, [math.exp(level) * 1.2 for level in usual])


@dataclass
class Outcome:
    """What a rule made of a world: the mean worth of a session's step, and how unevenly servers were loaded."""

    worth: float
    load_cv: float


def play(of: World, choose: Callable[[int, Sequence[int], int], int], hear: Callable[[Sequence[Heard]], None], seed: int) -> Outcome:
    """A world as a rule goes through it. `choose(session, active sessions by server, step)`."""
    chance = random.Random(f"noise/{seed}")
    active = [0] * SERVERS
    leaving: list[list[int]] = [[0] * SERVERS for _ in range(STEPS + 1)]
    worth, counted, session = 0.0, 0, 0
    cvs: list[float] = []
    for step, count in enumerate(of.arrivals):
        active = [now - gone for now, gone in zip(active, leaving[step], strict=True)]
        for _ in range(count):
            k = choose(session, active, step)
            active[k] += 1
            leaving[min(STEPS, step + STAY_STEPS)][k] += 1
            session += 1
        heard = []
        for k, sessions in enumerate(active):
            bps = share_bps(of, step, k, max(1, sessions))
            got = min(1.0, bps / BEST_BPS)
            worth += sessions * got
            counted += sessions
            measured = math.log(bps) + chance.gauss(0, NOISE) / math.sqrt(max(1, sessions))
            load = sessions * min(bps, BEST_BPS) / of.egress_bps[k]
            heard.append(Heard(sessions, measured, min(1.0, math.exp(measured) / BEST_BPS), load))
        hear(heard)
        used = [sessions * BEST_BPS / min(of.paths_bps[step][k], of.egress_bps[k]) for k, sessions in enumerate(active)]
        if step >= STAY_STEPS:
            cvs.append(statistics.pstdev(used) / statistics.mean(used))
    return Outcome(worth / counted, statistics.mean(cvs))


def share_bps(of: World, step: int, k: int, sessions: int) -> float:
    """What each of so many sessions of a server gets."""
    return min(ACCESS_BPS, of.egress_bps[k] / sessions, of.paths_bps[step][k] / sessions)


class Ours:
    """`edge.steering.rank`, with the health that is reported and the throughput of recent sessions."""

    def __init__(self, of: World) -> None:
        self._servers = [
            Server(f"oca-{k}", f"site-{k}", "here", "IX_STORAGE", None, "", round(egress_bps), 0.0, 0.0, k, salt(f"oca-{k}"))
            for k, egress_bps in enumerate(of.egress_bps)
        ]
        announced = Paths(tuple(Path(server.oca_id, PathClass.PRIVATE_PEERING, (64_501,), 0) for server in self._servers))
        self._plan = plan([announced], False, {server.oca_id: server for server in self._servers}, ())
        self._evidence: dict[tuple[str, str], Evidence] = {}
        self._state = State()

    def choose(self, session: int) -> int:
        """The first of the answer."""
        candidates, _, _ = rank(self._plan, [24], PREFIX, Ask(f"s-{session}"), self._state)
        return candidates[0].server.bit

    def hear(self, heard: Sequence[Heard]) -> None:
        """Fade what is known, add what is new."""
        for server, told in zip(self._servers, heard, strict=True):
            before = self._evidence.get((PREFIX, server.oca_id), Evidence(0.0, 0.0))
            old, sessions = before.sessions * FADE, before.sessions * FADE + told.sessions
            if sessions > 0:
                mean = (old * before.mean_log_bps + told.sessions * told.mean_log_bps) / sessions
                self._evidence[PREFIX, server.oca_id] = Evidence(sessions, mean)
        health = {server.oca_id: Health("UP", told.load, "") for server, told in zip(self._servers, heard, strict=True)}
        self._state = State(health, throughput=Throughput(self._evidence))


@dataclass
class Ucb:
    """D-UCB with discount `gamma` a step, and UCB1 where that is 1: the highest mean plus `width` · √(ln of all / its own)."""

    width: float
    gamma: float
    pulls: list[float] = field(default_factory=lambda: [0.0] * SERVERS)
    worth: list[float] = field(default_factory=lambda: [0.0] * SERVERS)
    pending: list[int] = field(default_factory=lambda: [0] * SERVERS)

    def choose(self, session: int) -> int:
        """Each once, then the highest bound."""
        pulls = [known + pending for known, pending in zip(self.pulls, self.pending, strict=True)]
        untried = [k for k, count in enumerate(pulls) if count < 1]
        if untried:
            best = untried[0]
        else:
            total = math.log(max(math.e, sum(pulls)))
            best = max(range(SERVERS), key=lambda k: self.worth[k] / max(1e-9, self.pulls[k]) + self.width * math.sqrt(total / pulls[k]))
        self.pending[best] += 1
        return best

    def hear(self, heard: Sequence[Heard]) -> None:
        """Discount, then add."""
        self.pending = [0] * SERVERS
        for k, told in enumerate(heard):
            self.pulls[k] = self.pulls[k] * self.gamma + told.sessions
            self.worth[k] = self.worth[k] * self.gamma + told.sessions * told.mean_worth


@dataclass
class Greedy:
    """ε-greedy: the highest mean of all so far, faded by `gamma` a step, and with chance `epsilon` any."""

    epsilon: float
    gamma: float
    chance: random.Random
    pulls: list[float] = field(default_factory=lambda: [0.0] * SERVERS)
    worth: list[float] = field(default_factory=lambda: [0.0] * SERVERS)

    def choose(self, session: int) -> int:
        """Explore or exploit."""
        if self.chance.random() < self.epsilon:
            return self.chance.randrange(SERVERS)
        return max(range(SERVERS), key=lambda k: self.worth[k] / self.pulls[k] if self.pulls[k] else 1.0)

    def hear(self, heard: Sequence[Heard]) -> None:
        """Fade, then add."""
        for k, told in enumerate(heard):
            self.pulls[k] = self.pulls[k] * self.gamma + told.sessions
            self.worth[k] = self.worth[k] * self.gamma + told.sessions * told.mean_worth


def _ucb(width: float, gamma: float, seed: int) -> Chooser:
    return Ucb(width, gamma)


def _greedy(epsilon: float, gamma: float, seed: int) -> Chooser:
    return Greedy(epsilon, gamma, random.Random(f"greedy/{seed}"))


BANDITS: dict[str, list[Callable[[int], Chooser]]] = {
    "ucb1": [partial(_ucb, width, 1.0) for width in WIDTHS],
    "d_ucb": [partial(_ucb, width, gamma) for width in WIDTHS for gamma in (0.5, 0.8, 0.95)],
    "epsilon_greedy": [partial(_greedy, epsilon, gamma) for epsilon in (0.05, 0.1, 0.3, 0.6) for gamma in (0.5, 0.8, 1.0)],
}
"""Each bandit with its constants, made for the seed of a world."""


def regrets(seed: int) -> dict[str, float]:
    """Regret of each rule, the mean of `WORLDS` worlds, ours as a share of the best bandit's, and the loads' coefficients of variation."""
    worlds = {n: world(n) for n in range(seed * WORLDS, (seed + 1) * WORLDS)}
    best = statistics.mean(play(of, partial(oracle, of), lambda _: None, n).worth for n, of in worlds.items())

    def regret(make: Callable[[int, World], Chooser]) -> tuple[float, float]:
        outcomes = [outcome(make(n, of), of, n) for n, of in worlds.items()]
        return best - statistics.mean(o.worth for o in outcomes), statistics.mean(o.load_cv for o in outcomes)

    ours, load_cv = regret(lambda _, of: Ours(of))
    told = {"regret_ours": ours, "load_cv": load_cv}
    for name, settings in BANDITS.items():
        told[f"regret_{name}"], told[f"load_cv_{name}"] = min(regret(lambda n, _, make=make: make(n)) for make in settings)  # type: ignore[misc]
    return {**told, "of_best_bandit_regret": ours / min(told[f"regret_{name}"] for name in BANDITS)}


def outcome(rule: Chooser, of: World, seed: int) -> Outcome:
    """What a rule makes of a world."""
    return play(of, lambda session, _, __: rule.choose(session), rule.hear, seed)


def oracle(of: World, _: int, active: Sequence[int], step: int) -> int:
    """Where a session will get most now."""
    return max(range(SERVERS), key=lambda k: min(of.egress_bps[k], of.paths_bps[step][k]) / (active[k] + 1))
