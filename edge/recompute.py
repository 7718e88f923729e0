"""An experiment's sums once more, from the raw tables: every exposure and measurement that is stored, in one query, without the stream.

What `streams.experiments.batch` says in Python, in SQL, so that it is checked by other hands on any amount of data. The sums have to be
equal to the last digit: what came too late for the stream, by the order of the topics, is left out here as well, and counted.

The same query says what was known at any moment by the time of events: so young experiments are shown in steps of less than a day.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import add
from typing import TYPE_CHECKING, Any

from schemas.allocation.definition import Experiment, Metric
from streams.experiments.batch import DAY_MS, LARGEST, LATEST_MS, MOST_A_DAY
from streams.experiments.read_outs import Row, Totals

if TYPE_CHECKING:
    from edge.read_outs import Known, Queries

Cell = tuple[str, str, str, int]
"""Variation, segments as text, metric, value_bucket."""

_SEGMENT = "arrayStringConcat(arraySort(arrayMap((k, v) -> k || '=' || v, mapKeys(segment), mapValues(segment))), ', ')"
_AT = {"x": 1, "y": 2, "u": 3, "v": 4}
_RANKS = {"xx": "ranks[1]", "xy": "ranks[2]"}
_PRODUCTS = ", ".join(
    f"sum(if(metric = '', 0, letters[{_AT[name[0]]}] * letters[{_AT[name[1]]}]){f' + {_RANKS[name]}' if name in _RANKS else ''})"
    for name in Totals._fields
    if len(name) == 2
)
FOR_EVER = 100_000
"""Days since 1970 that nothing is after."""
STORED = f"""SELECT
  variation, {_SEGMENT} AS segments, metric, value_bucket, sum(n), sum(measured), {", ".join(f"sum(sum_{name})" for name in Totals._fields)}
