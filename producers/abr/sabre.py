"""A player that does what viewers and real players do: seeks, a buffer of any target, and downloads that are given up half-way.

After Sabre, the simulator of K. Spiteri, R. Sitaraman, D. Sparacio, "From Theory to Practice: Improving Bitrate Adaptation in the DASH
Reference Player", ACM MMSys 2018. Unlike `environment` it lets a chooser pause and abandon, counts what was played and not what was
fetched, and lets the round trip take time from the trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor, log
from typing import Protocol

from producers.abr.bola_e import Choice, Progress
from producers.abr.environment import Link, Policy, Trace, Video
from producers.abr.state import State

LOOK_EVERY_S = 0.05
"""How often a download under way is looked at."""

GAMMA_P = 5.0
"""γp: how much a second of rebuffering costs."""


class Chooser(Protocol):
    """What the player asks. `producers.abr.bola_e.BolaE` is one."""

    def choose(self, state: State) -> Choice:
        """What to do about the next segment."""

    def waited(self, seconds: float) -> None:
        """The buffer was full for so long."""

    def sought(self) -> None:
        """The viewer went elsewhere."""

    def abandon(self, state: State, progress: Progress) -> int | None:
        """The level at which to begin this download anew; None: go on."""


@dataclass(frozen=True)
class Plain:
    """A chooser from a policy: it never pauses and never abandons."""

    policy: Policy

    def choose(self, state: State) -> Choice:
        """The policy's level, at once."""
        return Choice(self.policy(state))

    def waited(self, seconds: float) -> None:
        """Of no concern to a policy."""

    def sought(self) -> None:
        """Of no concern to a policy."""

    def abandon(self, state: State, progress: Progress) -> int | None:
        """Never."""
        return None


@dataclass(frozen=True)
class Seek:
    """Once the segment with `at_s` is to be fetched, go to `to_s` of the title instead."""

    at_s: float
    to_s: float


@dataclass(frozen=True)
class Watched:
    """What came of a session. `played` are levels by chunk in the order of playing; a chunk that a seek cut short is in it."""

    played: tuple[int, ...]
    played_s: float
    startup_s: float
    rebuffer_s: float
    rebuffers: int
    abandoned: int
    wasted_bytes: float
    """Fetched and never played: abandoned, or in the buffer when the viewer went elsewhere."""
    score: float
    """Sabre's: logarithmic utility over the lowest level of what plays, less `GAMMA_P` while nothing does, averaged over the session."""


def watch(
    chooser: Chooser,
    trace: Trace,
    video: Video,
    buffer_target_s: float = 25.0,
    seeks: Sequence[Seek] = (),
    round_trip_s: float = 0.08,
    payload: float = 1.0,
) -> Watched:
    """One session from the first chunk to the last. Raises ValueError where the buffer holds no chunk or a seek leads off the title."""
    if buffer_target_s < video.chunk_s:
        raise ValueError(f"a buffer of {buffer_target_s} s holds no chunk of {video.chunk_s} s")
    for seek in seeks:
        if not 0 <= seek.to_s < len(video.sizes) * video.chunk_s:
            raise ValueError(f"a seek leads to {seek.to_s} s, the title has {len(video.sizes) * video.chunk_s} s")
    session = _Session(chooser, Link(trace, payload=payload), video, buffer_target_s, round_trip_s)
    todo, chunk = sorted(seeks, key=lambda seek: seek.at_s), 0
    while chunk < len(video.sizes):
        if todo and chunk * video.chunk_s >= todo[0].at_s:
            chunk = floor(todo.pop(0).to_s / video.chunk_s)
            session.seek()
        chunk += session.fetch(chunk)
    return session.end()


