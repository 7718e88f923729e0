"""What knowing the future is worth: for each trace a plan that has seen all of its bandwidth, and a bound that no plan can exceed.

`plans` goes chunk by chunk over what the rest of a session depends on: time, buffer, level, and reward so far. Every level is tried, and of
the states of one level whose buffers lie in the same small interval the one with the greatest reward is kept, as it is. What it finds can
be had, so it is a lower bound of the optimum, and near to it.

`bounds` leaves out what makes the problem hard. Chunks may be of any size between the levels, on the concave line above these; steps cost
nothing but for the difference between the first level and the last; there is no cap on the buffer; and rebuffering comes all at once,
before anything else, where it helps the most. What is left is to give the bytes that come through by each deadline to the chunks that
gain most by them, greedily, which is optimal as deadlines are nested. No plan can be worth more: an upper bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from producers.abr.environment import BUFFER_MAX_S, FIRST_LEVEL, ROUND_TRIP_S, Floats, Ints, Links, Trace, Video, fetch, scored
from producers.abr.rewards import MBPS, Reward

INTERVAL_S = 0.1


def plans(
    traces: Sequence[Trace], video: Video, reward: Reward = MBPS, interval_s: float = INTERVAL_S, first_level: int = FIRST_LEVEL,
    buffer_max_s: float = BUFFER_MAX_S,
) -> list[tuple[int, ...]]:  # fmt: skip
    """The levels of all chunks, for each trace: intervals are of buffer, for each level. Seconds for a hundred traces."""
    links = Links(traces)
    which, size = np.arange(len(traces)), np.full(len(traces), float(video.sizes[0][first_level]))
    _, _, clock_s, buffer_s = fetch(links, which, links.first_s, np.zeros(len(traces)), size, video.chunk_s, buffer_max_s)
    begun = Begun(1, which, clock_s, buffer_s, np.full(len(traces), first_level), np.zeros(len(traces)))
    return [(first_level, *path) for path in search(links, video, reward, begun, interval_s, buffer_max_s)[0]]


class Begun(NamedTuple):
    """Sessions that have begun, one or several of each trace: the chunk that is next, and of each which trace it is on, where that one's
    clock stands, the buffer, the level of the chunk before, and what it has been worth so far.
    """

    chunk: int
    which: Ints
    clock_s: Floats
    buffer_s: Floats
    level: Ints
    worth: Floats


def search(
    links: Links, video: Video, reward: Reward, begun: Begun, interval_s: float = INTERVAL_S, buffer_max_s: float = BUFFER_MAX_S
) -> tuple[list[tuple[int, ...]], Floats]:
    """How it is best to go on to the end: for each trace the levels, from the best of its sessions on, and (traces,) the worth then."""
    chunk, which, clock_s, buffer_s, level, worth = begun
    sizes, utilities = np.array(video.sizes), np.array(reward.utilities(video))
    levels, lasts_s, places = sizes.shape[1], video.chunk_s, int(buffer_max_s / interval_s) + 1
    steps: list[tuple[Ints, Ints]] = []
    for ahead in range(chunk, len(sizes)):
        parent, chosen = np.repeat(np.arange(len(which)), levels), np.tile(np.arange(levels), len(which))
        of = which[parent]
        _, rebuffer_s, then_s, filled_s = fetch(links, of, clock_s[parent], buffer_s[parent], sizes[ahead, chosen], lasts_s, buffer_max_s)
        gained = worth[parent] + scored(reward, utilities[ahead, chosen], utilities[ahead - 1, level[parent]], rebuffer_s)
        place = (of * levels + chosen) * places + (filled_s / interval_s).astype(np.int64)
        kept = _first(np.lexsort((-gained, place)), place)
        which, clock_s, buffer_s, level, worth = of[kept], then_s[kept], filled_s[kept], chosen[kept], gained[kept]
        steps.append((parent[kept], level))
    found, worths = list[tuple[int, ...]](), list[float]()
    for trace in range(len(links.begin)):
        mine = np.flatnonzero(which == trace)
        at, path = int(mine[np.argmax(worth[mine])]), list[int]()
        worths.append(float(worth[at]))
        for parents, chosen in reversed(steps):
            path.append(int(chosen[at]))
            at = int(parents[at])
        found.append(tuple(reversed(path)))
    return found, np.array(worths)


def bounds(traces: Sequence[Trace], video: Video, reward: Reward = MBPS, interval_s: float = INTERVAL_S) -> Floats:
    """(traces,) mean rewards of the scored chunks that no policy exceeds. Intervals are of rebuffering."""
    links, sizes, utilities = Links(traces), np.array(video.sizes), np.array(reward.utilities(video))
    which, scored_chunks = np.arange(len(traces)), len(sizes) - 1
    _, clock_s = links.download(which, links.first_s, np.full(len(traces), sizes[0, FIRST_LEVEL]))
    weights = np.full(scored_chunks, reward.weight)
    weights[-1] -= reward.up  # steps up are steps down and what is left between first and last: at best there are no steps down
    at_most = [_hull(size, weight * utility) for size, utility, weight in zip(sizes[1:], utilities[1:], weights, strict=True)]
    least, base = np.array([hull[0] for hull in at_most]).T
    steps = sorted(
        ((worth - before) / (size - less), size - less, chunk)
        for chunk, hull in enumerate(at_most)
        for (less, before), (size, worth) in pairwise(hull)
    )
    fixed = base.sum() + reward.constant * scored_chunks + reward.up * utilities[0, FIRST_LEVEL]
    ceiling = fixed + sum(slope * step for slope, step, _ in steps)
    deadlines_s = (video.chunk_s - ROUND_TRIP_S) * np.arange(1, scored_chunks + 1)
    best, stalled_s = np.full(len(traces), -np.inf), 0.0
    while (ceiling - reward.rebuffer * stalled_s > best).any():
        stalled_s += interval_s
        room = links.capacity(which[:, None], clock_s[:, None], deadlines_s + stalled_s) - np.cumsum(least)
        worth = np.where((room >= 0).all(axis=1), fixed, -np.inf)
        for slope, step, chunk in reversed(steps):
            taken = np.clip(room[:, chunk:].min(axis=1), 0.0, step)
            room[:, chunk:] -= taken[:, None]
            worth += slope * taken
        best = np.maximum(best, worth - reward.rebuffer * (stalled_s - interval_s))
    return best / scored_chunks


def _hull(sizes: Floats, worth: Floats) -> list[tuple[float, float]]:
    """The corners of the least concave line above the levels of one chunk, from the smallest size to the greatest worth."""
    hull: list[tuple[float, float]] = []
    for size, value in sorted(zip(sizes.tolist(), worth.tolist(), strict=True)):
        if hull and value <= hull[-1][1]:
            continue
        while len(hull) > 1 and (value - hull[-1][1]) * (hull[-1][0] - hull[-2][0]) >= (hull[-1][1] - hull[-2][1]) * (size - hull[-1][0]):
            hull.pop()
        hull.append((size, value))
    return hull


def _first(order: Ints, place: Ints) -> Ints:
    return np.asarray(order[np.flatnonzero(np.diff(place[order], prepend=-1))])
