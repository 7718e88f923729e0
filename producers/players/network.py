"""Networks: how fast bytes arrive. Pure: a bandwidth over time, recorded or drawn from a seed, and a link that bytes pass.

Times are milliseconds, bandwidths kbit/s — which is bits per millisecond, so nothing has to be converted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Step = tuple[float, float]
"""(how long, in ms; how fast, in kbit/s)"""


class BadTrace(ValueError):
    """A trace file that is no trace; the message names the line."""


def recorded(path: Path) -> list[Step]:
    """The bandwidth recorded in `path`, to be repeated by `cycle`. Lines are `time_s Mbps`: since the line before it was that fast.

    Raises BadTrace.
    """
    steps: list[Step] = []
    last_s: float | None = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            time_s, mbps = (float(word) for word in line.split())
        except ValueError:
            raise BadTrace(f"{path}:{number}: expected `time_s Mbps`, found {line!r}") from None
        if last_s is not None:
            if time_s <= last_s or mbps < 0:
                raise BadTrace(f"{path}:{number}: time must ascend and bandwidth must not be negative")
            steps.append(((time_s - last_s) * 1000, mbps * 1000))
        last_s = time_s
    if not any(kbps for _, kbps in steps):
        raise BadTrace(f"{path}: no bandwidth in it")
    return steps


@dataclass(frozen=True)
class Markov:
    """A network that dwells in states: every `dwell_ms` it stays with probability `stay`, else it goes to a neighbouring state.

    Within a state the bandwidth varies by ±`jitter` of it. `rtt_ms` is the time from a request to its first byte.
    """

    states_kbps: tuple[float, ...]
    stay: float
    rtt_ms: float
    jitter: float = 0.2
    dwell_ms: float = 1000.0

    def steps(self, rng: random.Random) -> Iterator[Step]:
        """The bandwidth over time, endless; the same for the same state of `rng`."""
        state = rng.randrange(len(self.states_kbps))
        while True:
            yield self.dwell_ms, self.states_kbps[state] * rng.uniform(1 - self.jitter, 1 + self.jitter)
            if rng.random() >= self.stay:
                ways = [i for i in (state - 1, state + 1) if 0 <= i < len(self.states_kbps)]
                state = rng.choice(ways)


class Link:
    """Bytes pass one after another; when they have passed depends on bandwidth alone, not on how they were cut into pieces."""

    def __init__(self, steps: Iterator[Step], start_ms: float = 0.0) -> None:
        self._steps = steps
        self._until_ms, self._kbps = start_ms, 0.0
        self._free_ms = start_ms

    def pass_bytes(self, now_ms: float, size: int) -> float:
        """When the last of `size` bytes has passed, if they are handed over at `now_ms` (never earlier than the call before)."""
        at = max(now_ms, self._free_ms)
        bits = size * 8.0
        while True:
            while self._until_ms <= at:
                length, self._kbps = next(self._steps)
                self._until_ms += length
            needed = bits / self._kbps if self._kbps else float("inf")
            if at + needed <= self._until_ms:
                self._free_ms = at + needed
                return self._free_ms
            bits -= (self._until_ms - at) * self._kbps
            at = self._until_ms
