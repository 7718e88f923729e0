"""How long after it was produced can an event be queried, and how long after its last report a session's quality?

The whole way runs: Kafka, Flink with the job that makes the sessions, the loader, the warehouse. The other jobs rest, because two cores
do not carry all of them at 20,000 a second (docs/performance.md says what came of it). Load and probe are those of infra/bench/live.py.

`raw`: from when a report is due at the broker (what the replay falls behind counts too) to its row in playback_report.
`qoe_session_after_close`: from the arrival of the report that closes a session to the first row of playback_qoe_session.
"""

from __future__ import annotations

import numpy as np

from infra.bench import live
from infra.bench.harness import Figure, Options
from infra.bench.live import REPORTS, Times, quantile

FIGURES = {
    "raw_p50_s": Figure("s"),
    "raw_p99_s": Figure("s", 1.5, 3, higher=False),
    "qoe_session_after_close_p50_s": Figure("s"),
    "qoe_session_after_close_p99_s": Figure("s", 5, 8, higher=False),
    "events_per_s": Figure("events/s"),
}
JOBS = ("qoe_sessions",)
SECONDS = 120.0
SESSIONS = "playback_qoe_session"


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures per run; runs are stretches of time of one world, one right after the other."""
    seconds = options.seconds or SECONDS
    with live.world("latency", options, seconds, JOBS, [SESSIONS]) as world:
        stretches = world.stretches(options.runs, seconds)
        first_ms, last_ms = stretches[0][0], stretches[-1][1]
        world.settle(last_ms, lambda: _unseen(world, first_ms, last_ms))
        runs = [_figures(world, from_ms, to_ms) for from_ms, to_ms in stretches]
    world.judge(runs)
    return runs


def _unseen(world: live.World, from_ms: int, to_ms: int) -> int | str:
    close_s = _after_close_s(world, from_ms, to_ms)
    return int(np.isinf(close_s).sum()) if len(close_s) else "sessions that ended"


def _figures(world: live.World, from_ms: int, to_ms: int) -> dict[str, float]:
    """Figures of what arrived between two times."""
    raw_s, close_s = live.raw_s(world.sights[REPORTS], from_ms, to_ms), _after_close_s(world, from_ms, to_ms)
    return {
        "raw_p50_s": quantile(raw_s, 0.5),
        "raw_p99_s": quantile(raw_s, 0.99),
        "raw_max_s": float(raw_s.max()),
        "qoe_session_after_close_p50_s": quantile(close_s, 0.5),
        "qoe_session_after_close_p99_s": quantile(close_s, 0.99),
        "qoe_session_after_close_max_s": float(close_s.max()),
        "events_per_s": len(raw_s) / ((to_ms - from_ms) / 1000),
        "events": float(len(raw_s)),
        "sessions": float(len(close_s)),
    }


def _after_close_s(world: live.World, from_ms: int, to_ms: int) -> Times:
    """Seconds from a session's closing report, first arrived in the stretch, to the first row that knows of it; infinity without one."""
    closes = (
        "SELECT sid, toUnixTimestamp64Milli(min(topic_time)) AS closed_ms "
        f"FROM {REPORTS} WHERE e = 'ps' AND sta IN ('e', 'f', 'q') GROUP BY sid HAVING closed_ms BETWEEN {from_ms} AND {to_ms}"
    )
    # All rows of a session lie in one partition; an offset of -1 marks a session without any.
    first = (
        "SELECT sid, any(topic_partition) AS p, toNullable(min(topic_offset)) AS o "
        f"FROM {SESSIONS} WHERE end_reason != 'silence' GROUP BY sid"
    )
    joined = f"({closes}) AS closes LEFT JOIN ({first}) AS first USING sid"
    partitions, offsets, closed_ms = live.columns(f"SELECT p, ifNull(o, -1), closed_ms FROM {joined}")
    visible_at = world.sights[SESSIONS].visible_at(partitions, offsets)
    visible_at[offsets < 0] = np.inf
    return visible_at - closed_ms / 1000
