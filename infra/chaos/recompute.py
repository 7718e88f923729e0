"""The batch recomputation: quality of every session from the raw table, against what jobs, topics and loader made of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from clickhouse_connect.driver.client import Client

from infra.base.settings import settings
from schemas.catalogue import catalogue
from streams.playback.qoe import session

NAMED = 20
PIECES = 16
"""Sessions are read in so many pieces by hash of their sid: that bounds memory."""


@dataclass
class Recomputed:
    """Sessions compared, and how they differ: `mismatches` counts sessions, `named` says of the first ones what is different."""

    sessions: int = 0
    mismatches: int = 0
    named: list[str] = field(default_factory=list)

    def differs(self, sid: str, words: str) -> None:
        """Note a session that came out different."""
        self.mismatches += 1
        if len(self.named) < NAMED:
            self.named.append(f"session {sid}: {words}")


def recompute(client: Client) -> Recomputed:
    """Compare the view `qoe_sessions` with `streams.playback.qoe.session` over all distinct reports of each session. Blocks."""
    result = Recomputed()
    for piece in range(PIECES):
        stored = {row["sid"]: row for row in _rows(client, "qoe_sessions", f"cityHash64(sid) % {PIECES} = {piece}", "sid")}
        condition = f"NOT marker AND cityHash64(sid) % {PIECES} = {piece}"
        for sid, reports in groupby(_rows(client, "playback_report", condition, "sid"), key=lambda row: str(row["sid"])):
            expected = session(reports)
            found = stored.pop(sid, None)
            if expected is None and found is None:
                continue
            result.sessions += 1
            if words := difference(expected, found):
                result.differs(sid, words)
        for sid in stored:
            result.differs(sid, "has a row, and no report")
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