FROM experiments_statistic
WHERE experiment = {{experiment:String}} AND phase = {{phase:Int32}} AND toInt32(day) < {{until:Int32}} AND NOT marker
GROUP BY variation, segments, metric, value_bucket
FORMAT TabSeparated"""
_IN_TIME = """toUnixTimestamp64Milli(event_time) AS t,
      max(t) OVER (PARTITION BY unit_name, unit ORDER BY topic_partition, topic_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        - {latest_ms:Int64} <= t AS in_time"""
"""Whether a row is no further behind its unit's newest before it than the stream waits."""
_UNITS = """SELECT unit_name, unit FROM experiments_exposure WHERE mapContains(variations, {name:String}) AND NOT marker"""
TOO_LATE = f"""SELECT countIf(NOT in_time) FROM (
  SELECT unit_name, unit, {_IN_TIME} FROM experiments_exposure WHERE NOT marker AND (unit_name, unit) IN ({_UNITS})
  UNION ALL
  SELECT unit_name, unit, {_IN_TIME} FROM experiments_measurement WHERE NOT marker AND (unit_name, unit) IN ({_UNITS})
)"""
SPAN = f"""SELECT minIf(t, told.3 = ''), max(t), uniqExact(told) FROM (
  SELECT toUnixTimestamp64Milli(event_time) AS t, (unit_name, unit, '', '') AS told
  FROM experiments_exposure
  WHERE mapContains(variations, {{name:String}}) AND NOT marker
  UNION ALL
  SELECT toUnixTimestamp64Milli(event_time), (unit_name, unit, source, measurement_id)
  FROM experiments_measurement
  WHERE NOT marker AND (unit_name, unit) IN ({_UNITS})
)
HAVING count() > 0"""
RAW = f"""WITH
  v -> greatest(0, if(v = 0, 0, toInt32(floor(log2(v))) + 1) - 6) AS shift_of,
  v -> toInt32(32 * shift_of(v) + bitShiftRight(v, shift_of(v))) AS bucket_of,
  (total, many) -> ((total % many) + many) % many AS rest_of,
  (total, many) -> intDiv(total - rest_of(total, many), many) AS floor_of,
  (total, many) -> floor_of(total, many) + toInt128(2 * rest_of(total, many) > many
    OR (2 * rest_of(total, many) = many AND floor_of(total, many) % 2 != 0)) AS half_even,
  value -> greatest(toInt128(-{LARGEST}), least(value, toInt128({LARGEST}))) AS bounded,
  exposures AS (
    SELECT
      unit_name, unit, event_id, t, variations[{{name:String}}] AS met,
      first_value(met) OVER w AS first_met, first_value(segments) OVER w AS first_segment
    FROM (
      SELECT unit_name, unit, event_id, variations, segments, {_IN_TIME}
      FROM experiments_exposure
      WHERE NOT marker AND (unit_name, unit) IN ({_UNITS})
    )
    WHERE mapContains(variations, {{name:String}}) AND in_time
    WINDOW w AS (PARTITION BY unit_name, unit ORDER BY t, event_id, met ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
  ),
  told AS (
    SELECT
      unit_name, unit, source, measurement_id, intDiv(t, {DAY_MS}) AS day,
      argMax((t, measured, version), (version, -topic_offset)) AS newest
    FROM (
      SELECT unit_name, unit, source, measurement_id, version, measured, topic_offset, {_IN_TIME}
      FROM experiments_measurement
      WHERE NOT marker AND (unit_name, unit) IN ({_UNITS})
    )
    WHERE in_time
    GROUP BY unit_name, unit, source, measurement_id, day
  ),
  busy AS (
    SELECT unit_name, unit, groupArray(day) AS days
    FROM (SELECT unit_name, unit, day FROM told GROUP BY unit_name, unit, day HAVING count() > {{most_a_day:UInt32}})
    GROUP BY unit_name, unit
  ),
  firsts AS (
    SELECT
      unit_name, unit, any(first_met) AS variation,
      mapFilter((name, _) -> {{all_segments:Bool}} OR name = {{segment:String}}, any(first_segment)) AS segment,
      min(t) AS at, at + {{window_ms:Int64}} AS until,
      minIf(t, met != first_met) AS other, countIf(met != first_met) > 0 AND other < until AS crossed
    FROM exposures
    GROUP BY unit_name, unit
  ),
  met AS (
    SELECT
      firsts.*, until_ms,
      arrayExists(day -> day BETWEEN intDiv(at - {{covariate_ms:Int64}}, {DAY_MS}) AND intDiv(until - 1, {DAY_MS}), days) AS machine,
      crossed AND other < until_ms AND NOT machine AS left
    FROM firsts
    LEFT JOIN busy USING (unit_name, unit)
    ARRAY JOIN {{moments:Array(Int64)}} AS until_ms
    WHERE at < until_ms
  ),
  standing AS (
    SELECT unit_name, unit, argMax(newest, (newest.3, -day)) AS one
    FROM told
    LEFT JOIN busy USING (unit_name, unit)
    WHERE NOT has(days, day)
    GROUP BY unit_name, unit, source, measurement_id
  ),
  of_units AS (
    SELECT
      until_ms, variation, segment, unit_name, unit, at, counted.1 AS metric, counted.4 AS kind, counted.5 AS interval_ms, one.1 AS t,
      one.2[metric] AS value, one.2[metric || '/below'] AS denominator, if(abs(denominator) <= {LARGEST}, denominator, 0) AS below,
      mapContains(one.2, metric) AND abs(value) <= {LARGEST} AS known,
      known AND t >= at AND t < at + counted.2 AND (t < until_ms OR kind = 'time_to_event') AS after,
      known AND t >= at - counted.3 AND t < at AS before
    FROM met
    LEFT JOIN standing USING (unit_name, unit)
    ARRAY JOIN {{metrics:Array(Tuple(String, Int64, Int64, String, Int64))}} AS counted
    WHERE NOT machine AND NOT left AND NOT (crossed AND kind = 'time_to_event')
  ),
  of_metrics AS (
    SELECT
      until_ms, if(kind = 'time_to_event', intDiv(at, {DAY_MS}), 0) AS on_day,
      variation, segment, metric, kind, toInt128(countIf(after)) AS afters, toInt128(countIf(before)) AS befores,
      sumIf(toInt128(value), after) AS total_x, sumIf(toInt128(value), before) AS total_u,
      multiIf(kind = 'count', afters, kind = 'proportion', toInt128(countIf(after AND value != 0) > 0),
        kind = 'mean', half_even(total_x, greatest(afters, 1)), total_x) AS x,
      multiIf(kind = 'count', befores, kind = 'proportion', toInt128(countIf(before AND value != 0) > 0),
        kind = 'mean', half_even(total_u, greatest(befores, 1)), total_u) AS u,
      if(kind = 'ratio', sumIf(toInt128(below), after), 0) AS y,
      if(kind = 'ratio', sumIf(toInt128(below), before), 0) AS v,
      arraySort(groupArrayIf(greatest(value, 0), after AND kind = 'quantile')) AS sorted,
      if(countIf(after AND value != 0) > 0, toInt32(intDiv(minIf(t, after AND value != 0) - at, any(interval_ms))), -1) AS event
    FROM of_units
    GROUP BY until_ms, variation, segment, metric, kind, unit_name, unit, at
  ),
  cells AS (
    SELECT
      until_ms, 0 AS on_day, variation, segment, '' AS metric, -1 AS value_bucket,
      toInt64(NOT machine AND NOT left) AS n, toInt64(0) AS measured,
      [toInt128(left), toInt128(machine), 0, 0] AS letters, [toInt128(0), 0] AS ranks
    FROM met
    UNION ALL
    SELECT until_ms, on_day, variation, segment, metric, cell.1, cell.2, cell.3, cell.4, cell.5
    FROM of_metrics
    ARRAY JOIN arrayConcat(
      if(kind = 'time_to_event' OR afters > 0 OR (befores > 0 AND kind NOT IN ('mean', 'ratio', 'quantile')),
        [(toInt32(-1), toInt64(1), toInt64(afters > 0),
          if(kind IN ('quantile', 'time_to_event'), [toInt128(0), 0, 0, 0], [bounded(x), bounded(y), bounded(u), bounded(v)]),
          [toInt128(0), 0])],
        []),
      arrayMap((value, rank) -> (toInt32(bucket_of(value)), toInt64(1), toInt64(0), [toInt128(0), 0, 0, 0],
        [toInt128(2 * rank - 1), toInt128(length(sorted))]), sorted, arrayEnumerate(sorted)),
      if(kind = 'time_to_event' AND event >= 0,
        [(toInt32(event), toInt64(1), toInt64(0), [toInt128(0), 0, 0, 0], [toInt128(0), 0])],
        [])
    ) AS cell
  )
SELECT
  until_ms, on_day, variation, {_SEGMENT} AS segments, metric, value_bucket, sum(n), sum(measured),
  sum(letters[1]), sum(letters[2]), sum(letters[3]), sum(letters[4]),
  {_PRODUCTS}
FROM cells
GROUP BY until_ms, on_day, variation, segments, metric, value_bucket
FORMAT TabSeparated"""


@dataclass(frozen=True)
class Difference:
    """One cell that the stream and the raw tables disagree about; None where one of them has none."""

    cell: Cell
    streamed: tuple[int, ...] | None
    recomputed: tuple[int, ...] | None


@dataclass(frozen=True)
class Recomputed:
    """How many cells there are, those that differ, and how many records of the units came too late for the stream and count in neither."""

    cells: int
    differences: list[Difference]
    too_late: int


def recompute(
    client: Queries, key: str, of: Known, until_day: int = FOR_EVER, most_a_day: int = MOST_A_DAY, latest_ms: int = LATEST_MS
) -> Recomputed:
    """The stream's sums against the raw tables', in the experiment's newest phase over all days before `until_day` since 1970.

    Raises Unknown.
    """
    experiment = of.experiment(key)
    streamed = sums(client.raw_query(STORED, {"experiment": key, "phase": experiment.phase, "until": until_day}))
    streamed = {cell: told for cell, told in streamed.items() if not cell[2] or cell[2] in experiment.measured}
    asked = {
        **_asked(experiment, of.metrics),
        "moments": [until_day * DAY_MS],
        "all_segments": True,
        "most_a_day": most_a_day,
        "latest_ms": latest_ms,
    }
    recomputed = sums(b"\n".join(line.split(b"\t", 2)[2] for line in client.raw_query(RAW, asked).splitlines()))
    ((too_late,),) = client.query(TOO_LATE, {"name": asked["name"], "latest_ms": latest_ms}).result_rows
    cells = sorted(streamed.keys() | recomputed.keys())
    wrong = [Difference(cell, streamed.get(cell), recomputed.get(cell)) for cell in cells if streamed.get(cell) != recomputed.get(cell)]
    return Recomputed(len(cells), wrong, int(too_late))


def span(client: Queries, experiment: Experiment) -> tuple[int, int, int] | None:
    """First exposure and last event of an experiment's units in ms since 1970, and how many facts there are; None of nobody.

    A measurement counts once however often it was corrected on the way, so that a log that is replayed has the same.
    """
    found = client.query(SPAN, {"name": _name(experiment)}).result_rows
    return (int(found[0][0]), int(found[0][1]), int(found[0][2])) if found else None


def known_at(client: Queries, experiment: Experiment, metrics: Mapping[str, Metric], moments: Sequence[int]) -> Iterator[tuple[int, Row]]:
    """(moment, row) of all that had happened before each moment, ms since 1970, by the plan's strata: they add up to the whole.

    `Row.day` is 0 but of times to an event.
    """
    for line in client.raw_query(RAW, as_it_was(experiment, metrics, moments)).decode().splitlines():
        until_ms, day, variation, segment, metric, bucket, *numbers = line.split("\t")
        n, measured, *totals = map(int, numbers)
        yield int(until_ms), Row(variation, segment, metric, int(bucket), int(day), n, measured, Totals._make(totals))


def as_it_was(experiment: Experiment, metrics: Mapping[str, Metric], moments: Sequence[int]) -> dict[str, Any]:
    """The parameters of RAW for what was known at these moments."""
    return {**_asked(experiment, metrics), "moments": list(moments), "segment": experiment.plan.strata or ""}


def _asked(experiment: Experiment, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    times = [(one.window_s, one.covariate_s) for one in metrics.values()]
    return {
        "name": _name(experiment), "all_segments": False, "segment": "", "most_a_day": MOST_A_DAY, "latest_ms": LATEST_MS,
        "window_ms": 1000 * max((window for window, _ in times), default=0),
        "covariate_ms": 1000 * max((before for _, before in times), default=0),
        "metrics": [counted(metrics[name]) for name in experiment.measured],
    }  # fmt: skip


def _name(experiment: Experiment) -> str:
    """As exposures name it."""
    return f"{experiment.key}.{experiment.phase}"


def counted(metric: Metric) -> tuple[str, int, int, str, int]:
    """A metric as the query counts it: times in ms."""
    return metric.key, metric.window_s * 1000, metric.covariate_s * 1000, metric.aggregation, (metric.interval_s or 1) * 1000


def sums(answer: bytes) -> dict[Cell, tuple[int, ...]]:
    """Cell to n, measured and the totals, without cells that are nothing."""
    found: dict[Cell, tuple[int, ...]] = {}
    for line in answer.decode().splitlines():
        variation, segments, metric, bucket, *numbers = line.split("\t")
        told, cell = tuple(map(int, numbers)), (variation, segments, metric, int(bucket))
        found[cell] = tuple(map(add, found[cell], told)) if cell in found else told
    return {cell: told for cell, told in found.items() if any(told)}
