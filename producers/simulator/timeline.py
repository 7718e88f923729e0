"""True timelines: what was on the screen, what went over the network, what the members did. Pure; all of it follows from world and seed.

Thousands of sessions run side by side, each at its own time: in one step every session comes to the next thing that happens to it, be it
the end of a download, something the member does, a change on the screen or a heartbeat. What is on the screen follows the buffer clock of
`producers.players.playback` to the millisecond; a test holds each change against it. Times are milliseconds since the press of play.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from producers.abr.state import LOOK_AHEAD, State
from producers.players.adaptation import ALGORITHMS, Situation
from producers.simulator.world import Effect, IspFault, OcaFault, PlayerFault, World

BUFFER_MAX_MS = 24_000
GIVES_UP_AFTER = 4
"""Refusals in a row after which the player fails."""
SAFETY = 0.8
"""Share of the measured throughput that the player dares to use."""
BEAT_MS = 10_000
JITTER = 0.2
"""By how much of itself the bandwidth varies within a state of the network."""
DWELL_MS = 1_000
NEVER = 1 << 60
NONE = -1

STATES = "sprkaeqf"
"""Play states by number: CMCD's letters, in this order."""
S, P, R, K, A, E, Q, F = range(8)
KINDS = "mva"
"""What is fetched by number: manifest, video, audio."""
MANIFEST, VIDEO, AUDIO = range(3)
REFUSALS = (0, 500, 503, 404)
"""HTTP status of a refused request; the last is that of a manifest that is nowhere."""
ERRORS = ("decode", "init", *(f"{kind}:{rc}" for kind in KINDS for rc in REFUSALS))
"""Error codes by number: the player broke, did not start, or gave up on a request."""
DECODE, INIT, GAVE_UP = range(3)
QUIT, PAUSE, RESUME, SEEK, BREAK = range(5)

Ints = NDArray[np.int64]
CHANGE = np.dtype([("session", "<i4"), ("at_ms", "<i8"), ("state", "i1"), ("kbps", "<i4")], align=True)
"""From `at_ms` on the state is `state` and the bitrate on the screen `kbps` (0: none yet)."""
FETCH = np.dtype([
    ("session", "<i4"), ("asked_ms", "<i8"), ("first_byte_ms", "<i8"), ("done_ms", "<i8"), ("kind", "i1"), ("number", "<i4"),
    ("kbps", "<i4"), ("length_ms", "<i4"), ("size", "<i8"), ("oca", "<i4"), ("rc", "<i2"), ("buffer_ms", "<i8"), ("playhead_ms", "<i8"),
    ("state", "i1"), ("throughput_kbps", "<i4"), ("starved", "?"),
], align=True)  # fmt: skip
"""One request. `kbps` and `length_ms` are 0 for a manifest; `buffer_ms`, `playhead_ms`, `state`, `starved` are those when it was asked."""
BEAT = np.dtype([
    ("session", "<i4"), ("at_ms", "<i8"), ("state", "i1"), ("kbps", "<i4"), ("buffer_ms", "<i8"), ("playhead_ms", "<i8"),
], align=True)  # fmt: skip
"""A heartbeat, and the playback at that time."""
ACT = np.dtype([("session", "<i4"), ("at_ms", "<i8"), ("kind", "i1"), ("to_ms", "<i8")], align=True)
"""What a member did (QUIT, PAUSE, RESUME, SEEK, and then to where), or the player of itself (BREAK)."""


@dataclass(frozen=True)
class Timelines:
    """Some sessions. Rows name their session by its number in `sessions` (audience.SESSION) and are in the order in which they happened.

    Each session's `changes` begin with state s at 0 and end with a closed state. `silent_ms` is when its device was switched off, NEVER if
    it was not: nothing after it was reported. `error` is why it failed, NONE if it did not.
    """

    sessions: NDArray[Any]
    changes: NDArray[Any]
    fetches: NDArray[Any]
    beats: NDArray[Any]
    acts: NDArray[Any]
    silent_ms: Ints
    error: NDArray[np.int8]


