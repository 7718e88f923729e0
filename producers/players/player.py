"""A player: presses play, fetches what the buffer needs, adapts, fails over, and reports what happens on its screen.

`press_play` asks the gateway; a `Player` then plays what it was given. Time and network come in as arguments, so the same player runs
against real servers in real time and in a test in none (`clock.run_virtual`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote, urljoin

from producers.abr.bola_finite import Choice
from producers.abr.prior import Prior
from producers.abr.state import LOOK_AHEAD, State
from producers.players.adaptation import ALGORITHMS, DEFAULT, TOLD, Adaptation, Situation, named
from producers.players.clock import LoopClock
from producers.players.failover import Cause
from producers.players.fetching import Fetcher, Transfer, Unplayable, Wanted
from producers.players.mpd import BadManifest, Manifest, Representation, Segment, parse
from producers.players.network import Link
from producers.players.playback import Change, Playback
from producers.players.reports import CUSTOM, Outbox, Reporter
from producers.players.transport import Transport
from schemas.assets import CHECKSUMS, InvalidChecksums, Sum, read_checksums
from schemas.cmcd import CUSTOM_LENGTH

BUFFER_MAX_MS = 24_000
HEARTBEAT_MS = 10_000
SUMS_AFTER = 2
"""So many segments ahead the link has time for checksums."""
SWITCH = f"{CUSTOM}switch"
"""Name of the event that tells of another server in use."""


class PlayRefused(Exception):
    """The gateway did not let us play; the message holds its answer."""


@dataclass(frozen=True)
class Ticket:
    """The gateway's answer to a press of play. `manifest_urls` are ranked, best first."""

    sid: str
    correlation_id: str
    cid: str
    manifest_urls: tuple[str, ...]
    collector_url: str
    prior: Prior | None = None
    """What the session may expect of its throughput; None: nothing is known."""
    flags: Mapping[str, Any] = field(default_factory=dict)
    """What experiments give the member. Of these a player obeys `abr_rule`, unless its device says what it adapts by, and
    `start_bitrate_kbps`; what it cannot obey it takes for not said.
    """


@dataclass(frozen=True)
class Device:
    """Who plays, on what, from where."""

    member: str
    kind: str
    region: str
    asn: int
    max_height: int
    player: str = "headrace-headless/1.0"
    network_type: str | None = None
    """Kind of access network, as in playback.report."""
    address: str = ""
    """Where its requests come from, as a proxy of its ISP would tell the gateway; empty: from where they do come from."""
    abr: str | None = None
    """What it adapts by, whatever its ticket says: one of `adaptation.ALGORITHMS`; None: as its ticket says."""


@dataclass(frozen=True)
class Action:
    """Something the member does `at_ms` after pressing play: pause, resume, seek (to `to_ms`) or quit."""

    at_ms: int
    kind: str
    to_ms: int = 0


@dataclass
class Outcome:
    """What a session came to. `state` is e ended, q quit or f failed."""

    sid: str
    cid: str
    state: str = ""
    startup_ms: int | None = None
    playing_ms: int = 0
    rebuffer_count: int = 0
    rebuffer_ms: int = 0
    segments: int = 0
    failovers: int = 0
    errors: list[str] = field(default_factory=list)


