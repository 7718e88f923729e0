"""BOLA-E: BOLA for players that start, seek, wait and abandon.

After K. Spiteri, R. Sitaraman, D. Sparacio, "From Theory to Practice: Improving Bitrate Adaptation in the DASH Reference Player", ACM MMSys
2018, sections 3 and 4. BOLA's buffer is lengthened by a placeholder: at the start so far that BOLA takes what throughput sustains, and by
all the time that a player waits for its own reasons; a step upwards goes one level beyond what throughput sustains at most; a level whose
segment would hardly arrive before the buffer is empty is not taken (the insufficient buffer rule).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from producers.abr.bola import parameters
from producers.abr.state import State

BUFFER_MIN_S, BUFFER_PER_LEVEL_S = 10.0, 2.0
HALF_LIVES_S = (3.0, 8.0)
SAFETY_FIRST, SAFETY = 0.9, 0.5
"""Of the insufficient buffer rule: the share of throughput that is counted on, falling from segment to segment."""


@dataclass(frozen=True)
class Choice:
    """What to do next: wait for `pause_s`, then fetch the next segment at `level`."""

    level: int
    pause_s: float = 0.0


@dataclass(frozen=True)
class Progress:
    """A download that is under way. `since_s` counts from the first byte, `waited_s` is what passed before it."""

    level: int
    size: float
    received: float
    since_s: float
    waited_s: float


def expected_kbps(state: State) -> float | None:
    """The smaller of two averages of throughput whose weights halve in `HALF_LIVES_S` of downloading; None while nothing was measured."""
    if not state.throughputs_kbps:
        return None
    return min(_average(state.throughputs_kbps, state.delays_s, half_life_s) for half_life_s in HALF_LIVES_S)


def _average(throughputs_kbps: Sequence[float], delays_s: Sequence[float], half_life_s: float) -> float:
    total = weight = 0.0
    for kbps, delay_s in zip(throughputs_kbps, delays_s, strict=True):
        kept = exp(-log(2) * delay_s / half_life_s)
        total, weight = kept * total + (1 - kept) * kbps, kept * weight + 1 - kept
    return total / weight


class BolaE:
    """One session's BOLA-E. The ladder and the length of segments stay as they are in its first state."""

    def __init__(self, round_trip_s: float = 0.08) -> None:
        self.round_trip_s = round_trip_s
        self.placeholder_s = 0.0
        self._started = False
        self._safety = SAFETY_FIRST
        self._decided = 0
        self._v, self._gp, self._utilities = 1.0, 0.0, list[float]()

    def choose(self, state: State) -> Choice:
        """What to do about the next segment."""
        self._v, self._gp, self._utilities = _parameters(state)
        sustained = self._sustained(state)
        if not self._started:
            if sustained is None:
                return Choice(max(state.previous, 0))
            self._started, self._safety = True, SAFETY_FIRST
            self.placeholder_s = max(0.0, self._taken_from_s(state, sustained) - state.buffer_s)
            return Choice(sustained)
        self._fit(state)
        level = self._best(state, state.buffer_s + self.placeholder_s)
        if sustained is not None and level > max(state.previous, sustained):
            level = max(state.previous, sustained) + 1
        pause_s = self._pause(state, level)
        safe = self._affordable(state, level)
        if safe < level:
            self.placeholder_s = min(self.placeholder_s, max(0.0, self._taken_from_s(state, safe) - state.buffer_s))
            return Choice(safe)
        return Choice(level, pause_s)

    def waited(self, seconds: float) -> None:
        """The player did not fetch for so long, though BOLA did not ask for it: its buffer was full."""
        self.placeholder_s += seconds

    def sought(self) -> None:
        """The player went elsewhere: the buffer says nothing any more."""
        self._started = False

    def abandon(self, state: State, progress: Progress) -> int | None:
        """The lower level at which to fetch the segment anew instead of waiting for the rest of it, by BOLA's scores; None: go on."""
        if progress.received <= 0 or progress.since_s <= 0:
            return None
        v, gp, utilities = self._v, self._gp, self._utilities  # of the choice that began the download
        level_s = max(0.0, state.buffer_s + self.placeholder_s - progress.waited_s)
        rest = progress.size - progress.received - progress.waited_s * progress.received / progress.since_s
        if rest <= 0:
            return None
        best, score = None, (v * (utilities[progress.level] + gp) - level_s) / rest
        for level in range(progress.level):
            size = state.sizes[0][level]
            other = (v * (utilities[level] + gp) - level_s) / size
            if size < rest and other > score:
                best, score = level, other
        if best is not None:
            wanted_s = self._taken_from_s(state, best) if best else BUFFER_MIN_S
            self.placeholder_s = min(self.placeholder_s, max(0.0, wanted_s - state.buffer_s))
        return best

    def _best(self, state: State, level_s: float) -> int:
        scores = [
            (self._v * (utility + self._gp) - level_s) / kbps for utility, kbps in zip(self._utilities, state.bitrates_kbps, strict=True)
        ]
        return max(range(len(scores)), key=lambda level: (scores[level], -level))

    def _sustained(self, state: State) -> int | None:
        kbps = expected_kbps(state)
        if kbps is None:
            return None
        lasts_s = [self.round_trip_s + state.segment_s * bitrate / kbps for bitrate in state.bitrates_kbps]
        return max(sum(seconds <= state.segment_s for seconds in lasts_s) - 1, 0)

    def _taken_from_s(self, state: State, level: int) -> float:
        """The buffer from which on BOLA prefers `level` to all lower ones."""
        kbps, utility = state.bitrates_kbps[level], self._utilities[level]
        return max(
            (
                self._v * (self._gp + (kbps * other - lower * utility) / (kbps - lower))
                for lower, other in zip(state.bitrates_kbps[:level], self._utilities, strict=False)
            ),
            default=0.0,
        )

    def _left_at_s(self, level: int) -> float:
        """The buffer at which BOLA would rather fetch nothing than `level`."""
        return self._v * (self._utilities[level] + self._gp)

    def _fit(self, state: State) -> None:
        """Keep the placeholder to what the last segment's level can mean, whoever chose it."""
        if len(state.delays_s) <= self._decided or state.previous < 0:
            return
        self._decided = len(state.delays_s)
        was_s = state.buffer_s + state.delays_s[-1]
        self.placeholder_s = min(self.placeholder_s, max(0.0, self._left_at_s(state.previous) - was_s))
        if state.buffer_s > state.segment_s:  # not while it rebuffers
            self.placeholder_s = max(self.placeholder_s, self._taken_from_s(state, state.previous) - was_s)

    def _pause(self, state: State, level: int) -> float:
        over_s = state.buffer_s + self.placeholder_s - self._left_at_s(level)
        if over_s <= 0 or level == len(state.bitrates_kbps) - 1:
            return 0.0
        covered_s = min(over_s, self.placeholder_s)
        self.placeholder_s -= covered_s
        return over_s - covered_s

    def _affordable(self, state: State, level: int) -> int:
        kbps = expected_kbps(state)
        if kbps is None:
            return level
        kilobits = self._safety * (state.buffer_s - self.round_trip_s) * kbps
        self._safety = max(self._safety * SAFETY_FIRST, SAFETY)
        return min(level, max(sum(bitrate * state.segment_s <= kilobits for bitrate in state.bitrates_kbps) - 1, 0))


def _parameters(state: State) -> tuple[float, float, list[float]]:
    """V, γp and the utilities: the buffer at which the highest level is left is `buffer_max_s`, or more where there are many levels."""
    buffer_s = max(BUFFER_MIN_S + BUFFER_PER_LEVEL_S * len(state.bitrates_kbps), state.buffer_max_s)
    return parameters(state.bitrates_kbps, BUFFER_MIN_S, buffer_s)
