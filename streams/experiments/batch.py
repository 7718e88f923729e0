"""What the sums of experiments are: the plain function of all exposures and measurements that `statistics_by_unit` must come to.

A unit's first exposure to a phase of an experiment is the one with the smallest event_time, of equals the smallest event_id. For a metric
counts what was measured from then on for `window_ms`, and as its covariate what was measured in the `covariate_ms` before. A later version
of a measurement takes the place of the earlier, wherever in time it lies; of two alike the earlier day counts, or the first told.

Two things leave a unit out, and are counted. Who meets a second variation of a phase within the longest window leaves it on the day of that
exposure. Who has a day of more than `most_a_day` measurements, of any version, between the longest covariate before its exposure and the
longest window after it has no part in it at all; on such a day nothing was measured.

The sums of a day are those over all that happened by its end, less those by the end of the day before. So what comes late, twice, out of
order or corrected ends in the same sums, and what a day adds never changes what was known of the days before it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from schemas.allocation.definition import MOST
from streams.playback.minute import bucket

DAY_MS = 86_400_000
MOST_A_DAY = 500
"""Measurements of a unit in a UTC day; who has more is a machine."""
LATEST_MS = 8 * DAY_MS
"""What comes later after its unit's newest record of the same topic is not counted; the plain function knows no such bound.
Nor may a correction move what it corrects by more. The guard's door lets in what is seven days old; the eighth is how far one partition may
be read before another, which is chance. So what counts is not."""
LARGEST = MOST
"""Measurements beyond it are absurd, and not counted; what a unit comes to stops there, so that the squares of 10⁶ units fit 38 digits."""

WITHOUT_A_BUCKET = -1
Kind = Literal["sum", "count", "mean", "proportion", "ratio", "quantile", "time_to_event"]
PRODUCTS = ("xx", "yy", "uu", "vv", "xy", "xu", "xv", "yu", "yv", "uv")
SUMS = ("n", "measured", *(f"sum_{name}" for name in ("x", "y", "u", "v", *PRODUCTS)))
"""Of a row of experiments.statistic, in the order of its fields."""

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Counted:
    """A metric as it is counted. Times in ms; `interval_ms` is what a time to an event is counted in."""

    key: str
    aggregation: Kind
    window_ms: int
    covariate_ms: int = 0
    interval_ms: int = DAY_MS


class Cell(NamedTuple):
    """Where sums belong: the fields of experiments.statistic; `segment` sorted, `day` in days since 1970."""

    experiment: str
    phase: int
    variation: str
    segment: tuple[tuple[str, str], ...]
    day: int
    metric: str
    value_bucket: int = WITHOUT_A_BUCKET


class Values(NamedTuple):
    """What a unit brings to a metric: whether it was measured after its exposure, and its values after and before."""

    measured: int
    x: int
    y: int = 0
    u: int = 0
    v: int = 0


def argument(metrics: Sequence[Counted], most_a_day: int = MOST_A_DAY) -> str:
    """What UnitStatistics.java is told, as JSON."""
    return json.dumps(
        {"most_a_day": most_a_day, "latest_ms": LATEST_MS, "largest": LARGEST, "metrics": [asdict(metric) for metric in metrics]}
    )


def statistics(
    exposures: Iterable[Event], measurements: Iterable[Event], metrics: Sequence[Counted], most_a_day: int = MOST_A_DAY
) -> dict[Cell, dict[str, int]]:
    """Cell → sums by their names, without those that are nothing. Events as in the contracts, `event_time` in ms since 1970."""
    window_ms = max((metric.window_ms for metric in metrics), default=0)
    covariate_ms = max((metric.covariate_ms for metric in metrics), default=0)
    measured: dict[tuple[str, str], dict[tuple[str, str, int], Event]] = defaultdict(dict)
    for one in measurements:
        told = measured[one["unit_name"], one["unit"]]
        identity = one["source"], one["measurement_id"], one["event_time"] // DAY_MS
        if identity not in told or one["version"] > told[identity]["version"]:
            told[identity] = one
    exposed: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for one in exposures:
        exposed[one["unit_name"], one["unit"]].append(one)
    found: dict[Cell, Counter[str]] = defaultdict(Counter)
    for unit, met in exposed.items():
        standing, busy = _standing(measured.get(unit, {}), most_a_day)
        for met_experiment in _first(met):
            at, last = met_experiment.at, met_experiment.at + window_ms
            left = (
                "sum_y" if any((at - covariate_ms) // DAY_MS <= day <= (last - 1) // DAY_MS for day in busy) else
                "sum_x" if met_experiment.other_at < last else ""
            )  # fmt: skip
            for cell, sums in _added(met_experiment, left, standing, metrics):
                found[cell].update(sums)
    kept = {cell: {name: value for name, value in sums.items() if value} for cell, sums in found.items()}
    return {cell: sums for cell, sums in kept.items() if sums}


def added_up(rows: Iterable[Event]) -> dict[Cell, dict[str, int]]:
    """The same from rows of experiments.statistic."""
    found: dict[Cell, Counter[str]] = defaultdict(Counter)
    for row in rows:
        day = row["day"] if isinstance(row["day"], int) else row["day"].toordinal() - 719_163
        segment = tuple(sorted(row["segment"].items()))
        cell = Cell(row["experiment"], row["phase"], row["variation"], segment, day, row["metric"], row["value_bucket"])
        found[cell].update({name: int(row[name]) for name in SUMS})
    kept = {cell: {name: value for name, value in sums.items() if value} for cell, sums in found.items()}
    return {cell: sums for cell, sums in kept.items() if sums and cell.experiment}


class _Met(NamedTuple):
    """A unit's first exposure to a phase of an experiment, and when it met another of its variations (far away: never)."""

    experiment: str
    phase: int
    variation: str
    segment: tuple[tuple[str, str], ...]
    at: int
    other_at: int


