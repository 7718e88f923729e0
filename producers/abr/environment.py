"""The environment that algorithms are judged in: chunks of a video downloaded one after the other over recorded bandwidth.

After H. Mao, R. Netravali, M. Alizadeh, "Neural Adaptive Video Streaming with Pensieve", ACM SIGCOMM 2017, whose simulator the published
figures come from. A trace is walked sample by sample and begins anew at its end; of its bandwidth 95 % is payload; each download takes a
round trip of 80 ms besides; a player whose buffer is above 60 s sleeps in steps of 500 ms. The first chunk is of level 1 and not scored.

`play` is the definition, one trace and one chunk at a time. `Environment` does the same for many traces at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, inf
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from producers.abr.rewards import MBPS, Reward, switching
from producers.abr.state import State

PAYLOAD = 0.95
ROUND_TRIP_S = 0.08
BUFFER_MAX_S = 60.0
SLEEP_STEP_S = 0.5
FIRST_LEVEL = 1
LADDER_KBPS = (300.0, 750.0, 1200.0, 1850.0, 2850.0, 4300.0)
CHUNKS, CHUNK_S = 48, 4.0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Policy = Callable[[State], int]


class BadTrace(ValueError):
    """A trace that no chunk can be downloaded over; the message says where and why."""


@dataclass(frozen=True)
class Trace:
    """Recorded bandwidth: `mbps[i]` holds from `times_s[i - 1]` until `times_s[i]`; the first is never used. Raises BadTrace."""

    name: str
    times_s: tuple[float, ...]
    mbps: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.times_s) != len(self.mbps) or len(self.times_s) < 2:
            raise BadTrace(f"{self.name}: {len(self.times_s)} times and {len(self.mbps)} bandwidths; at least two of each are needed")
        if not np.isfinite([self.times_s, self.mbps]).all() or min(self.mbps) < 0:
            raise BadTrace(f"{self.name}: a time or a bandwidth is not a number, or is below 0")
        if self.times_s[0] < 0 or any(a > b for a, b in pairwise(self.times_s)):
            raise BadTrace(f"{self.name}: times do not ascend from 0")
        if not any(mbps > 0 and a < b for mbps, (a, b) in zip(self.mbps[1:], pairwise(self.times_s), strict=True)):
            raise BadTrace(f"{self.name}: nothing ever comes through")


def read_trace(path: Path) -> Trace:
    """A trace from a file of `time_s Mbps` lines. Raises BadTrace."""
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    try:
        times_s, mbps = zip(*((float(time_s), float(rate)) for time_s, rate in rows), strict=True)
    except ValueError as error:
        raise BadTrace(f"{path.name}: not lines of `time_s Mbps`: {error}") from error
    return Trace(path.name, times_s, mbps)


def read_traces(folder: Path) -> list[Trace]:
    """Every trace of a folder, by name. Raises BadTrace, FileNotFoundError where there is none."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no trace")
    return [read_trace(path) for path in paths]


@dataclass(frozen=True)
class Video:
    """A title: `sizes` and `vmaf` are [chunk][level], in bytes and 0 to 100. Raises ValueError where they do not fit the ladder."""

    sizes: tuple[tuple[float, ...], ...]
    bitrates_kbps: tuple[float, ...] = LADDER_KBPS
    chunk_s: float = CHUNK_S
    vmaf: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        levels = len(self.bitrates_kbps)
        for what, rows in (("sizes", self.sizes), ("VMAF", self.vmaf)):
            if any(len(row) != levels for row in rows):
                raise ValueError(f"{what} of another ladder than the video's, of {levels} levels")
        if not self.sizes or not np.isfinite(self.sizes).all() or np.min(self.sizes) <= 0:
            raise ValueError("a video's sizes are positive numbers of bytes")
        if self.vmaf and len(self.vmaf) != len(self.sizes):
            raise ValueError(f"VMAF of {len(self.vmaf)} chunks, sizes of {len(self.sizes)}")


