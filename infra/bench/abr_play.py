"""What the benchmarks of adaptation share: traces and video, algorithms played over all of them, and differences with their intervals."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from infra.bench.harness import Options, console
from producers.abr import clairvoyant, policy
from producers.abr.environment import Policy, Session, Trace, Video, decided, play, read_traces, read_video
from producers.abr.rewards import MBPS, Reward
from producers.abr.state import State

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "abr"
RESAMPLES = 10_000


@dataclass(frozen=True)
class Played:
    """An algorithm over all traces. `decision_ms` is the median time of a decision; None where decisions were not made but replayed."""

    name: str
    sessions: list[Session]
    decision_ms: float | None = None

    @property
    def rewards(self) -> list[float]:
        """Of each trace, the mean per scored chunk."""
        return [session.reward for session in self.sessions]

    @property
    def reward(self) -> float:
        """The published figure: the mean over the traces."""
        return float(np.mean(self.rewards))

    @property
    def rebuffer_s(self) -> float:
        """Per video."""
        return float(np.mean([session.rebuffer_s for session in self.sessions]))


def inputs(options: Options) -> tuple[list[Trace], Video]:
    """The traces of `--traces`, or the HSDPA test set; and the video. Raises FileNotFoundError where they are not beside the checkout."""
    return read_traces(options.traces or FOLDER / "hsdpa_test"), read_video(FOLDER)


def ours(name: str, reward: Reward = MBPS) -> Policy:
    """Our own algorithm, "untrained" or "trained", for what a session is worth by `reward`."""
    return policy.load(name, reward).choose


def played(name: str, choose: Policy, traces: Iterable[Trace], video: Video, reward: Reward = MBPS) -> Played:
    """Play `choose` over all traces, with a clock on each decision."""
    took_s: list[float] = []

    def timed(state: State) -> int:
        began = time.perf_counter()
        level = choose(state)
        took_s.append(time.perf_counter() - began)
        return level

    sessions = [play(timed, trace, video, reward) for trace in traces]
    return Played(name, sessions, float(np.median(took_s)) * 1000)


def knowing(traces: Sequence[Trace], video: Video, reward: Reward = MBPS) -> Played:
    """The clairvoyant plan of each trace, played."""
    plans = clairvoyant.plans(traces, video, reward)
    return Played("clairvoyant", [play(decided(plan), trace, video, reward) for trace, plan in zip(traces, plans, strict=True)])


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, with its 95 % interval by the bootstrap over traces."""

    mean: float
    low: float
    high: float


def paired(first: Sequence[float], second: Sequence[float], seed: int) -> Difference:
    """How much more `first` is worth than `second`, trace by trace. Raises ValueError where they are not of the same traces."""
    differences = np.array(first) - np.array(second)
    drawn = np.random.default_rng(seed).integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return Difference(float(differences.mean()), float(low), float(high))


def show(title: str, rows: Iterable[Played], known: float) -> None:
    """One table, the best reward first, on standard error: rebuffering per video, switches per chunk, medians of decisions."""
    table = Table("algorithm", "reward", "stall s", "switch kbps", "kbps", "ms", "of plan", title=title)
    for row in sorted(rows, key=lambda row: -row.reward):
        switch_kbps = np.mean([session.switch_kbps for session in row.sessions])
        kbps = np.mean([session.kbps for session in row.sessions])
        decision = "replayed" if row.decision_ms is None else f"{row.decision_ms:.3f}"
        cells = (
            f"{row.reward:.4f}",
            f"{row.rebuffer_s:.2f}",
            f"{switch_kbps:.0f}",
            f"{kbps:.0f}",
            decision,
            f"{row.reward / known:.1%}",
        )
        table.add_row(row.name, *cells)
    console.print(table)
