"""What `abr_features` counts, as plain functions: sessions of reports and decisions, rows of sessions. Pure.

The job says the same in SQL; the golden cases hold both against one expectation. What has no Flink at hand (a benchmark, a training run
over recorded logs) takes these.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

START_REPORTS = 32
"""The first reports of a session, some ten segments among them: its start-up phase."""
LEAST_BYTES = 65_536
"""Of a segment that counts: of less, the start of the transfer is most of the time."""
SILENCE_MIN = 1
"""Without a report for so long a session is over."""
HOURS = 3
"""Length of a time of day."""
HALF_LIFE_S = 604_800
"""Seven days: a session counts half as much after that, and the same days of the week stay even."""
SINCE_MS = 1_767_225_600_000
"""2026-01-01, when a session weighs 1."""
MOST_HALVINGS = 900
"""Weights stay numbers: seventeen years before and after that nothing fades any more."""
PER_LOG = 10_000
"""Logarithms are counted in ten-thousandths, so that sums are whole numbers and equal in whatever order they are added up."""
MINUTE_MS = 60_000
BETWEEN = "\x1f"


@dataclass(frozen=True)
class Session:
    """One session that is over, and where, when and on what it was. Times are ms since 1970, logarithms of bit/s in ten-thousandths."""

    began_ms: int
    over_ms: int
    prefix: str
    isp_asn: int | None
    region: str
    device_type: str
    network_type: str
    mean: int
    freedom: int
    """Segments but one."""
    scatter: int
    """Sum of the squares of their distances from the mean."""
    start_mean: int | None
    """Of the start-up phase alone; None where no segment was in it."""
    stalled: bool


def counted(logs: Iterable[tuple[float, bool]]) -> tuple[int, int, int, int | None]:
    """(mean, freedom, scatter, start_mean) as in Session; `logs`: of each segment ln(bit/s), and whether it is of the start-up phase."""
    told = [(_whole(PER_LOG * log), early) for log, early in logs]
    values = [value for value, _ in told]
    first = [value for value, early in told if early]
    total = sum(values)
    scatter = _whole(sum(value * value for value in values) - total * total / len(values))
    return _whole(total / len(values)), len(values) - 1, scatter, _whole(sum(first) / len(first)) if first else None


def sessions(reports: Iterable[Mapping[str, Any]], decisions: Iterable[Mapping[str, Any]]) -> Iterator[Session]:
    """The sessions of `playback.report` and `delivery.steering`, in the order of their ids; event_time in ms, fields that lack are null."""
    by_sid: dict[str, list[tuple[int, bool, Mapping[str, Any]]]] = defaultdict(list)
    for steered, events in ((False, reports), (True, decisions)):
        for event in events:
            if not event.get("marker") and event.get("sid") is not None and not event.get("target", "").startswith("request:"):
                by_sid[event["sid"]].append((event["event_time"], steered, event))
    for _, told in sorted(by_sid.items()):
        burst: list[tuple[int, bool, Mapping[str, Any]]] = []
        for at in sorted(told, key=itemgetter(0)):
            if burst and at[0] > burst[-1][0] + SILENCE_MIN * MINUTE_MS:
                yield from _session(burst)
                burst = []
            burst.append(at)
        yield from _session(burst)


def segment_log(report: Mapping[str, Any]) -> float | None:
    """ln(bit/s) of the video segment that a report tells of; None where it tells of none that counts."""
    video = report.get("e") == "rr" and report.get("ot") == "v" and report.get("rc") == 200
    size, took_ms = report.get("bytes") or 0, report.get("ttlb_ms") or 0
    return math.log(8_000 * size / took_ms) if video and size >= LEAST_BYTES and took_ms > 0 else None


def _session(burst: list[tuple[int, bool, Mapping[str, Any]]]) -> Iterator[Session]:
    reports = [event for _, steered, event in burst if not steered]
    decisions = [event for _, steered, event in burst if steered]
    logs = [(log, event["sn"] < START_REPORTS) for event in reports if (log := segment_log(event)) is not None]
    if logs:
        mean, freedom, scatter, start_mean = counted(logs)
        isp, region = ((_most(decisions, name) or _most(reports, name)) for name in ("isp_asn", "region"))
        yield Session(
            burst[0][0],
            burst[-1][0] + SILENCE_MIN * MINUTE_MS - 1,
            _most(decisions, "client_prefix") or "",
            isp,
            region or "",
            _most(reports, "device_type") or "",
            _most(reports, "network_type") or "",
            mean,
            freedom,
            scatter,
            start_mean,
            any(event.get("e") == "ps" and event.get("sta") == "r" for event in reports),
        )


def _most(events: Iterable[Mapping[str, Any]], name: str) -> Any:
    """The greatest value of a field, as MAX in SQL: the same in whatever order the events come."""
    return max((value for event in events if (value := event.get(name)) is not None), default=None)


class Cell(NamedTuple):
    """A place at a time of day, or with a device and a network; None and empty as in `playback.abr_features`."""

    level: str
    client_prefix: str = ""
    isp_asn: int | None = None
    region: str = ""
    hour: int | None = None
    device_type: str = ""
    network_type: str = ""

    @property
    def item(self) -> str:
        """The key."""
        return BETWEEN.join("" if value is None else str(value) for value in self)


def cells(session: Session) -> list[Cell]:
    """Where a session counts: seven cells, fewer where its prefix, ISP or region is unknown."""
    hour = session.began_ms // 3_600_000 % 24 // HOURS * HOURS
    places = [Cell("GLOBAL")]
    if session.isp_asn is not None:
        places.append(Cell("ISP", isp_asn=session.isp_asn))
    if session.region:
        places.append(Cell("REGION", region=session.region))
    found = [Cell("PREFIX", client_prefix=session.prefix, hour=hour)] if session.prefix else []
    for place in places:
        found += [place._replace(hour=hour), place._replace(device_type=session.device_type, network_type=session.network_type)]
    return found


@dataclass
class _Sums:
    """Of the weighed sessions of a cell."""

    of: list[float] = field(default_factory=lambda: [0.0] * 9)

    def add(self, members: list[Session], weight: float) -> None:
        """A minute's sessions."""
        starts = [session.start_mean for session in members if session.start_mean is not None]
        minute = (
            len(members),
            sum(session.mean for session in members) / PER_LOG,
            sum(session.mean**2 for session in members) / PER_LOG**2,
            sum(session.freedom for session in members),
            sum(session.scatter for session in members) / PER_LOG**2,
            len(starts),
            sum(starts) / PER_LOG,
            sum(start**2 for start in starts) / PER_LOG**2,
            sum(session.stalled for session in members),
        )
        self.of = [before + value * weight for before, value in zip(self.of, minute, strict=True)]

    def row(self, weight: float) -> dict[str, Any]:
        """The fields of a row that are told of a cell."""
        sessions, total, squares, freedom, scatter, starts, start_total, start_squares, stalled = (value / weight for value in self.of)
        return {
            "sessions": _six(sessions),
            "mean_log_throughput": _six(total / sessions),
            "var_log_throughput": _six(max(squares / sessions - (total / sessions) ** 2, 0.0)),
            "within_log_throughput": _six(max(scatter / freedom, 0.0)) if freedom > 0 else None,
            "starts": _six(starts),
            "start_mean_log_throughput": _six(start_total / starts) if starts > 0 else None,
            "start_var_log_throughput": _six(max(start_squares / starts - (start_total / starts) ** 2, 0.0)) if starts > 0 else None,
            "stalled": _six(stalled / sessions),
        }


