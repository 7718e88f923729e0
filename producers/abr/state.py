"""What a decision may see, and what is done with a state that cannot be true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite, isnan

SHORTEST_DELAY_S, LONGEST_DELAY_S = 1e-6, 600.0
"""A download that took less or more was not measured: the clock jumped, or the device slept."""
SLOWEST_KBPS, FASTEST_KBPS = 1e-3, 1e9
"""Nor was a throughput beyond these, which is a clock's doing too; plans reckon with its exponentials, which would overflow."""
LOOK_AHEAD = 20
"""So many coming segments a player tells the sizes of: no plan is longer."""


class BadState(ValueError):
    """No decision can be made on this state; the message says what is wrong with it."""


@dataclass(frozen=True)
class State:
    """What a player knows when it chooses the level of the next segment. Levels count from 0, the lowest bitrate."""

    buffer_s: float
    """Media ahead of the playhead."""
    buffer_max_s: float
    """The player stops fetching while it holds more."""
    segment_s: float
    bitrates_kbps: tuple[float, ...]
    """The ladder, ascending."""
    sizes: Sequence[Sequence[float]]
    """[ahead][level] bytes of the coming segments; [0] is the next one. May be of fewer segments than are left."""
    left: int
    """Segments left, the next one included."""
    previous: int = -1
    """Level of the segment before; -1 before the first."""
    throughputs_kbps: tuple[float, ...] = ()
    """Of whole downloads, the request's round trip included; oldest first."""
    delays_s: tuple[float, ...] = ()
    """How long each of those downloads took."""
    utilities: Sequence[Sequence[float]] = ()
    """[ahead][level] what a segment is worth to who watches, in the reward's unit; empty: its bitrate in Mbps."""
    previous_utility: float | None = None
    """What the segment before was worth; None: its bitrate in Mbps."""

    def worth(self, ahead: int) -> Sequence[float]:
        """[level] what the segment `ahead` is worth: 0 is the next one."""
        return self.utilities[ahead] if self.utilities else [kbps / 1000 for kbps in self.bitrates_kbps]

    def worth_before(self) -> float | None:
        """What the segment before was worth; None before the first."""
        if self.previous < 0:
            return None
        return self.bitrates_kbps[self.previous] / 1000 if self.previous_utility is None else self.previous_utility


def checked(state: State) -> State:
    """The state as a decision can bear it: the door for states that come from outside.

    What a network or a clock does is tolerated: samples whose throughput is no number from `SLOWEST_KBPS` to `FASTEST_KBPS`, or whose
    download took less than `SHORTEST_DELAY_S` or more than `LONGEST_DELAY_S`, are left out; a buffer below 0 or beyond the cap is taken
    for 0 or the cap. A ladder of one level is a ladder. What only a wrong caller does raises BadState: a ladder that is empty, not positive
    or not ascending, sizes or utilities that are not finite, not positive (sizes) or of another ladder, a buffer that is not a number,
    nothing left to fetch.
    """
    levels = len(state.bitrates_kbps)
    if not levels:
        raise BadState("the ladder has no level")
    if not all(isfinite(kbps) and kbps > 0 for kbps in state.bitrates_kbps):
        raise BadState(f"a bitrate is not a positive number: {state.bitrates_kbps}")
    if any(low >= high for low, high in zip(state.bitrates_kbps, state.bitrates_kbps[1:], strict=False)):
        raise BadState(f"the ladder does not ascend: {state.bitrates_kbps}")
    if not (isfinite(state.segment_s) and state.segment_s > 0):
        raise BadState(f"a segment lasts {state.segment_s} s")
    if isnan(state.buffer_s) or not (isfinite(state.buffer_max_s) and state.buffer_max_s > 0):
        raise BadState(f"the buffer holds {state.buffer_s} s of {state.buffer_max_s} s")
    if state.left < 1:
        raise BadState(f"{state.left} segments are left: there is nothing to choose")
    if not -1 <= state.previous < levels:
        raise BadState(f"the level before was {state.previous}; the ladder has levels 0 to {levels - 1}")
    if not 1 <= len(state.sizes) <= state.left:
        raise BadState(f"sizes of {len(state.sizes)} segments, where {state.left} are left")
    for ahead, row in enumerate(state.sizes):
        if len(row) != levels:
            raise BadState(f"{len(row)} sizes of the segment {ahead} ahead, on a ladder of {levels}")
        if not all(isfinite(size) and size > 0 for size in row):
            raise BadState(f"a size of the segment {ahead} ahead is not a positive number: {tuple(row)}")
    if state.utilities and len(state.utilities) < len(state.sizes):
        raise BadState(f"utilities of {len(state.utilities)} segments, sizes of {len(state.sizes)}")
    for ahead, row in enumerate(state.utilities):
        if len(row) != levels or not all(isfinite(worth) for worth in row):
            raise BadState(f"utilities of the segment {ahead} ahead are not {levels} numbers: {tuple(row)}")
    if state.previous_utility is not None and not isfinite(state.previous_utility):
        raise BadState(f"the segment before was worth {state.previous_utility}")
    if len(state.throughputs_kbps) != len(state.delays_s):
        raise BadState(f"{len(state.throughputs_kbps)} throughputs, {len(state.delays_s)} delays")
    samples = [
        (kbps, delay_s)
        for kbps, delay_s in zip(state.throughputs_kbps, state.delays_s, strict=True)
        if SLOWEST_KBPS <= kbps <= FASTEST_KBPS and SHORTEST_DELAY_S <= delay_s <= LONGEST_DELAY_S
    ]
    return replace(
        state,
        buffer_s=min(max(state.buffer_s, 0.0), state.buffer_max_s),
        throughputs_kbps=tuple(kbps for kbps, _ in samples),
        delays_s=tuple(delay_s for _, delay_s in samples),
    )