def read_video(folder: Path, bitrates_kbps: Sequence[float] = LADDER_KBPS, chunks: int = CHUNKS) -> Video:
    """The first `chunks` of the video in `folder`: `video_sizes/video_size_<level>` and, if any, `vmaf/video<n>`, 1 the best."""
    levels = len(bitrates_kbps)
    sizes = [_column(folder / "video_sizes" / f"video_size_{level}") for level in range(levels)]
    vmaf = [_column(folder / "vmaf" / f"video{levels - level}") for level in range(levels)] if (folder / "vmaf").exists() else []
    return Video(tuple(zip(*sizes, strict=True))[:chunks], tuple(bitrates_kbps), CHUNK_S, tuple(zip(*vmaf, strict=True))[:chunks])


def _column(path: Path) -> list[float]:
    return [float(line.split()[0]) for line in path.read_text().splitlines() if line.strip()]


@dataclass
class Link:
    """One trace and where its clock stands: what passes over it, one thing at a time."""

    trace: Trace
    at: int = 1
    clock_s: float = field(init=False)
    payload: float = PAYLOAD
    """The share of bandwidth that is not headers."""

    def __post_init__(self) -> None:
        self.clock_s = self.trace.times_s[0]

    def download(self, size: float) -> float:
        """Seconds until so many bytes have come, without the round trip."""
        return self.download_within(size, inf)[0]

    def download_within(self, size: float, within_s: float) -> tuple[float, float]:
        """Seconds and bytes until so many bytes have come, or so much time has passed."""
        delay_s, left = 0.0, size
        while True:
            rate, lasts_s = self.trace.mbps[self.at] * 1e6 / 8 * self.payload, self._lasts_s()
            until_s = left / rate if rate * lasts_s > left else lasts_s
            if delay_s + until_s >= within_s:
                until_s = within_s - delay_s
                self.clock_s += until_s
                return within_s, size - left + rate * until_s
            if until_s < lasts_s:
                self.clock_s += until_s
                return delay_s + until_s, size
            left -= rate * lasts_s
            delay_s += lasts_s
            self._next()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        while (lasts_s := self._lasts_s()) <= seconds:
            seconds -= lasts_s
            self._next()
        self.clock_s += seconds

    def _lasts_s(self) -> float:
        return self.trace.times_s[self.at] - self.clock_s

    def _next(self) -> None:
        self.clock_s = self.trace.times_s[self.at]
        self.at += 1
        if self.at == len(self.trace.times_s):
            self.at, self.clock_s = 1, 0.0


@dataclass(frozen=True)
class Session:
    """One trace played to its end. Rewards, rebuffering and utilities are of the scored chunks, all but the first; levels of all."""

    name: str
    levels: tuple[int, ...]
    rewards: tuple[float, ...]
    rebuffers_s: tuple[float, ...]
    bitrates_kbps: tuple[float, ...]
    """Of all chunks, as what follows."""
    throughputs_kbps: tuple[float, ...]
    delays_s: tuple[float, ...]

    @property
    def reward(self) -> float:
        """Mean per scored chunk."""
        return sum(self.rewards) / len(self.rewards)

    @property
    def rebuffer_s(self) -> float:
        """In all, of the scored chunks."""
        return sum(self.rebuffers_s)

    @property
    def kbps(self) -> float:
        """Mean bitrate of the scored chunks."""
        return sum(self.bitrates_kbps[1:]) / (len(self.bitrates_kbps) - 1)

    @property
    def switch_kbps(self) -> float:
        """Mean change of bitrate per scored chunk."""
        return sum(abs(b - a) for a, b in pairwise(self.bitrates_kbps)) / (len(self.bitrates_kbps) - 1)


