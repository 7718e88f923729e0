"""Quality of experience of one session, from all its reports: the one place where the metrics of CTA-2066 are computed.

    session(reports) -> fields of playback.qoe_session

The result is a function of the *set* of reports. They may come in any order and any number of times: they are told apart by `event_id`
and put in order by `event_time`, then `sn`. The Flink jobs, the tests and the recomputation that judges them all call this function.

The rules, with the metric of CTA-2066 they implement:

- *State.* A report of kind `ps` with `sta` changes the state; it lasts until the next one. Heartbeats may carry `sta` but change nothing.
  The first `e`, `f` or `q` closes the session; what is stamped later only counts as a report.
- *Silence.* Between two reports more than `SILENCE_MS` apart nothing is known: the state accumulates up to the earlier one and goes on
  from the later one. A session that no report closes ends with its last report, by silence.
- *Video startup time.* `msd_ms` as the player measured it; else first playing − first starting; null where no frame was shown.
- *Connection-induced rebuffering.* Rebuffering or waiting after the first frame, unless a seek came since it last played. It is
  one rebuffering until it plays again, also where a pause lies in between; the pause is not counted as rebuffering time.
  The player's own counters (`bsa`, `bsda_ms`) win where they are larger: they know of states that were never reported. A `bsda_ms`
  longer than the time since the first frame contradicts the clock, and then neither counter is believed.
- *Average bitrate* is over the video segments fetched, weighted by duration (equally where no segment tells its own).
- *Time-weighted bitrate* is over the time in state playing, of the bitrate that reports other than segments say is on screen, or, if
  none ever says, of the segment fetched last.
- *Video start failure*: an error and no first frame. *Exit before video start*: neither error nor first frame.
  *Video playback failure*: closed by a fatal error after the first frame.
- *Requests.* A player may tell of the same request twice: itself, when it has the response (`e=rr`), and in request mode, by way of the
  cache server. In a session with any `rr` of the player's own, request mode counts as reports and as nothing else. In one without, its
  requests are the segments; and where the player reports nothing of its own at all, their `sta` are the changes of state. Version 1
  has no `sta`: who fetched video then counts as having seen it, and nothing is known of the time spent.
- *Failover* is no metric of CTA-2066: a request fails and the next one goes to another cache server, whatever was asked for. A manifest
  counts like a segment, because the viewer waits for either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from operator import attrgetter
from typing import Any, NamedTuple

SILENCE_MS = 60_000
"""Without a report for longer than this, what the player does is unknown."""

MOST_REPORTS = 20_000
"""A report with this `sn` or a higher one is not looked at: eleven hours of segments, and a bound on what one session may cost."""

REQUESTED = "requested"
"""What `e` is here of a report in request mode. No player can send it."""

CLOSING = {"e": "ended", "q": "quit", "f": "fatal"}
STALLED = frozenset("rw")
ABOUT_THE_SESSION = ("cid", "member_id", "device_type", "player", "region", "isp_asn")


class Report(NamedTuple):
    """What the metrics need of one playback.report, by its names: time in ms since 1970, an absent number None, an absent text empty."""

    event_id: str
    event_time: int
    sn: int
    e: str
    sta: str = ""
    br_kbps: int | None = None
    ot: str = ""
    d_ms: int | None = None
    oca_id: str = ""
    rc: int | None = None
    msd_ms: int | None = None
    bsa: int | None = None
    bsda_ms: int | None = None
    cid: str = ""
    member_id: str = ""
    device_type: str = ""
    player: str = ""
    region: str = ""
    isp_asn: int | None = None

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Report:
        """Of a playback.report's fields by name; `event_time` in ms since 1970 or as a datetime (UTC where it has no zone)."""
        known = {name: event[name] for name in cls._fields if event.get(name) is not None}
        if event.get("target", "").startswith("request:"):
            known["e"] = REQUESTED
        return cls(**known | {"event_time": _ms(event["event_time"])})


def session(reports: Iterable[Report]) -> dict[str, Any] | None:
    """The fields of playback.qoe_session but `sid` and the envelope; times in ms since 1970.

    None where there are only segments, or nothing: without a change of state, a heartbeat or an error nobody is known to have watched.
    """
    distinct = _in_order(reports)
    known = _told_once(distinct)
    if all(report.e == "rr" for report in known):
        return None
    closed_by = next((i for i, r in enumerate(known) if r.e == "ps" and r.sta in CLOSING), None)
    lived = known if closed_by is None else known[: closed_by + 1]
    said = [r for r in lived if r.e != "rr"]
    asked = [r for r in lived if r.e == "rr"]
    fetched = [r for r in asked if _is_video(r) and _succeeded(r)]

    play = _Playback(lived)
    started_at = play.starting_at if play.starting_at is not None else lived[0].event_time
    ended_at = lived[-1].event_time
    measured_startup_ms = next((r.msd_ms for r in lived if r.msd_ms is not None and r.msd_ms >= 0), None)
    only_fetched = bool(fetched) and all(r.e == REQUESTED and not r.sta for r in distinct)
    shown = play.first_frame_at is not None or measured_startup_ms is not None or only_fetched
    failed = any(r.e == "e" or (r.e == "ps" and r.sta == "f") for r in said)
    end_reason = "silence" if closed_by is None else CLOSING[known[closed_by].sta]
    rebuffer_count, rebuffer_ms = _with_counters(play, lived, ended_at)
    watched_ms = play.playing_ms + rebuffer_ms
    return {
        "reports": len(distinct),
        **{name: next((value for value in map(attrgetter(name), said) if value not in ("", None)), None) for name in ABOUT_THE_SESSION},
        "oca_id": _most_used(r.oca_id for r in fetched if r.oca_id),
        "started_at": started_at,
        "ended_at": ended_at,
        "end_reason": end_reason,
        "startup_ms": measured_startup_ms if measured_startup_ms is not None else play.startup_ms,
        "playing_ms": play.playing_ms,
        "rebuffer_count": rebuffer_count,
        "rebuffer_ms": rebuffer_ms,
        "rebuffer_ratio": rebuffer_ms / watched_ms if watched_ms else 0.0,
        "average_bitrate_kbps": _average_bitrate_kbps(fetched),
        "time_weighted_bitrate_kbps": _ratio_half_up(play.kbps_ms, play.known_bitrate_ms),
        "switches": _changes([r.br_kbps for r in fetched if r.br_kbps is not None]),
        "segments": len(fetched),
        "failed_start": failed and not shown,
        "exit_before_video_start": not failed and not shown,
        "in_play_failure": end_reason == "fatal" and shown,
        "failovers": _failovers([r for r in asked if r.oca_id]),
    }


