"""What is thought of each cache server, from what it says of itself and what players say of it. Pure: events in, verdicts out.

The rule is optimistic, as Traffic Control's: nothing is taken out on one witness's word. A server is down if it is silent, or if its own
reports and players agree that it fails; where only one side says so it is the last choice. Silence is measured on event time: the clock of
a partition is the newest event on it, markers of other servers included, so a reader that is behind, or a partition that stands still,
declares nobody dead. A server that has recovered stays the last choice until it has been well for a while: one that flaps is left alone.
Where only players found fault, its own reports cannot tell that it is well again, and who is not sent there cannot either: it is on
probation, at each relapse for twice as long, as BGP damps routes that flap (RFC 2439).

A verdict is of the time since when it holds, not of when it was found: a report tells of all the time since the one before it, and who is
silent has been so since its last report. Whoever holds what was served against it (the job `misses`) needs to know what was true then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SILENT_MS = 1_600
"""Servers report every half second; so long without a report on a partition that goes on, and a server is down."""
LATELY_MS = 5_000
"""How far back requests and failures count."""
WELL_MS = 3_000
"""How long a server must have been well before it is an equal choice again."""
PROBATION_MS, LONGEST_MS = 30_000, 600_000
"""How long a server stays the last choice after players alone found fault: the first time, and at most."""
RELAPSE_MS = 300_000
"""So long after a probation a new fault is a relapse."""
REBORN_MS = 1_000
"""A session that leaves a server so soon after that came back leaves the process that had died."""
QUORUM = 3
"""Sessions that must say the same before players are believed without the server's own word."""
FAILING = 0.05
"""Share of requests that fail from which on reports or players count as saying that it fails."""
SLOW_TTFB_US = 1_000_000
FULL = 0.95
"""Load from which on a server is the last choice."""
INCREDIBLE = 1.25
"""Load that no report can truly tell: counters and clock may differ by an interval's edge, not by more."""
AHEAD_MS = 1_000
"""A server's clock is believed so far beyond ours: one that runs ahead would declare all others silent."""
LOAD_STEP = 0.05
"""A change of load by less is not told."""


@dataclass(frozen=True)
class Verdict:
    """What is thought of one server; the fields of delivery.oca_health, and `at_ms`, the event time since when it is so."""

    oca_id: str
    state: str
    reason: str
    cause: str
    load: float
    failed_sessions: int
    requests: int
    at_ms: int

    def differs(self, told: Verdict | None) -> bool:
        """Whether somebody who was told `told` would want to know."""
        return told is None or (self.state, self.cause) != (told.state, told.cause) or abs(self.load - told.load) >= LOAD_STEP


@dataclass
class _Server:
    """What is remembered of one server."""

    oca_id: str
    partition: int
    epoch: int
    seen_ms: int
    before_ms: int
    """When it was seen before that: what its newest report tells has been so since then."""
    report: Mapping[str, Any]
    counts: deque[tuple[int, int, int]] = field(default_factory=deque)
    """(when, requests, errors) of its reports lately."""
    failures: deque[tuple[int, str]] = field(default_factory=deque)
    """(when, session) of requests that failed lately."""
    twin_ms: int | None = None
    """When an older incarnation was last heard beside this one."""
    ill_ms: int | None = None
    """When it was last anything but well."""
    ill_cause: str = ""
    """Why."""
    blame_from_ms: int = 0
    """What players tell of before was the fault of the process before this one."""
    blamed: bool = False
    """Players alone find fault with it now."""
    probation_ms: int = 0
    """How long the last probation is."""
    free_ms: int = 0
    """When it ends."""


