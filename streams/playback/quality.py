"""`quality(timeline)`: the table function by which Flink calls `qoe.session`, one call and at most one row per session."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pyflink.common import Row
from pyflink.table import DataTypes
from pyflink.table.udf import udtf

from streams.playback import qoe, timeline

TYPES = {
    "reports": DataTypes.INT(),
    "cid": DataTypes.STRING(),
    "member_id": DataTypes.STRING(),
    "device_type": DataTypes.STRING(),
    "player": DataTypes.STRING(),
    "region": DataTypes.STRING(),
    "isp_asn": DataTypes.INT(),
    "oca_id": DataTypes.STRING(),
    "started_at": DataTypes.TIMESTAMP(3),
    "ended_at": DataTypes.TIMESTAMP(3),
    "end_reason": DataTypes.STRING(),
    "startup_ms": DataTypes.INT(),
    "playing_ms": DataTypes.BIGINT(),
    "rebuffer_count": DataTypes.INT(),
    "rebuffer_ms": DataTypes.BIGINT(),
    "rebuffer_ratio": DataTypes.DOUBLE(),
    "average_bitrate_kbps": DataTypes.INT(),
    "time_weighted_bitrate_kbps": DataTypes.INT(),
    "switches": DataTypes.INT(),
    "segments": DataTypes.INT(),
    "failed_start": DataTypes.BOOLEAN(),
    "exit_before_video_start": DataTypes.BOOLEAN(),
    "in_play_failure": DataTypes.BOOLEAN(),
    "failovers": DataTypes.INT(),
}
"""The columns of playback.qoe_session after `sid`, in the contract's order; a test holds them against it."""

COLUMNS = ", ".join(TYPES)


def row(metrics: dict[str, Any]) -> Row:
    """The metrics as Flink takes them."""
    times = {name: datetime.fromtimestamp(metrics[name] / 1000, UTC).replace(tzinfo=None) for name in ("started_at", "ended_at")}
    return Row(*((metrics | times)[name] for name in TYPES))


@udtf(result_types=list(TYPES.values()))  # type: ignore[untyped-decorator]
def quality(packed: str) -> Iterator[Row]:
    """The quality of the session with this timeline; no row where nobody is known to have watched."""
    metrics = qoe.session(timeline.unpack(packed))
    if metrics is not None:
        yield row(metrics)


@udtf(result_types=list(TYPES.values()))  # type: ignore[untyped-decorator]
def corrected(timelines: str) -> Iterator[Row]:
    """The quality of the session that these timelines (joined by BETWEEN_TIMELINES) are parts of; no row where one part is the whole."""
    parts = [timeline.unpack(part) for part in timelines.split(timeline.BETWEEN_TIMELINES)]
    metrics = qoe.session(report for part in parts for report in part)
    if metrics is not None and metrics["reports"] > max(len({report.event_id for report in part}) for part in parts):
        yield row(metrics)
