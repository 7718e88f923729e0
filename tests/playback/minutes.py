"""What minutes come to, from all reports at once: slow and plain, to judge Minutes.java by.

Nothing is carried from report to report. Whatever is asked of a session at its i-th report is looked up among all reports up to it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from streams.playback.minute import LATEST_MIN, bucket
from streams.playback.qoe import CLOSING, MOST_REPORTS, SILENCE_MS, STALLED

MINUTE_MS = 60_000
APART_MS = 5 * MINUTE_MS
DIMENSIONS = ("cid", "device_type", "player", "region", "isp_asn")
CELL = ("minute", *DIMENSIONS, "oca_id")
SUMS = (
    "sessions", "attempts", "starts", "failed_starts", "exits_before_start", "in_play_failures", "playing_ms", "rebuffer_count",
    "rebuffer_ms", "known_bitrate_ms", "played_bits", "requests", "failed_requests", "received_bytes",
)  # fmt: skip
HISTOGRAMS = ("startup_ms", "ttfb_ms", "throughput_kbps")

Report = Mapping[str, Any]
Cell = tuple[Any, ...]
Fact = tuple[Cell, str, int]
"""That so much of something belongs to a cell; of a histogram the name is (histogram, bucket)."""


def minutes(arrivals: Iterable[tuple[int, Report]]) -> dict[Cell, Counter[Any]]:
    """Cell → what it comes to. `arrivals`: (arrived at, report with `event_time` in ms since 1970), in the order of the topic."""
    by_sid: dict[str, dict[tuple[str, int], Report]] = defaultdict(dict)
    for arrived_ms, report in arrivals:
        target = report.get("target", "")
        in_time = arrived_ms <= report["event_time"] + LATEST_MIN * MINUTE_MS
        if report["sn"] < MOST_REPORTS and in_time and not target.startswith("request:"):
            by_sid[report["sid"]].setdefault((target, report["sn"]), report)
    found: dict[Cell, Counter[Any]] = defaultdict(Counter)
    for reports in by_sid.values():
        for stretch in _stretches(list(reports.values())):
            for cell, name, value in _Session(stretch).facts():
                found[cell][name] += value
    return _without_nothing(found)


def added_up(rows: Iterable[Report]) -> dict[Cell, Counter[Any]]:
    """The same from rows of playback.qoe_minute (`minute` in ms since 1970)."""
    found: dict[Cell, Counter[Any]] = defaultdict(Counter)
    for row in rows:
        sums = found[tuple(row[name] for name in CELL)]
        sums.update({name: row[name] for name in SUMS})
        for histogram in HISTOGRAMS:
            sums.update({(histogram, int(b)): count for b, count in row[histogram].items()})
    return _without_nothing(found)


DEMANDED = ("attempts", "starts", "failed_starts", "received_bytes")


def demand(rows: Iterable[Report]) -> dict[Cell, Counter[Any]]:
    """What rows of playback.qoe_minute, or of playback.playback_starts, say of the demand: by minute, title and region."""
    found: dict[Cell, Counter[Any]] = defaultdict(Counter)
    for row in rows:
        found[row["minute"], row["cid"], row["region"]].update({name: row[name] for name in DEMANDED})
    return _without_nothing(found)


def _without_nothing(found: Mapping[Cell, Counter[Any]]) -> dict[Cell, Counter[Any]]:
    kept = {cell: Counter({name: value for name, value in sums.items() if value}) for cell, sums in found.items()}
    return {cell: sums for cell, sums in kept.items() if sums}


def _stretches(reports: list[Report]) -> Iterator[list[Report]]:
    """The reports in order, cut where they are so far apart that they are of two sessions."""
    ordered = sorted(reports, key=lambda r: (r["event_time"], r["sn"]))
    cuts = [i for i in range(1, len(ordered)) if ordered[i]["event_time"] - ordered[i - 1]["event_time"] > APART_MS]
    yield from (ordered[begin:end] for begin, end in pairwise([0, *cuts, len(ordered)]))


class _Session:
    def __init__(self, ordered: list[Report]) -> None:
        self.all = ordered
        closed = next((i for i, r in enumerate(self.all) if _state(r) in CLOSING), len(self.all) - 1)
        self.lived = self.all[: closed + 1]
        self.at = [r["event_time"] for r in self.lived]
        self.states = [_state(r) for r in self.lived]

    def facts(self) -> Iterator[Fact]:
        """Everything that the session adds."""
        for report in self.all:
            if report["e"] == "rr":
                yield from _request(report)
        yield from self._moments()
        yield from self._time()

    def _moments(self) -> Iterator[Fact]:
        said = [i for i, r in enumerate(self.lived) if r["e"] != "rr"]
        if said:
            yield self.cell(said[0]), "attempts", 1
        measured = [i for i, r in enumerate(self.lived) if (r.get("msd_ms") or -1) >= 0 or r.get("msd_ms") == 0]
        first_played = self.states.index("p") if "p" in self.states else None
        shown = min((i for i in (*measured, first_played) if i is not None), default=None)
        if shown is not None:
            yield self.cell(shown), "starts", 1
        startups = [(i, 0, self.lived[i]["msd_ms"]) for i in measured[:1]]
        if first_played is not None and "s" in self.states[:first_played]:
            startups.append((first_played, 1, self.at[first_played] - self.at[self.states.index("s")]))
        if startups:
            i, _, startup_ms = min(startups)
            yield self.cell(i), ("startup_ms", bucket(startup_ms)), 1  # type: ignore[misc]
        for i in range(len(self.lived)):
            since = self._since_it_played(i)
            if self.states[i] in STALLED and since is not None and not set(since) & {"k", *STALLED}:
                yield self.cell(i), "rebuffer_count", 1
        last = len(self.lived) - 1
        if said and shown is None:
            failed = "f" in self.states or any(r["e"] == "e" for r in self.lived)
            yield self.cell(last), "failed_starts" if failed else "exits_before_start", 1
        elif said and self.states[last] == "f":
            yield self.cell(last), "in_play_failures", 1

    def _time(self) -> Iterator[Fact]:
        viewed = set()
        for i, (begin, end) in enumerate(pairwise(self.at)):
            doing = self._doing(i)
            if not doing or end - begin > SILENCE_MS:
                continue
            for minute in range(begin // MINUTE_MS * MINUTE_MS, end, MINUTE_MS):
                lasted = min(end, minute + MINUTE_MS) - max(begin, minute)
                if lasted <= 0:
                    continue
                cell = self.cell(i, minute)
                yield cell, doing, lasted
                if doing == "playing_ms" and (kbps := self._kbps(i)) is not None:
                    yield cell, "known_bitrate_ms", lasted
                    yield cell, "played_bits", kbps * lasted
                if minute not in viewed:
                    viewed.add(minute)
                    yield cell, "sessions", 1

    def _doing(self, i: int) -> str:
        state = next((s for s in reversed(self.states[: i + 1]) if s), "")
        if state == "p":
            return "playing_ms"
        since = self._since_it_played(i + 1)
        return "rebuffer_ms" if state in STALLED and since is not None and "k" not in since else ""

    def _since_it_played(self, i: int) -> list[str] | None:
        """The states before the i-th report since it last played; None where it has not played."""
        before = self.states[:i]
        return before[len(before) - before[::-1].index("p") :] if "p" in before else None

    def _kbps(self, i: int) -> int | None:
        told = [r["br_kbps"] for r in self.lived[: i + 1] if r["e"] != "rr" and r.get("br_kbps") is not None]
        fetched = [r["br_kbps"] for r in self.lived[: i + 1] if _is_fetched_video(r) and r.get("br_kbps") is not None]
        return (told or fetched or [None])[-1]

    def cell(self, i: int, minute: int | None = None) -> Cell:
        """Where something belongs that happens from the i-th report on."""
        known = self.lived[: i + 1]
        told = [next((r[name] for r in known if r.get(name) not in (None, "")), _nobody_told(name)) for name in DIMENSIONS]
        oca = next((r["oca_id"] for r in reversed(known) if _is_fetched_video(r) and r.get("oca_id")), "")
        return (self.at[i] // MINUTE_MS * MINUTE_MS if minute is None else minute, *told, oca)


def _nobody_told(dimension: str) -> str | None:
    return None if dimension == "isp_asn" else ""


def _state(report: Report) -> str:
    return (report.get("sta") or "") if report["e"] == "ps" else ""


def _is_fetched_video(report: Report) -> bool:
    return report["e"] == "rr" and _succeeded(report) and _is_video(report)


def _is_video(report: Report) -> bool:
    return report.get("ot") in ("v", "av") or (not report.get("ot") and report.get("br_kbps") is not None)


def _succeeded(report: Report) -> bool:
    return report.get("rc") is None or 200 <= report["rc"] < 300


def _request(report: Report) -> Iterator[Fact]:
    dimensions = (report.get(name) if report.get(name) is not None else _nobody_told(name) for name in DIMENSIONS)
    cell = (report["event_time"] // MINUTE_MS * MINUTE_MS, *dimensions, report.get("oca_id") or "")
    received, ttlb_ms = report.get("bytes") or 0, report.get("ttlb_ms") or 0
    yield cell, "requests", 1
    yield cell, "received_bytes", received
    if not _succeeded(report):
        yield cell, "failed_requests", 1
    elif report.get("ttfb_ms") is not None:
        yield cell, ("ttfb_ms", bucket(report["ttfb_ms"])), 1  # type: ignore[misc]
    if _is_fetched_video(report) and ttlb_ms > 0 and received > 0:
        yield cell, ("throughput_kbps", bucket(received * 8 // ttlb_ms)), 1  # type: ignore[misc]