def play(
    policy: Policy, trace: Trace, video: Video, reward: Reward = MBPS, first_level: int = FIRST_LEVEL, buffer_max_s: float = BUFFER_MAX_S
) -> Session:
    """One session over one trace; `policy` is asked before every chunk but the first. Raises ValueError for a level off the ladder."""
    link, utilities = Link(trace), reward.utilities(video)
    shown = () if reward is MBPS else utilities
    buffer_s, previous = 0.0, first_level
    levels: list[int] = []
    rewards: list[float] = []
    rebuffers_s: list[float] = []
    throughputs: list[float] = []
    delays_s: list[float] = []
    for chunk, sizes in enumerate(video.sizes):
        level = first_level
        if chunk:
            level = policy(
                State(
                    buffer_s=buffer_s, buffer_max_s=buffer_max_s, segment_s=video.chunk_s, bitrates_kbps=video.bitrates_kbps,
                    sizes=video.sizes[chunk:], left=len(video.sizes) - chunk, previous=previous, throughputs_kbps=tuple(throughputs),
                    delays_s=tuple(delays_s), utilities=shown[chunk:], previous_utility=utilities[chunk - 1][previous],
                )
            )  # fmt: skip
            if not 0 <= level < len(sizes):
                raise ValueError(f"{trace.name}, chunk {chunk}: level {level} of a ladder of {len(sizes)}")
        delay_s = link.download(sizes[level]) + ROUND_TRIP_S
        rebuffer_s = max(delay_s - buffer_s, 0.0)
        buffer_s = max(buffer_s - delay_s, 0.0) + video.chunk_s
        if buffer_s > buffer_max_s:
            sleep_s = ceil((buffer_s - buffer_max_s) / SLEEP_STEP_S) * SLEEP_STEP_S
            buffer_s -= sleep_s
            link.sleep(sleep_s)
        throughputs.append(sizes[level] * 8 / 1000 / delay_s)
        delays_s.append(delay_s)
        if chunk:
            rewards.append(reward(utilities[chunk][level], utilities[chunk - 1][previous], rebuffer_s))
            rebuffers_s.append(rebuffer_s)
        levels.append(level)
        previous = level
    bitrates = tuple(video.bitrates_kbps[level] for level in levels)
    return Session(trace.name, tuple(levels), tuple(rewards), tuple(rebuffers_s), bitrates, tuple(throughputs), tuple(delays_s))


def decided(levels: Sequence[int]) -> Policy:
    """A policy that has made up its mind: `levels` of all chunks of a video, the first included."""
    return lambda state: levels[len(levels) - state.left]


