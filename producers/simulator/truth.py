"""Truth: the quality of a session computed from its timeline alone, never from its reports. Field names are those of playback.qoe_session.

Written to be obviously right rather than fast, and sharing no code with the jobs: it is what they are judged against.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise
from typing import Any

from producers.simulator.timeline import Fetch, Timeline

END_REASON = {"e": "ended", "q": "quit", "f": "fatal"}


def truth(line: Timeline, last_told_ms: int) -> dict[str, Any]:
    """The true figures. `last_told_ms` is the newest time that any report spoke of: where a session falls silent, nobody can know more."""
    silent = line.silent_ms is not None and line.changes[-1].at_ms >= line.silent_ms
    known_to_ms = last_told_ms if silent else line.changes[-1].at_ms
    spans = [(a, min(b.at_ms, known_to_ms)) for a, b in pairwise(line.changes) if a.at_ms <= known_to_ms]
    playing = [(change.kbps, to_ms - change.at_ms) for change, to_ms in spans if change.state == "p"]
    stalled = [(change, to_ms) for change, to_ms in spans if change.state == "r" and _told(change.at_ms, line)]
    playing_ms = sum(length for _, length in playing)
    rebuffer_ms = sum(to_ms - change.at_ms for change, to_ms in stalled)
    first_frame = next((c.at_ms for c in line.changes if c.state == "p" and _told(c.at_ms, line)), None)
    done = [fetch for fetch in line.fetches if _told(fetch.done_ms, line)]
    video = [fetch for fetch in done if fetch.kind == "v" and fetch.rc == 200]
    broken = line.changes[-1].state == "f" and not silent
    return {
        "cid": line.title.cid,
        "member_id": line.member_id,
        "device_type": line.device.kind,
        "player": line.device.player,
        "region": line.region,
        "isp_asn": line.isp.asn,
        "oca_id": _most_used(video),
        "started_ms": 0,
        "ended_ms": known_to_ms,
        "end_reason": "silence" if silent else END_REASON[line.changes[-1].state],
        "startup_ms": first_frame,
        "playing_ms": playing_ms,
        "rebuffer_count": len(stalled),
        "rebuffer_ms": rebuffer_ms,
        "rebuffer_ratio": rebuffer_ms / (playing_ms + rebuffer_ms) if playing_ms + rebuffer_ms else 0.0,
        "average_bitrate_kbps": _mean([(fetch.kbps, fetch.length_ms) for fetch in video]),
        "time_weighted_bitrate_kbps": _mean(playing),
        "switches": sum(a.kbps != b.kbps for a, b in pairwise(video)),
        "segments": len(video),
        "failed_start": broken and first_frame is None,
        "exit_before_video_start": not broken and first_frame is None,
        "in_play_failure": broken and first_frame is not None,
        "failovers": _failovers(done),
    }


def _told(at_ms: int, line: Timeline) -> bool:
    return line.silent_ms is None or at_ms < line.silent_ms


def _mean(weighted: list[tuple[int, int]]) -> int | None:
    """Mean of values by their weights, rounded half up; None without weight."""
    weight = sum(w for _, w in weighted)
    return int(Fraction(sum(value * w for value, w in weighted), weight) + Fraction(1, 2)) if weight else None


def _most_used(video: list[Fetch]) -> str | None:
    served = Counter(fetch.oca_id for fetch in video)
    return min(served, key=lambda oca: (-served[oca], oca)) if served else None


def _failovers(requests: list[Fetch]) -> int:
    return sum(a.rc != 200 and a.oca_id != b.oca_id for a, b in pairwise(requests))