def _first(met: Iterable[Event]) -> Iterator[_Met]:
    by_phase: dict[str, list[tuple[int, str, str, Event]]] = defaultdict(list)
    for one in met:
        for name, variation in one["variations"].items():
            by_phase[name].append((one["event_time"], one["event_id"], variation, one))
    for name, told in by_phase.items():
        at, _, variation, event = min(told, key=lambda one: one[:3])
        experiment, _, phase = name.rpartition(".")
        other_at = min((other for other, _, another, _ in told if another != variation), default=1 << 62)
        yield _Met(experiment, int(phase), variation, tuple(sorted(event["segments"].items())), at, other_at)


def _standing(told: Mapping[tuple[str, str, int], Event], most_a_day: int) -> tuple[list[Event], set[int]]:
    """The measurements that count, and the days of which none does."""
    of_day = Counter(day for _, _, day in told)
    busy = {day for day, count in of_day.items() if count > most_a_day}
    newest: dict[tuple[str, str], Event] = {}
    for (source, name, day), one in sorted(told.items(), key=lambda item: item[0][2]):
        known = newest.get((source, name))
        if day not in busy and (known is None or one["version"] > known["version"]):
            newest[source, name] = one
    return sorted(newest.values(), key=lambda one: one["event_time"]), busy


def _added(met: _Met, left: str, standing: Sequence[Event], metrics: Iterable[Counted]) -> Iterator[tuple[Cell, dict[str, int]]]:
    """What one unit adds to an experiment."""
    cell = Cell(met.experiment, met.phase, met.variation, met.segment, met.at // DAY_MS, "")
    if left == "sum_y":
        yield cell, {"sum_y": 1}
        return
    yield cell, {"n": 1}
    ends = met.other_at // DAY_MS if left else 1 << 62
    if left:
        yield cell._replace(day=ends), {"n": -1, "sum_x": 1}
    for metric in metrics:
        known = [one for one in standing if abs(one["measured"].get(metric.key, LARGEST + 1)) <= LARGEST]
        after = [one for one in known if met.at <= one["event_time"] < met.at + metric.window_ms]
        before = [one for one in known if met.at - metric.covariate_ms <= one["event_time"] < met.at]
        if metric.aggregation == "time_to_event":
            if not left:
                yield from _time(cell._replace(metric=metric.key), met.at, after, metric)
            continue
        days = sorted({day for one in (*after, *before) if (day := max(cell.day, one["event_time"] // DAY_MS)) < ends})
        last: dict[int, dict[str, int]] = {}
        for day in days:
            now = _by_bucket(metric, [one for one in after if one["event_time"] // DAY_MS <= day], before)
            yield from _difference(cell._replace(metric=metric.key, day=day), last, now)
            last = now
        if left and last:
            yield from _difference(cell._replace(metric=metric.key, day=ends), last, {})


def _difference(
    cell: Cell, last: Mapping[int, Mapping[str, int]], now: Mapping[int, Mapping[str, int]]
) -> Iterator[tuple[Cell, dict[str, int]]]:
    for where in last.keys() | now.keys():
        was, is_ = last.get(where, {}), now.get(where, {})
        yield cell._replace(value_bucket=where), {name: is_.get(name, 0) - was.get(name, 0) for name in was.keys() | is_.keys()}


def _time(cell: Cell, at: int, after: Sequence[Event], metric: Counted) -> Iterator[tuple[Cell, dict[str, int]]]:
    happened = [one["event_time"] for one in after if one["measured"][metric.key]]
    yield cell, {"n": 1, "measured": int(bool(after))}
    if happened:
        yield cell._replace(value_bucket=(min(happened) - at) // metric.interval_ms), {"n": 1}


def _by_bucket(metric: Counted, after: Sequence[Event], before: Sequence[Event]) -> dict[int, dict[str, int]]:
    """A unit's part of the sums by bucket; none where it does not count."""
    if metric.aggregation == "quantile":
        return _ranks([max(0, one["measured"][metric.key]) for one in after])
    x, y, u, v = (max(-LARGEST, min(value, LARGEST)) for value in (*_value(metric, after), *_value(metric, before)))
    needs_a_value = metric.aggregation in ("mean", "ratio")
    return {WITHOUT_A_BUCKET: _sums(Values(int(bool(after)), x, y, u, v))} if after or (before and not needs_a_value) else {}


def _value(metric: Counted, of: Sequence[Event]) -> tuple[int, int]:
    """A unit's value, and the denominator of a ratio's."""
    values = [one["measured"][metric.key] for one in of]
    match metric.aggregation:
        case "count":
            return len(values), 0
        case "mean":
            return _half_even(sum(values), len(values)), 0
        case "proportion":
            return int(any(values)), 0
        case "ratio":
            below = (one["measured"].get(f"{metric.key}/below", 0) for one in of)
            return sum(values), sum(value if abs(value) <= LARGEST else 0 for value in below)
        case _:
            return sum(values), 0


def _half_even(total: int, count: int) -> int:
    """total / count, rounded to the even of two that are as near; 0 of nothing."""
    if count == 0:
        return 0
    whole, rest = divmod(total, count)
    return whole + (2 * rest > count or (2 * rest == count and whole % 2 == 1))


def _sums(values: Values) -> dict[str, int]:
    letters = {"x": values.x, "y": values.y, "u": values.u, "v": values.v}
    products = {f"sum_{pair}": letters[pair[0]] * letters[pair[1]] for pair in PRODUCTS}
    return {"n": 1, "measured": values.measured, **{f"sum_{name}": value for name, value in letters.items()}, **products}


def _ranks(values: Sequence[int]) -> dict[int, dict[str, int]]:
    """By bucket of values: their number, Σ(2i − 1) and Σm over the i-th smallest of m. Up to a bucket that is k, k² and km of the unit."""
    counts = Counter(map(bucket, values))
    found = {WITHOUT_A_BUCKET: {"n": 1, "measured": 1}} if values else {}
    below = 0
    for where in sorted(counts):
        upto = below + counts[where]
        found[where] = {"n": counts[where], "sum_xx": upto**2 - below**2, "sum_xy": counts[where] * len(values)}
        below = upto
    return found
