"""From what players reported to the bandwidth that they had: traces to train and judge on. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from producers.abr.environment import PAYLOAD, Trace

LEAST_SEGMENTS = 8
"""A session with fewer says nothing of how bandwidth goes on."""
LEAST_BYTES = 16_384
"""Of a segment that counts: of less, the round trip is all there is."""
LONGEST_S = 60.0
"""A gap between two segments (a pause, a full buffer) is taken for so long at most."""
MAX_MBPS = 10_000.0


class Recorded(NamedTuple):
    """One session's bandwidth, and when it began, ms since 1970."""

    began_ms: int
    trace: Trace


def traces(reports: Iterable[Mapping[str, Any]]) -> list[Recorded]:
    """The bandwidth of each session of some `playback.report`, event_time in ms, by beginning and session.

    A segment says how fast bytes came from its request to the next one; what the environment takes for headers is added. A segment told of
    twice counts once. What failed, what cache servers heard, what cannot be true, and sessions of fewer than `LEAST_SEGMENTS` are left out.
    """
    by_sid: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    for report in reports:
        size, took_ms = report.get("bytes") or 0, report.get("ttlb_ms") or 0
        if fetched(report) and size >= LEAST_BYTES and took_ms > 0:
            mbps = size * 8 / took_ms / 1000 / PAYLOAD
            if mbps <= MAX_MBPS:
                by_sid[report["sid"]][report["event_time"]] = (took_ms / 1000, mbps)
    found = [_session(sid, segments) for sid, segments in by_sid.items() if len(segments) >= LEAST_SEGMENTS]
    return sorted(found, key=lambda session: (session.began_ms, session.trace.name))


def fetched(report: Mapping[str, Any]) -> bool:
    """Whether a player, and no cache server, tells of a segment of video that came whole."""
    came = report["e"] == "rr" and report.get("ot") == "v" and report.get("rc") == 200
    return came and not report["marker"] and not report["target"].startswith("request:")


def _session(sid: str, segments: Mapping[int, tuple[float, float]]) -> Recorded:
    in_order = sorted(segments.items())
    times_s, rates, clock_s = [0.0], [in_order[0][1][1]], 0.0
    for (at_ms, (took_s, mbps)), (next_ms, _) in zip(in_order, [*in_order[1:], (math.inf, None)], strict=True):
        clock_s += min(max((next_ms - at_ms) / 1000, 0.001), LONGEST_S) if math.isfinite(next_ms) else took_s
        times_s.append(clock_s)
        rates.append(mbps)
    return Recorded(in_order[0][0], Trace(sid, tuple(times_s), tuple(rates)))