class _Playback:
    """What the changes of state add up to, over reports in order."""

    def __init__(self, lived: list[Report]) -> None:
        self.starting_at: int | None = None
        self.first_frame_at: int | None = None
        self.playing_ms = 0
        self.rebuffer_count = 0
        self.rebuffer_ms = 0
        self.kbps_ms = 0
        self.known_bitrate_ms = 0
        told = any(r.br_kbps is not None for r in lived if r.e != "rr")
        state, bitrate, sought, stalled = "", None, False, False
        before = lived[0].event_time
        for report in lived:
            at = report.event_time
            passed_ms = at - before if at - before <= SILENCE_MS else 0
            if state == "p":
                self.playing_ms += passed_ms
                if bitrate is not None:
                    self.kbps_ms += bitrate * passed_ms
                    self.known_bitrate_ms += passed_ms
            elif stalled and state in STALLED:
                self.rebuffer_ms += passed_ms
            before = at
            if report.br_kbps is not None and (report.e != "rr" if told else _is_video(report) and _succeeded(report)):
                bitrate = report.br_kbps
            if report.e != "ps" or not report.sta:
                continue
            state = report.sta
            if state == "s" and self.starting_at is None:
                self.starting_at = at
            elif state == "p":
                self.first_frame_at = at if self.first_frame_at is None else self.first_frame_at
                sought = stalled = False
            elif state == "k":
                sought, stalled = True, False
            elif state in STALLED and self.first_frame_at is not None and not sought and not stalled:
                stalled = True
                self.rebuffer_count += 1

    @property
    def startup_ms(self) -> int | None:
        """First playing − first starting; null where either is missing or they contradict each other."""
        if self.starting_at is None or self.first_frame_at is None or self.first_frame_at < self.starting_at:
            return None
        return self.first_frame_at - self.starting_at


def _in_order(reports: Iterable[Report]) -> list[Report]:
    """Distinct reports, in order. Of two that share an event_id but differ, the one that sorts first stands."""
    distinct: dict[str, Report] = {}
    for report in sorted([r for r in reports if r.sn < MOST_REPORTS], key=attrgetter("event_time", "sn", "event_id")):
        distinct.setdefault(report.event_id, report)
    return list(distinct.values())


def _told_once(reports: list[Report]) -> list[Report]:
    """The reports, each request among them told once: see *Requests* above."""
    requested = [r for r in reports if r.e == REQUESTED]
    if not requested:
        return reports
    own = [r for r in reports if r.e != REQUESTED]
    if any(r.e == "rr" for r in own):
        return own
    if own:
        return [r._replace(e="rr") if r.e == REQUESTED else r for r in reports]
    return [said for r in requested for said in (r._replace(e="ps", br_kbps=None, ot="", rc=None), r._replace(e="rr"))]


def _ms(time: int | datetime) -> int:
    if isinstance(time, int):
        return time
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def _is_video(report: Report) -> bool:
    return report.ot in ("v", "av") or (not report.ot and report.br_kbps is not None)


def _succeeded(report: Report) -> bool:
    return report.rc is None or 200 <= report.rc < 300


def _with_counters(play: _Playback, lived: list[Report], ended_at: int) -> tuple[int, int]:
    """(count, ms) of rebufferings: derived from the states, or the player's own counters where they are larger."""
    if play.first_frame_at is None:
        return 0, 0
    counted = max([r.bsa for r in lived if r.bsa is not None], default=0)
    lasted_ms = max([r.bsda_ms for r in lived if r.bsda_ms is not None], default=0)
    if lasted_ms > ended_at - play.first_frame_at:
        return play.rebuffer_count, play.rebuffer_ms
    return max(play.rebuffer_count, counted), max(play.rebuffer_ms, lasted_ms)


def _average_bitrate_kbps(fetched: list[Report]) -> int | None:
    told = [(r.br_kbps, r.d_ms or 0) for r in fetched if r.br_kbps is not None]
    if not any(d_ms > 0 for _, d_ms in told):
        return _ratio_half_up(sum(br for br, _ in told), len(told))
    return _ratio_half_up(sum(br * d_ms for br, d_ms in told if d_ms > 0), sum(d_ms for _, d_ms in told if d_ms > 0))


def _ratio_half_up(numerator: int, denominator: int) -> int | None:
    return (2 * numerator + denominator) // (2 * denominator) if denominator else None


def _changes(values: list[Any]) -> int:
    return sum(a != b for a, b in pairwise(values))


def _failovers(asked: list[Report]) -> int:
    return sum(not _succeeded(a) and a.oca_id != b.oca_id for a, b in pairwise(asked))


def _most_used(names: Iterable[str]) -> str | None:
    counts = Counter(names)
    return min(counts, key=lambda name: (-counts[name], name)) if counts else None
