"""States for two evaluators of one policy: recorded from plays over synthetic networks, and every fifth made odd. By seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from math import exp
from random import Random
from typing import Any

import numpy as np

from producers.abr.environment import LADDER_KBPS, Trace, Video, play
from producers.abr.network import Network, count
from producers.abr.policy import Explanation, Policy, Trained, document, load
from producers.abr.prior import Prior
from producers.abr.rewards import LOG, MBPS, VMAF
from producers.abr.state import BadState, State

KEPT = 16
"""More coming segments than that no evaluator looks at."""
LADDERS = (
    (LADDER_KBPS, 4.0), (LADDER_KBPS, 4.0), ((315.076, 650.256, 967.86, 1890.532), 2.0), ((250.0, 5000.0), 6.0),
    ((150.0, 300.0, 600.0, 900.0, 1500.0, 2500.0, 4000.0, 7000.0), 4.0),
)  # fmt: skip
NAN, INFINITE = float("nan"), float("inf")
ODD: tuple[dict[str, Any], ...] = (
    {"buffer_s": 75.0}, {"buffer_s": -INFINITE}, {"buffer_s": INFINITE}, {"buffer_max_s": 8.0}, {"buffer_max_s": 25.0, "buffer_s": 24.0},
    {"previous": -1}, {"buffer_s": NAN}, {"buffer_max_s": 0.0}, {"segment_s": INFINITE}, {"left": 0}, {"previous": 99}, {"sizes": ()},
    {"bitrates_kbps": ()}, {"throughputs_kbps": (1000.0,), "delays_s": ()}, {"previous_utility": NAN}, {"previous_utility": None},
)  # fmt: skip
"""What a state may be changed to, whatever else it says."""
SAMPLES = ((0.0, 1.0), (-5.0, 1.0), (NAN, 1.0), (INFINITE, 0.5), (1e300, 1.0), (1e-300, 1.0), (900.0, 0.0), (900.0, NAN), (900.0, 86_400.0),
           (1e-3, 600.0), (1e9, 1e-6))  # fmt: skip
"""Throughputs and delays that networks and clocks may give."""


@dataclass(frozen=True)
class Case:
    """A decision: by which of the policies, of what, and what Python's evaluator says; None where it refuses the state."""

    policy: int
    state: State
    prior: Prior | None
    penalty_s: float
    said: Explanation | None

    def told(self) -> dict[str, Any]:
        """What the other evaluator is told of it."""
        return {"policy": self.policy, "state": asdict(self.state), "prior": self.prior and asdict(self.prior), "penalty_s": self.penalty_s}


def policies(seed: int) -> list[Policy]:
    """The policy that comes with Headrace, its plan for other rewards, and it with a network of random weights for the first ladder."""
    random, ladder = np.random.default_rng(seed), LADDERS[0][0]
    widths = [count(len(ladder)), 24, 16, len(ladder)]
    weights = tuple(random.normal(0, 0.5, size) for size in pairwise(widths))
    network = Network(weights, tuple(random.normal(0, 0.1, width) for width in widths[1:]))
    shipped = load()
    made = replace(shipped, trained=Trained(network, ladder, LADDERS[0][1], 0.3, 2.0, 1.5, {}))
    return [made, shipped, load(reward=LOG), load(reward=VMAF)]


def documents(seed: int) -> list[dict[str, Any]]:
    """The same as the data of `policy.json`."""
    return [document(policy) for policy in policies(seed)]


def cases(wanted: int, seed: int) -> Iterator[Case]:
    """So many cases, of plays with a title, a network, a policy and perhaps a prior each."""
    random, made, left = Random(seed), policies(seed), wanted
    while left:
        number = random.randrange(len(made))
        found: list[Case] = []
        prior = (
            None
            if random.random() < 0.5
            else Prior(random.gauss(7.3, 1.0), random.uniform(0.05, 1.5), random.choice((0.0, 0.4, 3.0, 20.0)))
        )
        if random.random() < 0.02:
            prior = random.choice((Prior(1e300, 1e200, 1e100), Prior(-800.0, 0.0, 8.0), Prior(7.0, 1.0, 1e300)))

        def record(state: State, number: int = number, prior: Prior | None = prior, found: list[Case] = found) -> int:
            state = replace(state, sizes=state.sizes[:KEPT], utilities=state.utilities[:KEPT])
            seen = odd(state, random) if random.random() < 0.2 else state
            penalty_s = random.uniform(0.0, 5.0) if random.random() < 0.1 else 0.0
            try:
                said = made[number].explain(seen, prior, penalty_s)
            except BadState:
                said = None
            found.append(Case(number, seen, prior, penalty_s, said))
            return said.level if said else random.randrange(len(state.bitrates_kbps))

        reward = (MBPS, MBPS, LOG, VMAF)[number]
        play(record, trace(random), video(random, *random.choice(LADDERS[:1] if number == 0 else LADDERS)), reward)
        yield from found[:left]
        left -= min(len(found), left)


def trace(random: Random) -> Trace:
    """Bandwidth that wanders on a logarithmic scale, with outages."""
    times_s, mbps, level = [0.0], [1.0], random.gauss(0.3, 0.8)
    for _ in range(80):
        level += random.gauss(0.0, 0.3)
        times_s.append(times_s[-1] + random.uniform(0.5, 5.0))
        mbps.append(0.02 if random.random() < 0.03 else min(max(exp(level), 0.05), 50.0))
    return Trace("wandering", tuple(times_s), tuple(mbps))


def video(random: Random, ladder: tuple[float, ...], segment_s: float) -> Video:
    """A title of 4 to 32 segments whose sizes vary about its bitrates, with a VMAF of each."""
    rows = [random.lognormvariate(0.0, 0.3) for _ in range(random.randint(4, 32))]
    sizes = tuple(tuple(float(round(kbps * 125 * segment_s * row * random.uniform(0.9, 1.1))) for kbps in ladder) for row in rows)
    vmaf = tuple(tuple(sorted(random.uniform(20.0, 100.0) for _ in ladder)) for _ in rows)
    return Video(sizes, ladder, segment_s, vmaf)


def odd(state: State, random: Random) -> State:
    """The state with something about it that is rare, or wrong."""
    chance = random.random()
    if chance < 0.1:
        return replace(state, throughputs_kbps=(), delays_s=(), previous=random.choice((-1, state.previous)))
    if chance < 0.5:
        return replace(state, **random.choice(ODD))
    if chance < 0.7:
        at = random.randint(0, len(state.throughputs_kbps))
        kbps, delay_s = random.choice(SAMPLES)
        return replace(
            state,
            throughputs_kbps=(*state.throughputs_kbps[:at], kbps, *state.throughputs_kbps[at:]),
            delays_s=(*state.delays_s[:at], delay_s, *state.delays_s[at:]),
        )
    if chance < 0.8:
        ahead = random.randint(1, len(state.sizes))
        return replace(state, sizes=state.sizes[:ahead])
    if chance < 0.9:
        wrong = random.choice((NAN, 0.0, INFINITE))
        return replace(state, sizes=[*state.sizes[:-1], [*state.sizes[-1][:-1], wrong]])
    return replace(
        state,
        bitrates_kbps=state.bitrates_kbps[:1],
        sizes=[row[:1] for row in state.sizes],
        utilities=[row[:1] for row in state.utilities],
        previous=0,
    )
