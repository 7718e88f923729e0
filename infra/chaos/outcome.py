"""What became of viewers between two moments, from the warehouse: where new sessions were sent, who waited, who switched, who failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clickhouse_connect.driver.client import Client

from infra.base import warehouse
from infra.chaos.waiting import until

ARRIVE_S = 45.0
"""What was told at the end of a span takes so long to be stored at most."""

SENT = """
SELECT count(), countIf(best_oca_id IN {victims:Array(String)}), maxIf(event_time, best_oca_id IN {victims:Array(String)})
FROM delivery_steering
WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
"""
WAITED = """
WITH states AS (
  SELECT
    sid, event_time AS at, sta,
    leadInFrame(event_time, 1, {to:DateTime64(3, 'UTC')}) OVER told AS until_at,
    maxIf(1, sta = 'p') OVER (PARTITION BY sid ORDER BY event_time, sn ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS has_played
  FROM playback_report
  WHERE NOT marker AND e = 'ps' AND event_time >= {from:DateTime64(3, 'UTC')} - INTERVAL 5 MINUTE AND event_time < {to:DateTime64(3, 'UTC')}
  WINDOW told AS (PARTITION BY sid ORDER BY event_time, sn ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
)
SELECT count(), max(date_diff('millisecond', at, until_at)), uniqExact(sid)
FROM states
WHERE sta = 'r' AND has_played AND at >= {from:DateTime64(3, 'UTC')}
"""
SESSIONS = """
SELECT
  uniqExact(sid), uniqExactIf(sid, sta = 'f'), uniqExactIf(sid, msd_ms IS NOT NULL),
  quantileExactIf(0.5)(msd_ms, msd_ms IS NOT NULL), quantileExactIf(0.95)(msd_ms, msd_ms IS NOT NULL),
  countIf(e = 'rr'), countIf(e = 'rr' AND (rc = 0 OR rc >= 400))
FROM playback_report
WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
"""
COUNTED = """
SELECT {{by}}, {{what}} AS counted
FROM {{table}}
WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  AND {{where}}
GROUP BY {{by}}
ORDER BY {{order}}
"""
NEWEST = "SELECT toUnixTimestamp64Milli(max(event_time)) FROM {{table}} WHERE NOT marker"
TABLES = ("playback_report", "delivery_steering", "delivery_access")


@dataclass(frozen=True)
class Outcome:
    """One span. Times are of events, durations in ms; what nobody told is None or 0."""

    decisions: int
    """New sessions, and sessions that asked again."""
    to_victims: int
    """Of them, those that were sent to a server in trouble first."""
    last_to_victims_ms: int | None
    """When the last of these was, ms since 1970."""
    sent_to: Mapping[str, int]
    """Decisions by the server that came first."""
    sessions: int
    started: int
    failed: int
    startup_p50_ms: float | None
    startup_p95_ms: float | None
    rebuffers: int
    """Of sessions that had begun to play."""
    longest_rebuffer_ms: int
    rebuffered_sessions: int
    requests: int
    failed_requests: int
    switches: Mapping[str, int] = field(default_factory=dict)
    """Mid-stream switches of players by cause."""
    misses: Mapping[str, int] = field(default_factory=dict)
    served_bytes: Mapping[str, int] = field(default_factory=dict)
    """To players, by tier."""


def outcome(from_ms: int, to_ms: int, victims: Sequence[str]) -> Outcome:
    """What the warehouse knows of a span; waits until it knows all of it. Raises TimeoutError."""
    client = warehouse.reader()
    arrived(client, to_ms)
    asked = {"from": from_ms / 1000, "to": to_ms / 1000, "victims": list(victims)}
    ((decisions, to_victims, last),) = _rows(client, SENT, asked)
    ((rebuffers, longest, rebuffered),) = _rows(client, WAITED, asked)
    ((sessions, failed, started, p50, p95, requests, failed_requests),) = _rows(client, SESSIONS, asked)

    def counted(table: str, by: str, order: str, what: str = "count()", where: str = "TRUE") -> dict[str, int]:
        return dict(_rows(client, _filled_in(COUNTED, table=table, by=by, order=order, what=what, where=where), asked))

    return Outcome(
        decisions=decisions,
        to_victims=to_victims,
        last_to_victims_ms=round(last.timestamp() * 1000) if to_victims else None,
        sent_to=counted("delivery_steering", "best_oca_id", order="best_oca_id"),
        sessions=sessions,
        started=started,
        failed=failed,
        startup_p50_ms=float(p50) if started else None,
        startup_p95_ms=float(p95) if started else None,
        rebuffers=rebuffers,
        longest_rebuffer_ms=longest if rebuffers else 0,
        rebuffered_sessions=rebuffered,
        requests=requests,
        failed_requests=failed_requests,
        switches=counted("playback_oca_switch", "switch_cause", order="counted DESC"),
        misses=counted("delivery_miss", "cause", order="counted DESC"),
        served_bytes=counted("delivery_access", "tier", order="tier", what="sum(bytes)", where="sid IS NOT NULL"),
    )


def arrived(client: Client, at_ms: int) -> None:
    """Wait until what was told at a moment is stored. Raises TimeoutError, which names the table that is behind."""
    behind: list[str] = []

    def is_there() -> bool:
        behind[:] = [table for table in TABLES if _rows(client, _filled_in(NEWEST, table=table), {})[0][0] < at_ms]
        return not behind

    until(
        is_there, ARRIVE_S, lambda: f"{', '.join(behind)} has nothing of {at_ms} or later: does anybody watch? `headrace up --players 24`"
    )


def _filled_in(sql: str, **names: str) -> str:
    """A statement with names of ours in the place of `{{name}}`; values are bound."""
    for name, text in names.items():
        sql = sql.replace(f"{{{{{name}}}}}", text)
    return sql


def _rows(client: Client, sql: str, asked: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(sql, dict(asked)).result_rows]
