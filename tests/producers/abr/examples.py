"""States and videos that more than one test begins with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from producers.abr.environment import LADDER_KBPS, Trace, Video
from producers.abr.state import State

CHUNK_S = 4.0


def video(chunks: int = 48, ladder: tuple[float, ...] = LADDER_KBPS) -> Video:
    """A video whose chunks have exactly the bitrate of their level."""
    return Video(tuple(tuple(kbps * 1000 / 8 * CHUNK_S for kbps in ladder) for _ in range(chunks)), ladder)


def steady(mbps: float) -> Trace:
    """Bandwidth that never changes."""
    return Trace(f"steady {mbps}", (0.0, 10.0, 20.0), (mbps, mbps, mbps))


def state(**changes: Any) -> State:
    """A session that is under way."""
    title = video()
    begun = State(
        buffer_s=12.0, buffer_max_s=60.0, segment_s=CHUNK_S, bitrates_kbps=title.bitrates_kbps, sizes=title.sizes[10:], left=38, previous=2,
        throughputs_kbps=(1500.0, 1600.0, 1400.0, 1500.0, 1550.0), delays_s=(3.0, 3.0, 3.4, 3.2, 3.1),
    )  # fmt: skip
    return replace(begun, **changes)