class Traits(NamedTuple):
    """What some sessions have of their member and of experiments, one entry each: after how long it quits, and factors of the network's
    speed, of what the player takes that for, and of the time to the first frame.
    """

    watch_ms: NDArray[np.float64]
    bandwidth: NDArray[np.float64]
    overestimates: NDArray[np.float64]
    startup: NDArray[np.float64]

    @classmethod
    def plain(cls, count: int) -> Traits:
        """Nothing of the kind."""
        return cls(np.full(count, float(NEVER)), np.ones(count), np.ones(count), np.ones(count))

    def under(self, effect: Effect, inside: NDArray[np.bool_] | bool = True) -> Traits:
        """The same where a variation has this effect on those `inside`."""
        watching, overestimates, startup = (np.where(inside, of, 1.0) for of in (effect.watching, effect.overestimates, effect.startup))
        return Traits(self.watch_ms * watching, self.bandwidth, self.overestimates * overestimates, self.startup * startup)


def play(world: World, sessions: NDArray[Any], start_ms: int, rng: np.random.Generator, traits: Traits | None = None) -> Timelines:
    """Let these sessions (audience.SESSION) happen, from the press of play to their ends. Faults count from `start_ms`.

    With `traits` the networks' chance is apart from all other: played again with other traits, members meet the same networks.
    """
    return _Stage(world, sessions, start_ms, rng, traits).run()


class _Log:
    """Rows that are added a few columns at a time."""

    def __init__(self, kind: np.dtype[Any]) -> None:
        self._kind = kind
        self._columns: list[list[NDArray[Any]]] = [[] for _ in kind.names or ()]

    def add(self, *values: NDArray[Any]) -> None:
        """One array a column, in order."""
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)

    def table(self) -> NDArray[Any]:
        """All of them, by session and then as they were added."""
        if not self._columns[0]:
            return np.empty(0, self._kind)
        who = np.concatenate(self._columns[0])
        order = np.argsort(who.astype(np.uint16 if who.max() < 1 << 16 else np.int64), kind="stable")  # of 16 bits numpy sorts by radix
        found = np.empty(len(who), self._kind)
        for name, column in zip(self._kind.names or (), self._columns, strict=True):
            found[name] = np.concatenate(column)[order]
        return found


class _Links:
    """The members' access networks: the bits that can pass until the end of each second, drawn as far as they are asked about."""

    BLOCK = 256

    def __init__(
        self, world: World, sessions: NDArray[Any], since_start_ms: Ints, rng: np.random.Generator, level: NDArray[np.float64] | None
    ) -> None:
        self._level = level
        self._rng, self._isp, self._since_start_ms = rng, sessions["isp"], since_start_ms
        longest = max(len(isp.states_kbps) for isp in world.isps)
        self._kbps = np.array([[*isp.states_kbps, *[0.0] * (longest - len(isp.states_kbps))] for isp in world.isps])
        self._last = np.array([len(isp.states_kbps) - 1 for isp in world.isps])[self._isp]
        self._stay = np.array([isp.stay for isp in world.isps])[self._isp]
        self._faults = [
            (n, fault) for fault in world.faults if isinstance(fault, IspFault) for n, i in enumerate(world.isps) if i.asn == fault.asn
        ]
        self._state = (rng.random(len(sessions)) * (self._last + 1)).astype(np.int64)
        self._bits: Ints = np.zeros((1, len(sessions)), np.int64)
        """One row a second: what has passed before it."""

    def passed(self, who: Ints, at_ms: Ints, bits: Ints) -> Ints:
        """When the last of `bits` has passed, if they are handed over at `at_ms`; rounded up."""
        second = at_ms // DWELL_MS
        self._reach(second)
        begun, kbps = self._second(who, second)
        target = begun + kbps * (at_ms - second * DWELL_MS) + bits
        waiting = np.flatnonzero(begun + kbps * DWELL_MS < target)
        while len(waiting):
            second[waiting] += 1
            self._reach(second)
            waiting = waiting[self._bits[second[waiting] + 1, who[waiting]] < target[waiting]]
        begun, kbps = self._second(who, second)
        return second * DWELL_MS - (begun - target) // kbps

    def _second(self, who: Ints, second: Ints) -> tuple[Ints, Ints]:
        """Bits until the beginning of a second, and kbit/s within it."""
        begun = self._bits[second, who]
        return begun, (self._bits[second + 1, who] - begun) // DWELL_MS

    def _reach(self, second: Ints) -> None:
        while len(self._bits) <= int(second.max(initial=0)) + 1:
            self._draw_more()

    def _draw_more(self) -> None:
        rng, shape = self._rng, (self.BLOCK, len(self._state))
        kbps = rng.random(shape, np.float32) * (2 * JITTER) + (1 - JITTER)
        goes = (rng.random(shape, np.float32) >= self._stay) & (self._last > 0)
        ways = np.where(rng.random(shape, np.float32) < 0.5, -1, 1)
        for second in range(self.BLOCK):
            kbps[second] *= self._kbps[self._isp, self._state]
            state = self._state + np.where(goes[second], ways[second], 0)
            self._state = np.where(state < 0, 1, np.where(state > self._last, self._last - 1, state))  # at an end there is one neighbour
        if self._level is not None:
            kbps *= self._level
        begins_ms = self._since_start_ms + DWELL_MS * (len(self._bits) - 1 + np.arange(self.BLOCK))[:, None]
        for isp, fault in self._faults:
            kbps[(self._isp == isp) & _during(fault, begins_ms)] *= fault.bandwidth
        more = np.cumsum(np.maximum(1, np.rint(kbps)).astype(np.int64) * DWELL_MS, axis=0)
        self._bits = np.concatenate([self._bits, self._bits[-1] + more])