class Links:
    """Many traces at once. Where a clock stands is a number in [0, the trace's last time); it begins at the trace's first."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        counts = np.array([len(trace.times_s) for trace in traces])
        self.begin = np.concatenate([[0], np.cumsum(counts)[:-1]])  # of each trace among the samples of all
        self.first_s = np.array([trace.times_s[0] for trace in traces])
        times = [np.array([0.0, *trace.times_s[1:]]) for trace in traces]
        rates = [np.array(trace.mbps[1:]) * 1e6 / 8 * PAYLOAD for trace in traces]
        passed = [np.concatenate([[0.0], np.cumsum(rate * np.diff(time))]) for time, rate in zip(times, rates, strict=True)]
        self._times = np.concatenate(times)
        self._rates = np.concatenate([np.append(rate, rate[-1]) for rate in rates])
        self._passed = np.concatenate(passed)
        self.lasts_s = np.array([time[-1] for time in times])
        self.bytes = np.array([total[-1] for total in passed])
        # One sorted array for all traces, so that one search finds the sample of each.
        self._time_keys = np.concatenate([time / time[-1] + 2 * i for i, time in enumerate(times)])
        self._byte_keys = np.concatenate([total / total[-1] + 2 * i for i, total in enumerate(passed)])
        self._last = self.begin + counts - 2

    def download(self, which: Ints, clock_s: Floats, sizes: Floats) -> tuple[Floats, Floats]:
        """Seconds until `sizes` bytes have come over trace `which`, begun at `clock_s`, without the round trip; and the clock then."""
        rounds, target = np.divmod(self._before(which, clock_s) + sizes, self.bytes[which])
        at = self._sample(self._byte_keys, which, target / self.bytes[which])
        then = self._times[at] + (target - self._passed[at]) / self._rates[at]
        return rounds * self.lasts_s[which] + then - clock_s, then

    def capacity(self, which: Ints, clock_s: Floats, seconds: Floats) -> Floats:
        """Bytes that come through within so many seconds."""
        rounds, until_s = np.divmod(clock_s + seconds, self.lasts_s[which])
        return np.asarray(rounds * self.bytes[which] + self._before(which, until_s) - self._before(which, clock_s))

    def _before(self, which: Ints, clock_s: Floats) -> Floats:
        at = self._sample(self._time_keys, which, clock_s / self.lasts_s[which])
        return np.asarray(self._passed[at] + (clock_s - self._times[at]) * self._rates[at])

    def sleep(self, which: Ints, clock_s: Floats, seconds: Floats) -> Floats:
        """The clock after so many seconds."""
        return np.asarray(np.mod(clock_s + seconds, self.lasts_s[which]))

    def _sample(self, keys: Floats, which: Ints, share: Floats) -> Ints:
        found = np.searchsorted(keys, share + 2 * which, side="right") - 1
        return np.asarray(np.clip(found, self.begin[which], self._last[which]))


def fetch(
    links: Links, which: Ints, clock_s: Floats, buffer_s: Floats, sizes: Floats, chunk_s: float, buffer_max_s: float = BUFFER_MAX_S
) -> tuple[Floats, Floats, Floats, Floats]:
    """One chunk of each of many sessions: delays, rebuffering, and clocks and buffers afterwards, in seconds; all of one shape."""
    took_s, clock_s = links.download(which, clock_s, sizes)
    delay_s = took_s + ROUND_TRIP_S
    rebuffer_s = np.maximum(delay_s - buffer_s, 0.0)
    buffer_s = np.maximum(buffer_s - delay_s, 0.0) + chunk_s
    sleep_s = np.ceil(np.maximum(buffer_s - buffer_max_s, 0.0) / SLEEP_STEP_S) * SLEEP_STEP_S
    return delay_s, rebuffer_s, links.sleep(which, clock_s, sleep_s), buffer_s - sleep_s


@dataclass(frozen=True)
class Step:
    """What a chunk of every trace came to; arrays of one value a trace."""

    rewards: Floats
    rebuffers_s: Floats
    delays_s: Floats
    throughputs_kbps: Floats


class Environment:
    """Sessions over many traces, one chunk of each at a step. The rewards of the first step are not scored by the published figures."""

    def __init__(self, traces: Iterable[Trace], video: Video, reward: Reward = MBPS) -> None:
        self.links, self.video, self.reward = Links(list(traces)), video, reward
        self.sizes, self.utilities = np.array(video.sizes), np.array(reward.utilities(video))
        self.which = np.arange(len(self.links.begin))
        self.clock_s, self.buffer_s = self.links.first_s.copy(), np.zeros(len(self.which))
        self.previous = np.full(len(self.which), FIRST_LEVEL)
        self.chunk = 0

    @property
    def left(self) -> int:
        """Chunks that are left."""
        return len(self.sizes) - self.chunk

    def step(self, levels: ArrayLike) -> Step:
        """Download the next chunk of every session at its level. Raises IndexError after the last chunk or off the ladder."""
        chosen = np.asarray(levels, np.int64)
        if chosen.min() < 0:
            raise IndexError("a level is below 0")
        sizes = self.sizes[self.chunk][chosen]
        delay_s, rebuffer_s, self.clock_s, self.buffer_s = fetch(
            self.links, self.which, self.clock_s, self.buffer_s, sizes, self.video.chunk_s
        )
        utility, before = self.utilities[self.chunk][chosen], self.utilities[max(self.chunk - 1, 0)][self.previous]
        self.previous, self.chunk = chosen, self.chunk + 1
        return Step(scored(self.reward, utility, before, rebuffer_s), rebuffer_s, delay_s, sizes * 8 / 1000 / delay_s)


def scored(reward: Reward, utility: Floats, before: Floats, rebuffer_s: Floats) -> Floats:
    """`reward` of arrays that broadcast."""
    cost = switching(reward.up, reward.down, utility - before)
    return np.asarray(reward.weight * utility - reward.rebuffer * rebuffer_s - cost + reward.constant)
