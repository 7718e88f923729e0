"""A session's true timeline: what was on the screen, what went over the network and what the member did, drawn from a seed. Pure.

The playback itself is the exact buffer clock of `producers.players.playback`, fed by downloads whose lengths follow from a drawn network.
Times are milliseconds since the press of play.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field

from producers.players.network import Link
from producers.players.playback import Change, Playback
from producers.simulator.world import Device, Isp, Title, World

BUFFER_MAX_MS = 24_000
GIVES_UP_AFTER = 4
"""Refusals in a row after which the player fails."""
SAFETY = 0.8
"""Share of the measured throughput that the player dares to use."""


@dataclass(slots=True)
class Fetch:
    """One request. `kbps` and `length_ms` are 0 for a manifest; `buffer_ms`, `playhead_ms` and `starved` are those when it was asked."""

    asked_ms: int
    first_byte_ms: int
    done_ms: int
    kind: str
    number: int
    kbps: int
    length_ms: int
    size: int
    oca_id: str
    rc: int
    buffer_ms: int
    playhead_ms: int
    state: str
    throughput_kbps: int
    starved: bool


@dataclass(slots=True)
class Beat:
    """A heartbeat, and the playback at that time."""

    at_ms: int
    state: str
    kbps: int
    buffer_ms: int
    playhead_ms: int


@dataclass(slots=True)
class Timeline:
    """One session. `changes` begins with state s at 0 and ends with a closed state; `silent_ms` is when the device was switched off, if it
    was: nothing after it was reported."""

    title: Title
    device: Device
    isp: Isp
    region: str
    member_id: str
    changes: list[Change] = field(default_factory=list)
    fetches: list[Fetch] = field(default_factory=list)
    beats: list[Beat] = field(default_factory=list)
    error: str = ""
    silent_ms: int | None = None


def draw(world: World, rng: random.Random) -> Timeline:
    """One session of this world."""
    title = rng.choices(world.titles, [t.weight for t in world.titles])[0]
    isp = rng.choices(world.isps, [i.weight for i in world.isps])[0]
    device = rng.choices(world.devices, [d.weight for d in world.devices])[0]
    region = rng.choices(list(world.regions), list(world.regions.values()))[0]
    # As the collector's pseudonyms look; whose they are is not to be found out here either.
    member_id = hashlib.blake2b(b"member %d" % rng.randrange(world.members), digest_size=16).hexdigest()
    return _Session(world, rng, Timeline(title, device, isp, region, member_id)).run()


class _Session:
    """Runs one session: the next thing that happens is a download's end, something the member does, a change on the screen or a beat."""

    def __init__(self, world: World, rng: random.Random, timeline: Timeline) -> None:
        self._world = world
        self._rng = rng
        self._line = timeline
        title = timeline.title
        self._length_ms = title.length_s * 1000
        self._segment_ms = title.segment_s * 1000
        self._ladder = [k for k in title.ladder_kbps if k <= timeline.device.tb_kbps] or [title.ladder_kbps[0]]
        self._link = Link(timeline.isp.network.steps(rng))
        self._ocas = rng.sample(world.ocas, len(world.ocas))
        self._playback = Playback(0, self._length_ms, startup_ms=min(self._segment_ms, 4_000), resume_ms=self._segment_ms)
        self._throughput_kbps = 0
        self._starved = False
        self._refusals = 0
        self._now_ms = 0
        self._tell([Change(0, "s", 0)])
        self._plan()

    def _plan(self) -> None:
        """Draw what the member will do, and what will befall the device."""
        rng, shares = self._rng, self._world.shares
        self._manifest_missing = rng.random() < shares.failed_start
        self._actions: list[tuple[int, str, int]] = []
        later_ms = int(rng.uniform(2_000, 1.2 * self._length_ms))
        if rng.random() < shares.quits_early:
            self._actions.append((rng.randrange(20, 1_000), "quit", 0))
        if rng.random() < shares.quits:
            self._actions.append((later_ms, "quit", 0))
        if rng.random() < shares.pauses:
            at_ms = rng.randrange(2_000, self._length_ms)
            self._actions += [(at_ms, "pause", 0), (at_ms + rng.randrange(500, 20_000), "resume", 0)]
        if rng.random() < shares.seeks:
            self._actions.append((rng.randrange(2_000, self._length_ms), "seek", rng.randrange(self._length_ms)))
        if rng.random() < shares.breaks:
            self._actions.append((rng.randrange(1_000, self._length_ms), "break", 0))
        self._actions.sort()
        if rng.random() < shares.falls_silent:
            self._line.silent_ms = rng.randrange(100, self._length_ms)

    def run(self) -> Timeline:
        playback = self._playback
        todo = [self._ask("m", 0, 0, 0)]
        next_beat_ms = 10_000
        while not playback.closed:
            if not todo:
                todo = self._next_downloads()
            times = [next_beat_ms]
            if todo:
                times.append(todo[0].done_ms)
            else:
                times.append(self._room_ms())
            if self._actions:
                times.append(self._actions[0][0])
            if (due_ms := playback.due_ms()) is not None:
                times.append(due_ms)
            self._now_ms = min(times)
            self._tell(playback.advance(self._now_ms))
            if playback.closed:
                break
            if self._actions and self._actions[0][0] <= self._now_ms:
                self._act(*self._actions.pop(0))
            elif todo and todo[0].done_ms <= self._now_ms:
                todo = self._arrived(todo)
            elif next_beat_ms <= self._now_ms:
                self._line.beats.append(Beat(next_beat_ms, playback.state, playback.kbps, playback.buffer_ms, playback.playhead_ms))
                next_beat_ms += 10_000
        return self._line

    def _next_downloads(self) -> list[Fetch]:
        """The video of the next segment, if there is room and need; its audio follows when it has arrived."""
        playback = self._playback
        if playback.buffered_ms >= self._length_ms or playback.buffer_ms > BUFFER_MAX_MS:
            return []
        number = playback.buffered_ms // self._segment_ms
        affordable = [k for k in self._ladder if k <= SAFETY * self._throughput_kbps]
        return [self._ask("v", number, max(affordable, default=self._ladder[0]), self._segment_of(number)[1])]

    def _segment_of(self, number: int) -> tuple[int, int]:
        """(start, length) of a segment; the last may be shorter."""
        start_ms = number * self._segment_ms
        return start_ms, min(self._segment_ms, self._length_ms - start_ms)

    def _room_ms(self) -> int:
        """When the buffer will have room for another segment, if it is only that which is waited for."""
        playback = self._playback
        if playback.state != "p" or playback.buffered_ms >= self._length_ms:
            return 1 << 60
        return self._now_ms + max(1, playback.buffer_ms - BUFFER_MAX_MS)

    def _ask(self, kind: str, number: int, kbps: int, length_ms: int) -> Fetch:
        """Begin one request; its end is known at once, because the link is."""
        rng = self._rng
        refused = self._manifest_missing if kind == "m" else rng.random() < self._world.request_failure
        size = round(4_000 if kind == "m" else kbps * length_ms / 8 * rng.uniform(0.7, 1.1)) if not refused else 0
        first_ms = self._now_ms + self._line.isp.rtt_ms + rng.randrange(1, 8)
        done_ms = max(first_ms, int(self._link.pass_bytes(first_ms, size)) + 1) if size else first_ms
        fetch = Fetch(
            self._now_ms, first_ms, done_ms, kind, number, kbps, length_ms, size, self._ocas[0],
            (404 if kind == "m" else rng.choice((0, 500, 503))) if refused else 200, self._playback.buffer_ms, self._playback.playhead_ms,
            self._playback.state, self._throughput_kbps, self._starved,
        )  # fmt: skip
        self._starved = False
        return fetch

    def _arrived(self, todo: list[Fetch]) -> list[Fetch]:
        """A request came to its end; returns what goes on from there."""
        fetch = todo[0]
        self._line.fetches.append(fetch)
        if fetch.rc != 200:
            self._ocas.append(self._ocas.pop(0))
            self._refusals += 1
            if self._refusals == GIVES_UP_AFTER:
                self._fail(f"{fetch.kind}:{fetch.rc}")
                return []
            return [self._ask(fetch.kind, fetch.number, fetch.kbps, fetch.length_ms)]
        self._refusals = 0
        if fetch.kind == "m":
            return []
        if fetch.kind == "v":
            self._throughput_kbps = round(fetch.size * 8 / (fetch.done_ms - fetch.asked_ms))
            self._video = fetch
            return [self._ask("a", fetch.number, self._world.audio_kbps, fetch.length_ms)]
        start_ms, length_ms = self._segment_of(fetch.number)
        self._tell(self._playback.append(self._now_ms, start_ms, start_ms + length_ms, self._video.kbps))
        return []

    def _act(self, at_ms: int, kind: str, to_ms: int) -> None:
        playback = self._playback
        if kind == "quit":
            self._tell(playback.quit(at_ms))
        elif kind == "break":
            self._fail("decode")
        elif kind == "pause":
            self._tell(playback.pause(at_ms))
        elif kind == "resume":
            self._tell(playback.resume(at_ms))
        else:
            self._tell(playback.seek(at_ms, to_ms))

    def _fail(self, code: str) -> None:
        self._line.error = code
        self._tell(self._playback.fail(self._now_ms))

    def _tell(self, changes: list[Change]) -> None:
        for change in changes:
            self._starved |= change.state == "r"
            self._line.changes.append(change)