def _during(fault: Any, since_start_ms: Ints) -> NDArray[np.bool_]:
    begin_ms = round(fault.start_s * 1000)
    found: NDArray[np.bool_] = (since_start_ms >= begin_ms) & (since_start_ms < begin_ms + round(fault.duration_s * 1000))
    return found


class _Stage:
    """All sessions of a `play`. Arrays in `self._of` have one entry for each session that is still open; `who` says which it is."""

    def __init__(self, world: World, sessions: NDArray[Any], start_ms: int, rng: np.random.Generator, traits: Traits | None = None) -> None:
        self._world, self._rng, self._sessions, self._traits = world, rng, sessions, traits
        count = len(sessions)
        titles, rigs = world.all_titles, world.rigs
        rungs = max(len(title.ladder_kbps) for title in titles)
        self._ladder = np.array([[*title.ladder_kbps, *[NEVER] * (rungs - len(title.ladder_kbps))] for title in titles])
        self._ring = max(BUFFER_MAX_MS // (title.segment_s * 1000) for title in titles) + 4
        self._since_start_ms: Ints = sessions["pressed_ms"] - start_ms
        of_links, level = (rng, None) if traits is None else (rng.spawn(1)[0], traits.bandwidth)
        self._links = _Links(world, sessions, self._since_start_ms, of_links, level)
        self._oca_faults = [(world.ocas.index(fault.oca), fault) for fault in world.faults if isinstance(fault, OcaFault)]
        self._changes, self._fetches, self._beats, self._acts = _Log(CHANGE), _Log(FETCH), _Log(BEAT), _Log(ACT)
        self._silent_ms: Ints = np.full(count, NEVER)
        self._error = np.full(count, NONE, np.int8)
        self._segments = np.zeros((count, self._ring), np.int64)
        """Bitrate of each segment in the buffer, by its number modulo the width: the buffer never holds more."""
        length_ms = np.array([title.length_s * 1000 for title in titles])[sessions["title"]]
        segment_ms = np.array([title.segment_s * 1000 for title in titles])[sessions["title"]]
        zero, never = np.zeros(count, np.int64), np.full(count, NEVER)
        self._of: dict[str, NDArray[Any]] = {
            "who": np.arange(count), "length": length_ms, "segment": segment_ms, "startup": np.minimum(segment_ms, 4_000),
            "title": sessions["title"].astype(np.int64), "tb": np.array([rig.tb_kbps for rig in rigs])[sessions["rig"]],
            "rtt": np.array([isp.rtt_ms for isp in world.isps])[sessions["isp"]],
            "now": zero, "state": zero + S, "playhead": zero, "buffered": zero, "region": zero, "turn": never, "beat": zero + BEAT_MS,
            "oca": rng.integers(len(world.ocas), size=count), "refusals": zero, "throughput": zero, "starved": zero != 0,
            "video": zero, "done": never, "asked": zero, "first": zero, "kind": zero, "number": zero, "kbps": zero, "fetch_length": zero,
            "size": zero, "rc": zero, "fetch_buffer": zero, "fetch_playhead": zero, "fetch_state": zero, "fetch_throughput": zero,
            "fetch_starved": zero != 0, "optimism": zero + 1.0, "cannot_start": zero != 0, "slow_start": zero + 1.0,
        }  # fmt: skip
        self._of = {name: values.copy() for name, values in self._of.items()}
        self._algorithm = [ALGORITHMS.get(rig.abr) for rig in rigs]
        self._decides: NDArray[np.bool_] = np.array([of is not None for of in self._algorithm])[sessions["rig"]]
        """Sessions that decide one by one, as real players do; the rest takes a share of the throughput."""
        self._measured: dict[int, tuple[list[float], list[float]]] = {int(who): ([], []) for who in np.flatnonzero(self._decides)}
        """Of those: kbit/s and seconds of each segment of video so far."""
        self._draw_habits()

    def _draw_habits(self) -> None:
        """Draw what members will do, and what will befall their devices."""
        rng, shares, s = self._rng, self._world.shares, self._of
        length = s["length"]
        count = len(length)
        early = np.minimum(2_000, length - 1)

        def happens(share: float, at_ms: Ints) -> Ints:
            return np.where(rng.random(count) < share, at_ms, NEVER)

        s["no_manifest"] = rng.random(count) < shares.failed_start
        pause_ms = happens(shares.pauses, rng.integers(early, length))
        times = {
            QUIT: np.minimum(
                happens(shares.quits_early, rng.integers(20, 1_000, count)),
                happens(shares.quits, rng.uniform(early, 1.2 * length).astype(np.int64)),
            ),
            PAUSE: pause_ms,
            RESUME: np.where(pause_ms == NEVER, NEVER, pause_ms + rng.integers(500, 20_000, count)),
            SEEK: happens(shares.seeks, rng.integers(early, length)),
            BREAK: happens(shares.breaks, rng.integers(np.minimum(1_000, length - 1), length)),
        }
        if self._traits is not None:
            times[QUIT] = np.minimum(times[QUIT], np.clip(self._traits.watch_ms, 1, NEVER).astype(np.int64))
            s["optimism"] *= self._traits.overestimates
            s["slow_start"] *= self._traits.startup
        at_ms = np.stack([*times.values(), np.full(count, NEVER)], axis=1)
        s["action_kinds"] = np.argsort(at_ms, axis=1, kind="stable")
        s["action_times"] = np.take_along_axis(at_ms, s["action_kinds"], 1)
        s["seek_to"] = rng.integers(0, length)
        s["acted"] = np.zeros(count, np.int64)
        self._silent_ms[:] = happens(shares.falls_silent, rng.integers(100, length))
        for fault in self._world.faults:
            if isinstance(fault, PlayerFault):
                has_it = np.array([rig.player == fault.player for rig in self._world.rigs])[self._sessions["rig"]]
                struck = has_it & _during(fault, self._since_start_ms)
                s["cannot_start"] |= struck & (rng.random(count) < fault.fails_to_start)
                s["optimism"] *= np.where(struck, fault.overestimates, 1.0)

    def run(self) -> Timelines:
        """To the end of every session."""
        everybody = self._of["who"]
        nothing = np.zeros(len(everybody), np.int64)
        self._changes.add(everybody, nothing, nothing + S, nothing)
        self._ask(everybody, nothing + MANIFEST, nothing, nothing, nothing)
        while len(self._of["who"]):
            self._step()
            closed = self._of["state"] >= E
            if closed.sum() * 8 >= len(closed):
                self._of = {name: values[~closed] for name, values in self._of.items()}
        changes, fetches, beats, acts = (log.table() for log in (self._changes, self._fetches, self._beats, self._acts))
        return Timelines(self._sessions, changes, fetches, beats, acts, self._silent_ms, self._error)

    def _step(self) -> None:
        """The next thing that happens to each session that is open."""
        s = self._of
        is_open = s["state"] < E
        room = s["buffered"] < s["length"]
        self._ask_video(np.flatnonzero(is_open & room & (s["done"] == NEVER) & (s["buffered"] - s["playhead"] <= BUFFER_MAX_MS)))
        playing = s["state"] == P
        dry = playing & room & (s["turn"] == NEVER)
        due = np.where(playing, s["now"] + np.minimum(s["turn"], s["buffered"]) - s["playhead"] + dry, NEVER)
        drained = s["now"] + np.maximum(1, s["buffered"] - s["playhead"] - BUFFER_MAX_MS)
        idle = playing & room & (s["done"] == NEVER)
        action = s["action_times"][np.arange(len(s["now"])), s["acted"]]
        now = np.minimum.reduce([due, np.where(idle, drained, NEVER), s["done"], s["beat"], action])
        changes = due == now
        stalls = changes & dry
        s["playhead"] += np.where(playing, now - s["now"] - stalls, 0)
        s["now"] = np.where(is_open, now, s["now"])
        if len(who := np.flatnonzero(stalls)):
            self._turn(who, R, s["now"][who] - 1)
        if len(who := np.flatnonzero(changes & ~dry)):
            self._turn(who, np.where(s["playhead"][who] == s["length"][who], E, P))
            self._look_ahead(who)
        is_open = s["state"] < E
        acts = is_open & (action <= s["now"])
        arrives = is_open & ~acts & (s["done"] <= s["now"])
        beats = is_open & ~acts & ~arrives & (s["beat"] <= s["now"])
        if len(who := np.flatnonzero(acts)):
            self._act(who)
        if len(who := np.flatnonzero(arrives)):
            self._arrive(who)
        if len(who := np.flatnonzero(beats)):
            buffer = s["buffered"][who] - s["playhead"][who]
            self._beats.add(s["who"][who], s["now"][who], s["state"][who], self._on_screen(who), buffer, s["playhead"][who])
            s["beat"][who] += BEAT_MS

    def _on_screen(self, who: Ints) -> Ints:
        """Bitrate at the playhead; 0 where there is no media."""
        s = self._of
        position = np.minimum(s["playhead"][who], s["buffered"][who] - 1)
        kbps = self._segments[s["who"][who], position // s["segment"][who] % self._ring]
        return np.where(s["buffered"][who] > s["region"][who], kbps, 0)

    def _turn(self, who: Ints, state: int | Ints, at_ms: Ints | None = None) -> None:
        s = self._of
        s["state"][who] = state
        if isinstance(state, int) and state == R:
            s["starved"][who] = True
        self._changes.add(s["who"][who], s["now"][who] if at_ms is None else at_ms, s["state"][who], self._on_screen(who))

    def _look_ahead(self, who: Ints) -> None:
        """Find where in the buffer the bitrate changes next."""
        s = self._of
        numbers = (s["playhead"][who] // s["segment"][who])[:, None] + np.arange(self._ring - 1)
        kbps = self._segments[s["who"][who][:, None], numbers % self._ring]
        at_ms = (numbers[:, 1:]) * s["segment"][who][:, None]
        turns = np.where((kbps[:, 1:] != kbps[:, :-1]) & (at_ms < s["buffered"][who][:, None]), at_ms, NEVER)
        s["turn"][who] = turns.min(axis=1)

    def _ask_video(self, who: Ints) -> None:
        """The video of the next segment; its audio follows when it has arrived."""
        if not len(who):
            return
        s = self._of
        ladder = self._ladder[s["title"][who]]
        affordable = np.minimum(s["tb"][who], SAFETY * s["optimism"][who] * s["throughput"][who])
        rung = np.maximum(0, (ladder <= affordable[:, None]).sum(axis=1) - 1)
        for at in np.flatnonzero(self._decides[s["who"][who]]):
            rung[at] = self._decided(int(who[at]))
        number = s["buffered"][who] // s["segment"][who]
        length = np.minimum(s["segment"][who], s["length"][who] - number * s["segment"][who])
        self._ask(who, np.full(len(who), VIDEO), number, ladder[np.arange(len(who)), rung], length)

    def _decided(self, at: int) -> int:
        """The rung that one session's own algorithm takes. Of sizes it knows bitrate times length, as where there are no sums."""
        now = {name: int(self._of[name][at]) for name in ("who", "title", "tb", "segment", "length", "buffered", "playhead", "video")}
        rig = int(self._sessions["rig"][now["who"]])
        whole = [int(kbps) for kbps in self._ladder[now["title"]] if kbps < NEVER]
        ladder = [kbps for kbps in whole if kbps <= now["tb"]] or whole[:1]
        left = -(-now["length"] // now["segment"]) - now["buffered"] // now["segment"]
        sizes = [[(kbps + self._world.audio_kbps) * now["segment"] / 8 for kbps in ladder]] * min(left, LOOK_AHEAD)
        throughputs_kbps, delays_s = self._measured[now["who"]]
        state = State(
            buffer_s=(now["buffered"] - now["playhead"]) / 1000, buffer_max_s=BUFFER_MAX_MS / 1000, segment_s=now["segment"] / 1000,
            bitrates_kbps=tuple(ladder), sizes=sizes, left=left, previous=ladder.index(now["video"]) if now["video"] else -1,
            throughputs_kbps=tuple(throughputs_kbps), delays_s=tuple(delays_s),
        )  # fmt: skip
        algorithm = self._algorithm[rig]
        assert algorithm
        choice = algorithm(Situation(state, now["playhead"] / 1000, now["length"] / 1000))
        return choice.index

    def _measure(self, video: Ints) -> None:
        """Remember how fast segments came to those who want to know; a bad player takes them for faster than they were."""
        s = self._of
        for at in video[self._decides[s["who"][video]]].tolist():
            throughputs_kbps, delays_s = self._measured[int(s["who"][at])]
            throughputs_kbps.append(float(s["throughput"][at] * s["optimism"][at]))
            delays_s.append(float(s["now"][at] - s["asked"][at]) / 1000)

    def _ask(self, who: Ints, kind: Ints, number: Ints, kbps: Ints, length: Ints) -> None:
        """Begin one request each; its end is known at once, because the link is."""
        s, rng, world = self._of, self._rng, self._world
        count = len(who)
        nowhere = (kind == MANIFEST) & s["no_manifest"][who]
        chance = np.where(kind == MANIFEST, 0.0, world.request_failure)
        slows = np.ones(count)
        for oca, fault in self._oca_faults:
            struck = (s["oca"][who] == oca) & _during(fault, self._since_start_ms[s["who"][who]] + s["now"][who])
            chance = np.where(struck, np.maximum(chance, fault.refuses), chance)
            slows = np.where(struck, slows * fault.slows, slows)
        refused = nowhere | (rng.random(count) < chance)
        bytes_ = np.where(kind == MANIFEST, 4_000, kbps * length / 8) * rng.uniform(0.7, 1.1, count)
        size = np.where(refused, 0, np.rint(bytes_)).astype(np.int64)
        first = s["now"][who] + s["rtt"][who] + rng.integers(1, 8, count)
        done = self._links.passed(s["who"][who], first, np.rint(size * 8 * slows).astype(np.int64))
        done = np.maximum(first, done)
        if self._traits is not None:
            now, slow = s["now"][who], np.where(s["state"][who] == S, s["slow_start"][who], 1.0)
            first, done = (now + np.rint((at_ms - now) * slow).astype(np.int64) for at_ms in (first, done))
        rc = np.where(nowhere, 404, np.where(refused, np.array(REFUSALS[:3])[rng.integers(3, size=count)], 200))
        for name, values in (
            ("asked", s["now"][who]), ("first", first), ("done", done), ("kind", kind), ("number", number),
            ("kbps", kbps), ("fetch_length", length), ("size", size), ("rc", rc), ("fetch_buffer", s["buffered"][who] - s["playhead"][who]),
            ("fetch_playhead", s["playhead"][who]), ("fetch_state", s["state"][who]), ("fetch_throughput", s["throughput"][who]),
            ("fetch_starved", s["starved"][who]),
        ):  # fmt: skip
            s[name][who] = values
        s["starved"][who] = False

    def _arrive(self, who: Ints) -> None:
        """Requests come to their ends, and the next ones begin."""
        s = self._of
        self._fetches.add(s["who"][who], *(s[name][who] for name in (
            "asked", "first", "done", "kind", "number", "kbps", "fetch_length", "size", "oca", "rc", "fetch_buffer", "fetch_playhead",
            "fetch_state", "fetch_throughput", "fetch_starved",
        )))  # fmt: skip
        s["done"][who] = NEVER
        got = s["rc"][who] == 200
        s["refusals"][who] = np.where(got, 0, s["refusals"][who] + 1)
        video, audio = (who[got & (s["kind"][who] == kind)] for kind in (VIDEO, AUDIO))
        refused = who[~got]
        s["oca"][refused] = (s["oca"][refused] + 1) % len(self._world.ocas)
        gives_up = s["refusals"][refused] == GIVES_UP_AFTER
        if len(again := refused[~gives_up]):
            self._ask(again, s["kind"][again], s["number"][again], s["kbps"][again], s["fetch_length"][again])
        if len(lost := refused[gives_up]):
            status = np.argmax(s["rc"][lost][:, None] == np.array(REFUSALS), axis=1)
            self._fail(lost, GAVE_UP + len(REFUSALS) * s["kind"][lost] + status)
        if len(video):
            s["throughput"][video] = np.rint(s["size"][video] * 8 / (s["now"][video] - s["asked"][video])).astype(np.int64)
            s["video"][video] = s["kbps"][video]
            self._measure(video)
            of_audio = np.full(len(video), self._world.audio_kbps)
            self._ask(video, np.full(len(video), AUDIO), s["number"][video], of_audio, s["fetch_length"][video])
        if len(audio):
            self._append(audio)

    def _append(self, who: Ints) -> None:
        """A segment is there whole. One that does not continue the buffer, as after a seek, is thrown away."""
        s = self._of
        start = s["number"][who] * s["segment"][who]
        end = start + s["fetch_length"][who]
        fits = (start <= s["buffered"][who]) & (s["buffered"][who] < end)
        who, end = who[fits], end[fits]
        row, buffered, kbps = s["who"][who], s["buffered"][who], s["video"][who]
        before = self._segments[row, (buffered - 1) // s["segment"][who] % self._ring]
        differs = (buffered > s["region"][who]) & (before != kbps)
        turns = differs & (buffered > s["playhead"][who]) & (s["turn"][who] == NEVER)
        at_once = who[differs & (buffered == s["playhead"][who]) & (s["state"][who] == P)]
        s["turn"][who] = np.where(turns, buffered, s["turn"][who])
        self._segments[row, s["number"][who] % self._ring] = kbps
        s["buffered"][who] = end
        if len(at_once):  # just in time: it is on the screen already
            self._turn(at_once, P)
        self._go_on(who)

    def _go_on(self, who: Ints) -> None:
        """Play where there is enough to do so."""
        s = self._of
        state, buffer = s["state"][who], s["buffered"][who] - s["playhead"][who]
        enough = buffer >= np.where(state == S, s["startup"][who], s["segment"][who])
        ready = np.isin(state, (S, R, K)) & (enough | (s["buffered"][who] == s["length"][who]))
        broken = ready & (state == S) & s["cannot_start"][who]
        if len(lost := who[broken]):
            self._fail(lost, np.full(len(lost), INIT))
        if len(fine := who[ready & ~broken]):
            self._turn(fine, P)

    def _act(self, who: Ints) -> None:
        """Members do something, or their player breaks. What makes no sense in the state they are in does nothing."""
        s = self._of
        kind, state = s["action_kinds"][who, s["acted"][who]], s["state"][who]
        s["acted"][who] += 1
        self._acts.add(s["who"][who], s["now"][who], kind, s["seek_to"][who])
        if len(breaks := who[kind == BREAK]):
            self._fail(breaks, np.full(len(breaks), DECODE))
        for does, to in ((kind == QUIT, Q), ((kind == PAUSE) & (state == P), A), ((kind == RESUME) & (state == A), P)):
            if does.any():
                self._turn(who[does], to)
        if len(seeks := who[(kind == SEEK) & ((state == P) | (state == R))]):
            self._turn(seeks, K)
            to_ms = s["seek_to"][seeks]
            jumps = (to_ms < s["playhead"][seeks]) | (to_ms >= s["buffered"][seeks])
            away = seeks[jumps]
            s["region"][away] = s["buffered"][away] = to_ms[jumps]
            s["playhead"][seeks] = to_ms
            self._look_ahead(seeks)
            self._go_on(seeks)

    def _fail(self, who: Ints, error: Ints) -> None:
        self._error[self._of["who"][who]] = error
        self._turn(who, F)