def rows(over: Iterable[Session]) -> Iterator[dict[str, Any]]:
    """The rows of `playback.abr_features` without their envelopes, but with event_time in ms, by minute and item."""
    sums: dict[Cell, _Sums] = defaultdict(_Sums)
    in_order = sorted(over, key=lambda session: session.over_ms)
    for minute, ended in groupby(in_order, key=lambda session: session.over_ms // MINUTE_MS):
        told_ms = (minute + 1) * MINUTE_MS
        weight = 2.0 ** max(min((told_ms - SINCE_MS) / 1000 / HALF_LIFE_S, MOST_HALVINGS), -MOST_HALVINGS)
        members: dict[Cell, list[Session]] = defaultdict(list)
        for session in ended:
            for cell in cells(session):
                members[cell].append(session)
        for cell in sorted(members, key=lambda cell: cell.item):
            sums[cell].add(members[cell], weight)
            yield {"event_time": told_ms, "item": cell.item, **cell._asdict(), **sums[cell].row(weight)}


def _whole(value: float) -> int:
    """Rounded half away from zero, as ROUND in SQL."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _six(value: float) -> float:
    """Rounded to six places as ROUND in SQL."""
    return float(Decimal(repr(value)).quantize(Decimal("1e-6"), ROUND_HALF_UP))
