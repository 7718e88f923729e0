"""The batch recomputation: from the raw tables, against what jobs, topics and loader made of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from clickhouse_connect.driver.client import Client

from edge import read_outs
from edge import recompute as sums
from infra.base.settings import settings
from schemas.catalogue import catalogue
from streams.environment import Job
from streams.playback.qoe import Report, session
from streams.route import routes

NAMED = 20
PIECES = 16
"""Sessions are read in so many pieces by hash of their sid: that bounds memory."""


@dataclass
class Recomputed:
    """Sessions, events or cells compared, and how they differ: `mismatches` counts them, `named` says what is different in the first."""

    compared: int = 0
    mismatches: int = 0
    named: list[str] = field(default_factory=list)

    def differs(self, what: str, words: str) -> None:
        """Note one that came out different."""
        self.mismatches += 1
        if len(self.named) < NAMED:
            self.named.append(f"{what}: {words}")


def recompute(client: Client) -> Recomputed:
    """Compare the view `qoe_sessions` with `streams.playback.qoe.session` over all distinct reports of each session. Blocks."""
    result = Recomputed()
    for piece in range(PIECES):
        stored = {row["sid"]: row for row in _rows(client, "qoe_sessions", f"cityHash64(sid) % {PIECES} = {piece}", "sid")}
        condition = f"NOT marker AND cityHash64(sid) % {PIECES} = {piece}"
        for sid, reports in groupby(_rows(client, "playback_report", condition, "sid"), key=lambda row: str(row["sid"])):
            expected = session(map(Report.of, reports))
            found = stored.pop(sid, None)
            if expected is None and found is None:
                continue
            result.compared += 1
            if words := difference(expected, found):
                result.differs(f"session {sid}", words)
        for sid in stored:
            result.differs(f"session {sid}", "has a row, and no report")
    return result


def recompute_routes(client: Client) -> Recomputed:
    """Compare what each route of topics.yaml has brought to its destination with what its source's table says should be there. Blocks.

    `where` is read by ClickHouse here; conditions that Flink reads otherwise would show as differences.
    """
    result = Recomputed()
    for route in routes(catalogue()):
        known_by = route.once_by or "event_id"
        source, destination = (f"`{settings().database}`.`{topic.table}`" for topic in (route.source, catalogue().topic(route.to)))
        arrived = f"(SELECT *, topic_time AS arrived_at FROM {source})"
        (condition,) = Job("route", route.where, f"route to {route.to}").statements  # with its constants put in
        times = "1" if route.once_by else "count()"
        wanted = f"SELECT {known_by} AS id, {times} AS wanted FROM {arrived} WHERE NOT marker AND ({condition}) GROUP BY id"
        found = f"SELECT {known_by} AS id, count() AS found FROM {destination} WHERE NOT marker GROUP BY id"
        for identity, brought, expected in client.query(
            f"SELECT id, found, wanted FROM ({wanted}) AS w FULL OUTER JOIN ({found}) AS f USING id"
        ).result_rows:
            result.compared += 1
            if brought != expected:
                result.differs(f"{route.to} {known_by} {identity}", f"there {brought} times, recomputed {expected}")
    return result


def recompute_experiments(client: Client) -> Recomputed:
    """Compare the sums that the stream tells of each experiment with those of every stored exposure and measurement. Blocks."""
    result, known = Recomputed(), read_outs.known(client)
    for key in known.experiments:
        found = sums.recompute(client, key, known)
        result.compared += found.cells
        for one in found.differences:
            cell = " / ".join(map(str, one.cell))
            result.differs(f"experiment {key}, {cell}", f"streamed {one.streamed}, recomputed {one.recomputed}")
        if found.too_late:
            result.differs(f"experiment {key}", f"{found.too_late} records came too late")
    return result


def difference(expected: Mapping[str, Any] | None, found: Mapping[str, Any] | None) -> str:
    """What differs, in words; empty where nothing does. Times are compared in ms."""
    if expected is None or found is None:
        return f"expected {'no row' if expected is None else 'a row'}, found {'none' if found is None else 'one'}"
    different = [name for name, value in expected.items() if _plain(found[name]) != _plain(value)]
    return "; ".join(f"{name} is {_plain(found[name])!r}, recomputed {_plain(expected[name])!r}" for name in different)


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return round(value.replace(tzinfo=value.tzinfo or dt.UTC).timestamp() * 1000)
    return value


def _rows(client: Client, table: str, condition: str, order: str) -> Iterator[dict[str, Any]]:
    names = [item["name"] for item in catalogue().topic("playback.report").event.fields] if table == "playback_report" else ["*"]
    sql = f"SELECT {', '.join(names)} FROM `{settings().database}`.`{table}` WHERE {condition} ORDER BY {order}"
    with client.query_row_block_stream(sql) as blocks:
        columns = blocks.source.column_names
        for block in blocks:
            for row in block:
                yield dict(zip(columns, row, strict=True))