class _Session:
    def __init__(self, chooser: Chooser, link: Link, video: Video, buffer_target_s: float, round_trip_s: float) -> None:
        self._chooser, self._link, self._video, self._target_s, self._round_trip_s = chooser, link, video, buffer_target_s, round_trip_s
        self._buffer: list[list[float]] = []  # level, seconds left to play, bytes
        self._throughputs: list[float] = []
        self._delays_s: list[float] = []
        self._played: list[int] = []
        self._previous, self._forced = -1, -1
        self._played_s = self._startup_s = self._rebuffer_s = self._wasted = self._utility = 0.0
        self._rebuffers = self._abandoned = 0

    def fetch(self, chunk: int) -> int:
        """Fetch a chunk; 1 when it has come, 0 when it was abandoned."""
        if (full_s := self._level_s() + self._video.chunk_s - self._target_s) > 0:
            self._pass(full_s)
            self._link.sleep(full_s)
            self._chooser.waited(full_s)
        state = self._state(chunk)
        choice = Choice(self._forced) if self._forced >= 0 else self._chooser.choose(state)
        if not 0 <= choice.level < len(self._video.bitrates_kbps):
            raise ValueError(f"chunk {chunk}: level {choice.level} of a ladder of {len(self._video.bitrates_kbps)}")
        if choice.pause_s > 0:
            self._pass(choice.pause_s)
            self._link.sleep(choice.pause_s)
        size = self._video.sizes[chunk][choice.level]
        delay_s, received, lower = self._download(self._state(chunk), choice.level, size)
        self._pass(delay_s)
        if lower is not None:
            self._forced, self._abandoned, self._wasted = lower, self._abandoned + 1, self._wasted + received
            return 0
        self._forced, self._previous = -1, choice.level
        self._throughputs.append(size * 8 / 1000 / delay_s)
        self._delays_s.append(delay_s)
        self._buffer.append([choice.level, self._video.chunk_s, size])
        if not self._startup_s:
            self._startup_s = delay_s
        return 1

    def seek(self) -> None:
        """Forget the buffer."""
        self._wasted += sum(size * left_s / self._video.chunk_s for _, left_s, size in self._buffer)
        self._buffer.clear()
        self._forced = -1
        self._chooser.sought()

    def end(self) -> Watched:
        """Play what is left."""
        self._pass(self._level_s())
        whole_s = self._startup_s + self._played_s + self._rebuffer_s
        return Watched(
            tuple(self._played), self._played_s, self._startup_s, self._rebuffer_s, self._rebuffers, self._abandoned, self._wasted,
            (self._utility - GAMMA_P * self._rebuffer_s) / whole_s,
        )  # fmt: skip

    def _download(self, state: State, level: int, size: float) -> tuple[float, float, int | None]:
        """Seconds and bytes until the chunk has come or is abandoned for a lower level."""
        self._link.sleep(self._round_trip_s)
        since_s = received = 0.0
        while True:
            within_s, got = self._link.download_within(size - received, LOOK_EVERY_S)
            since_s, received = since_s + within_s, received + got
            if within_s < LOOK_EVERY_S or received >= size:
                return since_s + self._round_trip_s, size, None
            passed_s = since_s + self._round_trip_s
            now = replace(state, buffer_s=max(0.0, state.buffer_s - passed_s))
            lower = self._chooser.abandon(now, Progress(level, size, received, since_s, self._round_trip_s))
            if lower is not None:
                return passed_s, received, lower

    def _pass(self, seconds: float) -> None:
        """Play for so long; what the buffer does not hold is rebuffering, once playback has begun."""
        while seconds > 1e-9 and self._buffer:
            level, left_s, _ = self._buffer[0]
            now_s = min(seconds, left_s)
            if left_s == self._video.chunk_s:
                self._played.append(int(level))
            self._utility += now_s * log(self._video.bitrates_kbps[int(level)] / self._video.bitrates_kbps[0])
            self._played_s += now_s
            seconds -= now_s
            self._buffer[0][1] -= now_s
            if self._buffer[0][1] <= 1e-9:
                self._buffer.pop(0)
        if seconds > 1e-9 and self._startup_s:
            self._rebuffer_s += seconds
            self._rebuffers += 1

    def _level_s(self) -> float:
        return sum(left_s for _, left_s, _ in self._buffer)

    def _state(self, chunk: int) -> State:
        return State(
            buffer_s=self._level_s(), buffer_max_s=self._target_s, segment_s=self._video.chunk_s,
            bitrates_kbps=self._video.bitrates_kbps, sizes=self._video.sizes[chunk:], left=len(self._video.sizes) - chunk,
            previous=self._previous, throughputs_kbps=tuple(self._throughputs), delays_s=tuple(self._delays_s),
        )  # fmt: skip