class Servers:
    """Every server that has reported. Feed it in the order of each partition, then ask `verdicts`."""

    def __init__(self) -> None:
        self._servers: dict[str, _Server] = {}
        self._clocks: dict[int, int] = {}

    def pass_time(self, partition: int, event_time_ms: int, now_ms: int) -> int:
        """The clock of a partition of delivery.oca_report, moved on by an event on it, marker or report."""
        believed = min(event_time_ms, now_ms + AHEAD_MS)
        clock = self._clocks[partition] = max(believed, self._clocks.get(partition, 0))
        return clock

    def report(self, event: Mapping[str, Any], partition: int, event_time_ms: int, now_ms: int) -> None:
        """Take a delivery.oca_report event."""
        clock = self.pass_time(partition, event_time_ms, now_ms)
        known = self._servers.get(event["oca_id"])
        if known is None:
            known = self._servers[event["oca_id"]] = _Server(event["oca_id"], partition, event["epoch"], clock, clock, event)
        elif event["epoch"] < known.epoch:
            known.twin_ms = clock
            return
        elif event["epoch"] > known.epoch:
            known.epoch = event["epoch"]
            known.counts.clear()
            known.failures.clear()
            known.blame_from_ms = clock + REBORN_MS
        known.before_ms = min(known.seen_ms, clock)  # a server that moved to another partition has another clock
        known.partition, known.seen_ms, known.report = partition, clock, event
        known.counts.append((clock, max(0, event["requests"]), max(0, event["errors"])))

    def failed(self, event: Mapping[str, Any], event_time_ms: int) -> None:
        """Take a report of a request that failed (playback.failed_request), or of a session that has left a server for what it gave
        (playback.oca_switch); of a server that never reported it is not kept.
        """
        server = self._servers.get(event["switched_from"] or event["oca_id"] or "")
        if server is not None and event_time_ms >= server.blame_from_ms:
            server.failures.append((min(event_time_ms, self._clocks[server.partition]), event["sid"]))

    def verdicts(self) -> Iterator[Verdict]:
        """What is thought of each server at the time its partition has reached."""
        for server in self._servers.values():
            yield self._verdict(server, self._clocks[server.partition])

    def _verdict(self, server: _Server, now_ms: int) -> Verdict:
        for kept in (server.counts, server.failures):
            while kept and kept[0][0] <= now_ms - LATELY_MS:
                kept.popleft()
        requests = sum(count for _, count, _ in server.counts)
        failed_sessions = len({sid for _, sid in server.failures})
        load = load_of(server.report)
        silent = now_ms - server.seen_ms >= SILENT_MS
        if silent:
            state, cause, reason = "DOWN", "HEALTH", f"silent for {(now_ms - server.seen_ms) / 1000:.1f} s"
        else:
            state, cause, reason = self._judge(server, now_ms, requests, failed_sessions, load)
        if state == "UP":
            state, cause, reason = _recovering(server, now_ms) or (state, cause, reason)
        elif state != "DRAINING":
            server.ill_ms, server.ill_cause = now_ms, cause
        at_ms = server.seen_ms if silent else server.before_ms
        return Verdict(server.oca_id, state, reason, cause, load, failed_sessions, requests, at_ms)

    def _judge(self, server: _Server, now_ms: int, requests: int, failed_sessions: int, load: float) -> tuple[str, str, str]:
        """State, cause and reason of a server that reports, as if nothing had been before."""
        said = server.report
        if said["state"] == "DRAINING":
            return "DRAINING", "HEALTH", "it takes no new sessions, it says"
        own = _own_word(server, requests)
        players = failed_sessions if len(server.failures) >= FAILING * (requests + len(server.failures)) else 0
        _blame(server, now_ms, players >= QUORUM and not own)
        if own and players:
            return "DOWN", "HEALTH", f"{own}, and {players} sessions agree"
        if players >= QUORUM:
            return "DEGRADED", "HEALTH", f"{players} sessions say that it fails, its reports do not"
        if own:
            return "DEGRADED", "HEALTH", f"{own}, as its reports say and players do not"
        if server.twin_ms is not None and now_ms - server.twin_ms < LATELY_MS:
            return "DEGRADED", "HEALTH", "two servers report under this name"
        if wrong := incredible(said):
            return "DEGRADED", "HEALTH", f"its report cannot be true: {wrong}"
        if load >= FULL:
            return "DEGRADED", "LOAD", f"{load:.0%} of what it can send is in use"
        if said["ttfb_p99_us"] >= SLOW_TTFB_US:
            return "DEGRADED", "HEALTH", f"its first bytes take {said['ttfb_p99_us'] / 1e6:.1f} s"
        return "UP", "NONE", "well"


def load_of(report: Mapping[str, Any]) -> float:
    """Share of what a server can send now that it sent in its report's interval."""
    can_bps = report["egress_bps"] * (1 - min(max(report["throttle"], 0.0), 0.999))
    if can_bps <= 0 or report["interval_ms"] <= 0:
        return 0.0
    return max(0.0, float(report["bytes"] * 8_000 / report["interval_ms"] / can_bps))


def incredible(report: Mapping[str, Any]) -> str:
    """Why a report cannot be true, in words; empty if it can."""
    for name in ("interval_ms", "egress_bps", "disk_bytes"):
        if report[name] <= 0:
            return f"{name} is {report[name]}"
    for name in ("requests", "errors", "bytes", "connections", "ttfb_p99_us", "held_bytes"):
        if report[name] < 0:
            return f"{name} is {report[name]}"
    if not 0 <= report["throttle"] <= 1:
        return f"throttle is {report['throttle']}"
    if report["errors"] > report["requests"]:
        return f"{report['errors']} errors in {report['requests']} requests"
    if report["held_bytes"] > report["disk_bytes"]:
        return f"it holds {report['held_bytes']} bytes on a disk of {report['disk_bytes']}"
    sent_bps = report["bytes"] * 8_000 / report["interval_ms"]
    if sent_bps > INCREDIBLE * report["egress_bps"]:
        return f"it sent {sent_bps:.0f} bit/s and can send {report['egress_bps']}"
    return ""


def _own_word(server: _Server, requests: int) -> str:
    """What its own reports say against it, in words; empty if nothing."""
    errors = sum(count for _, _, count in server.counts)
    if errors and errors >= FAILING * requests:
        return f"{errors} of {requests} requests failed"
    if server.report["probe_us"] is None:
        return "it does not answer its own requests"
    return ""


def _blame(server: _Server, now_ms: int, blamed: bool) -> None:
    """Begin a probation where players begin to find fault; it goes on for as long as they do."""
    if blamed and not server.blamed:
        relapsed = server.probation_ms and now_ms - server.free_ms < RELAPSE_MS
        server.probation_ms = min(LONGEST_MS, 2 * server.probation_ms) if relapsed else PROBATION_MS
    if blamed:
        server.free_ms = now_ms + server.probation_ms
    server.blamed = blamed


def _recovering(server: _Server, now_ms: int) -> tuple[str, str, str] | None:
    """State, cause and reason of a server that is well again, but not for long; None if it is an equal choice."""
    if now_ms < server.free_ms:
        return (
            "DEGRADED",
            "HEALTH",
            f"players found fault with it, its reports did not: for {(server.free_ms - now_ms) / 1000:.0f} s more on probation",
        )
    if server.ill_ms is None or now_ms - server.ill_ms >= WELL_MS:
        return None
    return "DEGRADED", server.ill_cause, f"well for {(now_ms - server.ill_ms) / 1000:.1f} s of {WELL_MS / 1000:g}"