async def press_play(transport: Transport, gateway_url: str, title: str, member: str, address: str = "", **about: str | None) -> Ticket:
    """Ask the gateway for `title`, from an address where one is given. `about` is what is known of device_type, network_type and region.

    Raises PlayRefused, NoAnswer.
    """
    asked = json.dumps({"title": title, "member": member, **about}).encode()
    answer = await transport.post(f"{gateway_url}/play", asked, "application/json", address)
    words = answer.content[:300].decode(errors="replace")
    if answer.status != 200:
        raise PlayRefused(f"{gateway_url} answered {answer.status} to {title!r}: {words}")
    try:
        told = json.loads(answer.content)
        urls = tuple(str(url) for url in told["manifest_urls"])
        flags = told.get("flags")
        return Ticket(
            str(told["sid"]), str(told["correlation_id"]), str(told["cid"]), urls, str(told["collector_url"]), _prior(told.get("prior")),
            flags if isinstance(flags, dict) else {},
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise PlayRefused(f"{gateway_url} answered {title!r} with something that is no ticket ({error!r}): {words}") from None


def _prior(told: Any) -> Prior | None:
    """What the gateway told of throughput; None where that is no prior: one can play without."""
    try:
        return Prior(float(told["mean_log_kbps"]), float(told["sd_log_kbps"]), float(told["weight"]))
    except (ValueError, KeyError, TypeError):
        return None


def adapts_by(device: Device, flags: Mapping[str, Any]) -> str:
    """The algorithm that a session adapts by: what its device says, else the flag `abr_rule` where that names one, else our own."""
    rule = flags.get("abr_rule")
    return device.abr or (rule if isinstance(rule, str) and rule in ALGORITHMS else DEFAULT)


def starts_at(ladder_kbps: Sequence[int], flags: Mapping[str, Any]) -> int | None:
    """The level of the first segment: the highest up to the flag `start_bitrate_kbps`, else the lowest; None: as the algorithm chooses."""
    kbps = flags.get("start_bitrate_kbps")
    if isinstance(kbps, bool) or not isinstance(kbps, (int, float)) or not kbps > 0:
        return None
    return max((level for level, bitrate in enumerate(ladder_kbps) if bitrate <= kbps), default=0)


class Player:
    """Plays one session of one ticket; `run` may be called once. It adapts as its device or its ticket says, or by `adapt`.

    Raises ValueError where the device adapts by what nobody knows.
    """

    def __init__(
        self, ticket: Ticket, device: Device, transport: Transport, link: Link, rtt_ms: float, outbox: Outbox, clock: LoopClock,
        actions: Sequence[Action] = (), pressed_ms: int | None = None, adapt: Adaptation | None = None, buffer_max_ms: int = BUFFER_MAX_MS,
    ) -> None:  # fmt: skip
        self.ticket = ticket
        self.outcome = Outcome(ticket.sid, ticket.cid)
        self._clock = clock
        self._pressed_ms = clock.now_ms() if pressed_ms is None else pressed_ms
        self._actions = sorted(actions, key=lambda action: action.at_ms)
        self._max_height = device.max_height
        self._abr = adapts_by(device, ticket.flags)
        self._adapt = adapt or named(self._abr)
        self._buffer_max_ms = buffer_max_ms
        self._ladder_kbps: tuple[int, ...] = ()
        self._reporter = Reporter(outbox, ticket.collector_url, _shared(ticket, device, self._abr))
        self._fetcher = Fetcher(ticket.manifest_urls, transport, link, rtt_ms, clock, self)
        self._sums: Mapping[str, Sum] = {}
        self._learning: asyncio.Task[None] | None = None  # of the sums
        self._playback: Playback | None = None
        self._news = asyncio.Event()  # the playback changed: what is due may be due earlier
        self._throughputs_kbps: list[float] = []
        """Of each video segment, and the seconds that it took."""
        self._delays_s: list[float] = []
        self._shown_kbps = 0
        self._starved = False
        self._state = "s"

    async def run(self) -> Outcome:
        """Play until the end, a quit or a fatal error. Cancelled, it quits the session with a report first."""
        self._report_state("s", self._pressed_ms)
        fetching = asyncio.create_task(self._fetch())
        watching = asyncio.create_task(self._watch(fetching))
        try:
            await watching
        except asyncio.CancelledError:
            self._close("q")
            raise
        finally:
            tasks = [fetching, watching, *([self._learning] if self._learning else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._sum_up()
        return self.outcome

    # ── what happens on the screen ────────────────────────────────────────────────────────────────────────────────

    async def _watch(self, fetching: asyncio.Task[None]) -> None:
        """Follow the playback: report each change when it comes, beat the heart, do what the member does."""
        heartbeat_ms = self._pressed_ms + HEARTBEAT_MS
        while not self.outcome.state:
            if fetching.done() and (error := fetching.exception()) is not None:
                if not isinstance(error, Unplayable):
                    raise error
                self._fail(str(error))
                return
            now_ms = self._catch_up()
            while self._actions and self._pressed_ms + self._actions[0].at_ms <= now_ms:
                self._act(self._actions.pop(0), now_ms)
            if now_ms >= heartbeat_ms and not self.outcome.state:
                self._reporter.report("t", now_ms, **self._status(now_ms))
                heartbeat_ms += HEARTBEAT_MS
            due = [heartbeat_ms, *(self._pressed_ms + a.at_ms for a in self._actions[:1])]
            if self._playback and (change_ms := self._playback.due_ms()) is not None:
                due.append(change_ms)
            await self._sleep_until(min(due), fetching)

    async def _sleep_until(self, at_ms: int, fetching: asyncio.Task[None]) -> None:
        """Sleep until then, or until something changed on the screen, or fetching came to an end."""
        self._news.clear()
        alarms = [asyncio.create_task(self._news.wait()), asyncio.create_task(self._clock.until(at_ms))]
        try:
            await asyncio.wait([*alarms, fetching], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for alarm in alarms:
                alarm.cancel()

    def _catch_up(self) -> int:
        """Let the screen catch up with the clock, and report what changed on it; returns what time it is."""
        now_ms = self._clock.now_ms()
        if self._playback:
            self._tell(self._playback.advance(now_ms))
        return now_ms

    def _act(self, action: Action, now_ms: int) -> None:
        playback = self._playback
        if action.kind == "quit":
            self._close("q")
        elif playback is None:
            return  # nothing is on screen yet that could be paused or sought in
        elif action.kind == "pause":
            self._tell(playback.pause(now_ms))
        elif action.kind == "resume":
            self._tell(playback.resume(now_ms))
        else:
            self._tell(playback.seek(now_ms, min(action.to_ms, playback.length_ms - 1)))

    def _tell(self, changes: Sequence[Change]) -> None:
        """Report what changed on the screen."""
        assert self._playback
        for change in changes:
            if change.state == "p" and self._shown_kbps and change.kbps != self._shown_kbps and self._state == "p":
                self._shown_kbps = change.kbps
                self._reporter.report("bc", change.at_ms, **self._status(change.at_ms))
                continue
            self._shown_kbps = change.kbps
            self._starved |= change.state == "r"
            self._report_state(change.state, change.at_ms)
        if changes:
            self._news.set()

    def _report_state(self, state: str, at_ms: int) -> None:
        first_frame = state == "p" and self.outcome.startup_ms is None
        if first_frame:
            self.outcome.startup_ms = at_ms - self._pressed_ms
        self._state = state
        once = {"msd": self.outcome.startup_ms, **self._adapts()} if first_frame else {}
        self._reporter.report("ps", at_ms, **self._status(at_ms), **once)
        if state in "eqf":
            self.outcome.state = state

    def _status(self, at_ms: int) -> dict[str, Any]:
        """Keys that every event carries; figures are those of the playback when it is told."""
        playback = self._playback
        status: dict[str, Any] = {"sta": self._state, "tb": self._top_kbps, "br": self._shown_kbps or None, "mtp": self._measured}
        if playback:
            status |= {
                "bl": playback.buffer_ms,
                "pt": playback.playhead_ms,
                "pr": 1 if self._state == "p" else 0,
                "bsa": playback.rebuffer_count,
                "bsda": playback.spent_ms["r"],
            }
        return status

    def _adapts(self) -> dict[str, str]:
        """On what grounds it adapts, told once: `headrace abr explain` reads it. What is too long for CMCD is not told."""
        prior = self.ticket.prior
        told = {
            "ladder": " ".join(map(str, self._ladder_kbps)),
            "buffer-max": str(self._buffer_max_ms),
            "start": "" if (start := starts_at(self._ladder_kbps, self.ticket.flags)) is None else str(self._ladder_kbps[start]),
            "prior": "" if prior is None else f"{prior.mean_log_kbps:.4f} {prior.sd_log_kbps:.4f} {prior.weight:.4f}",
        }
        return {f"{CUSTOM}{name}": value for name, value in told.items() if 0 < len(value) <= CUSTOM_LENGTH}

    @property
    def _measured(self) -> int | None:
        """CMCD mtp: rounded to 100 kbit/s, at least that."""
        return max(100, round(self._throughputs_kbps[-1] / 100) * 100) if self._throughputs_kbps else None

    @property
    def _top_kbps(self) -> int | None:
        return self._ladder_kbps[-1] if self._ladder_kbps else None

    def _close(self, state: str) -> None:
        if self.outcome.state:
            return
        now_ms = self._clock.now_ms()
        if self._playback:
            self._tell(self._playback.quit(now_ms) if state == "q" else self._playback.fail(now_ms))
        else:
            self._report_state(state, now_ms)

    def _fail(self, code: str) -> None:
        now_ms = self._catch_up()
        if not self.outcome.state:
            self.outcome.errors.append(code)
            self._reporter.report("e", now_ms, **self._status(now_ms), ec=[code])
            self._close("f")

    def _sum_up(self) -> None:
        if self._playback:
            self.outcome.playing_ms = self._playback.spent_ms["p"]
            self.outcome.rebuffer_count = self._playback.rebuffer_count
            self.outcome.rebuffer_ms = self._playback.spent_ms["r"]

    # ── what goes over the network ────────────────────────────────────────────────────────────────────────────────

    async def _fetch(self) -> None:
        """Keep the buffer filled until the title is in it. Raises Unplayable."""
        manifests = await self._manifests()
        first = manifests[0]
        rungs = _rungs(first, self._max_height)
        self._ladder_kbps = tuple(first.video[rung].bandwidth_kbps for rung in rungs)
        playback = self._playback = Playback(self._pressed_ms, first.duration_ms)
        initialised: set[tuple[str, int]] = set()
        previous = -1
        while True:
            self._catch_up()
            if playback.buffered_ms >= first.duration_ms:  # all of it is there; a seek may throw some away again
                await self._clock.until(self._clock.now_ms() + 100)
                continue
            number = _containing(first.video[0].segments, playback.buffered_ms)
            start = starts_at(self._ladder_kbps, self.ticket.flags) if previous < 0 else None
            choice = Choice(start, 0) if start is not None else self._adapt(self._situation(first, rungs, number, previous, playback))
            if choice.pause_ms:
                await self._clock.until(self._clock.now_ms() + choice.pause_ms)
                continue  # a seek in the meantime may want another segment
            segment = first.video[0].segments[number]
            for kind, index in [("v", rungs[choice.index]), *(("a", 0) for _ in first.audio[:1])]:
                tracks = [manifest.video if kind == "v" else manifest.audio for manifest in manifests]
                kbps = tracks[0][index].bandwidth_kbps
                if (kind, index) not in initialised:
                    await self._get([t[index].init_url for t in tracks], ot="i", br=kbps)
                    initialised.add((kind, index))
                segment_urls = [_of(t[index], number).url for t in tracks]
                fetched = await self._get(segment_urls, ot=kind, br=kbps, d=segment.duration_ms)
                if kind == "v":
                    self.outcome.segments += 1
                    self._throughputs_kbps.append(fetched.progress.size * 8 / max(1, fetched.ttlb_ms))
                    self._delays_s.append(fetched.ttlb_ms / 1000)
            end_ms = segment.start_ms + segment.duration_ms
            self._tell(playback.append(self._clock.now_ms(), segment.start_ms, end_ms, self._ladder_kbps[choice.index]))
            self._news.set()  # more media: what is due on the screen has changed, even if nothing on it has
            previous = choice.index
            if self._learning is None and playback.buffer_ms >= SUMS_AFTER * segment.duration_ms:
                self._learning = asyncio.create_task(self._learn_sums())

    def _situation(self, manifest: Manifest, rungs: Sequence[int], number: int, previous: int, playback: Playback) -> Situation:
        """What is known before segment `number` is chosen. With each segment of video comes its audio, which takes from the link, too."""
        segments = manifest.video[0].segments
        tracks = [manifest.video[rung] for rung in rungs]
        coming = range(number, min(number + LOOK_AHEAD, len(segments)))
        audio = [sum(self._bytes(track, ahead) for track in manifest.audio[:1]) for ahead in coming]
        state = State(
            buffer_s=playback.buffer_ms / 1000, buffer_max_s=self._buffer_max_ms / 1000, segment_s=segments[number].duration_ms / 1000,
            bitrates_kbps=self._ladder_kbps,
            sizes=[[self._bytes(track, ahead) + more for track in tracks] for ahead, more in zip(coming, audio, strict=True)],
            left=len(segments) - number, previous=previous, throughputs_kbps=tuple(self._throughputs_kbps), delays_s=tuple(self._delays_s),
        )  # fmt: skip
        penalty_s = self._fetcher.penalty_ms(segments[number].duration_ms) / 1000
        return Situation(state, playback.playhead_ms / 1000, manifest.duration_ms / 1000, self.ticket.prior, penalty_s)

    def _bytes(self, track: Representation, number: int) -> float:
        """How large a segment is: as its checksum says, else by its bitrate."""
        segment = _of(track, number)
        known = self._sum(segment.url)
        return known.bytes if known and known.bytes else track.bandwidth_kbps * segment.duration_ms / 8

    @cached_property
    def _folder(self) -> str:
        """Of the title, at the first server."""
        return urljoin(self.ticket.manifest_urls[0], ".")

    def _sum(self, url: str) -> Sum | None:
        """What a file at the first server has to be, where that is known."""
        return self._sums.get(unquote(url.removeprefix(self._folder))) if self._sums else None

    async def _manifests(self) -> list[Manifest]:
        """The manifest as each server would give it: fetched once, its addresses resolved against each server's."""
        fetched = await self._get(list(self.ticket.manifest_urls), ot="m")
        try:
            return [parse(bytes(fetched.content).decode(), url) for url in self.ticket.manifest_urls]
        except (BadManifest, UnicodeDecodeError) as error:
            raise Unplayable(f"manifest: {error}"[:200]) from None

    async def _learn_sums(self) -> None:
        """What the title's files have to be, if the server in use can say so."""
        urls = [urljoin(url, CHECKSUMS) for url in self.ticket.manifest_urls]
        learnt = await self._fetcher.once(self._fetcher.servers.in_use, Wanted(urls, keep=True), self._keys(ot="o"))
        with contextlib.suppress(InvalidChecksums):
            self._sums = read_checksums(bytes(learnt.content)).files if learnt.cause is None else {}

    async def _get(self, urls: Sequence[str], *, ot: str, br: int | None = None, d: int | None = None) -> Transfer:
        """Fetch one object, from whichever server gives it in time. Raises Unplayable."""
        known = self._sum(urls[0])
        wanted = Wanted(urls, d, known.sha256 if known else None, keep=ot == "m")
        try:
            return await self._fetcher.get(wanted, lambda: self._keys(ot=ot, br=br, d=d))
        except Unplayable as error:
            raise Unplayable(f"{ot}:{error}") from None

    def _keys(self, **about: Any) -> dict[str, Any]:
        """What CMCD says of a request."""
        self._catch_up()
        keys = {**about, "bl": self._playback.buffer_ms if self._playback else None, "mtp": self._measured, "tb": self._top_kbps}
        keys["bs"], self._starved = self._starved or None, False
        return keys

    def ask(self, keys: Mapping[str, Any]) -> str:
        """The CMCD argument of a request that is about to be made."""
        return self._reporter.request(**keys)

    def drains_ms(self) -> int | None:
        """The buffer that is left, ms; None while it does not run dry."""
        self._catch_up()
        return self._playback.buffer_ms if self._playback and self._state in "prk" else None

    def requested(self, transfer: Transfer) -> None:
        """Report a request that has ended."""
        self._reporter.report(
            "rr", transfer.asked_ms, **transfer.keys, sta=self._state, url=transfer.url, rc=transfer.rc, ttfb=transfer.ttfb_ms,
            ttlb=transfer.ttlb_ms, **{f"{CUSTOM}oca": transfer.oca_id, f"{CUSTOM}bytes": transfer.progress.size},
        )  # fmt: skip

    def switched(self, left: str, to: str, cause: Cause) -> None:
        """Count and report that the server in use is another one."""
        self.outcome.failovers += 1
        now_ms = self._catch_up()
        names = {f"{CUSTOM}from": left, f"{CUSTOM}to": to, f"{CUSTOM}cause": cause}
        self._reporter.report("ce", now_ms, **self._status(now_ms), cen=SWITCH, **names)


def _containing(segments: Sequence[Segment], position_ms: int) -> int:
    """Number of the segment that holds a position of the title."""
    return next((i for i, s in enumerate(segments) if position_ms < s.start_ms + s.duration_ms), len(segments) - 1)


def _of(track: Representation, number: int) -> Segment:
    """A track's segment of this number; the last one where it has fewer."""
    return track.segments[min(number, len(track.segments) - 1)]


def _rungs(manifest: Manifest, max_height: int) -> list[int]:
    """Which of the video's encodings make the ladder: those that fit the screen, one of each bitrate. Raises Unplayable."""
    top = max((i for i, r in enumerate(manifest.video) if r.height <= max_height), default=0)
    found: list[int] = []
    for index, encoding in enumerate(manifest.video[: top + 1]):
        if encoding.bandwidth_kbps > (manifest.video[found[-1]].bandwidth_kbps if found else 0):
            found.append(index)
    if not found:
        raise Unplayable("manifest: no encoding has a bitrate")
    return found


def _shared(ticket: Ticket, device: Device, abr: str) -> dict[str, Any]:
    """What every report of the session carries."""
    return {
        "sid": ticket.sid,
        "cid": ticket.cid,
        f"{CUSTOM}cid": ticket.correlation_id,
        f"{CUSTOM}member": device.member,
        f"{CUSTOM}device": device.kind,
        f"{CUSTOM}player": device.player,
        f"{CUSTOM}region": device.region,
        f"{CUSTOM}asn": device.asn,
        f"{CUSTOM}network": device.network_type,
        f"{CUSTOM}abr": TOLD.get(abr, abr),
    }
