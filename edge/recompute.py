"""An experiment's sums once more, from the raw tables: every exposure and measurement that is stored, in one query, without the stream.

What `streams.experiments.batch` says in Python, in SQL, so that it is checked by other hands on any amount of data. The sums have to be
equal to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.read_outs import Known, Queries
from schemas.allocation.definition import Metric
from streams.experiments.batch import DAY_MS, LARGEST, MOST_A_DAY
from streams.experiments.read_outs import Totals

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
      unit_name, unit, event_id, toUnixTimestamp64Milli(event_time) AS t, variations[{{name:String}}] AS met,
      first_value(met) OVER w AS first_met, first_value(segments) OVER w AS first_segment
    FROM experiments_exposure
    WHERE mapContains(variations, {{name:String}}) AND NOT marker
    WINDOW w AS (PARTITION BY unit_name, unit ORDER BY t, event_id, met ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
  ),
  told AS (
    SELECT
      unit_name, unit, source, measurement_id, intDiv(toUnixTimestamp64Milli(event_time), {DAY_MS}) AS day,
      argMax((toUnixTimestamp64Milli(event_time), measured, version), (version, -topic_offset)) AS newest
    FROM experiments_measurement
    WHERE NOT marker
    GROUP BY unit_name, unit, source, measurement_id, day
  ),
  busy AS (
    SELECT unit_name, unit, groupArray(day) AS days
    FROM (SELECT unit_name, unit, day FROM told GROUP BY unit_name, unit, day HAVING count() > {{most_a_day:UInt32}})
    GROUP BY unit_name, unit
  ),
  firsts AS (
    SELECT
      unit_name, unit, any(first_met) AS variation, any(first_segment) AS segment, min(t) AS at, at + {{window_ms:Int64}} AS until,
      minIf(t, met != first_met) AS other, countIf(met != first_met) > 0 AND other < until AS crossed
    FROM exposures
    GROUP BY unit_name, unit
    HAVING at < {{until_ms:Int64}}
  ),
  met AS (
    SELECT
      firsts.*,
      arrayExists(day -> day BETWEEN intDiv(at - {{covariate_ms:Int64}}, {DAY_MS}) AND intDiv(until - 1, {DAY_MS}), days) AS machine,
      crossed AND other < {{until_ms:Int64}} AND NOT machine AS left
    FROM firsts
    LEFT JOIN busy USING (unit_name, unit)
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
      variation, segment, unit_name, unit, at, counted.1 AS metric, counted.4 AS kind, counted.5 AS interval_ms, one.1 AS t,
      one.2[metric] AS value, one.2[metric || '/below'] AS denominator, if(abs(denominator) <= {LARGEST}, denominator, 0) AS below,
      mapContains(one.2, metric) AND abs(value) <= {LARGEST} AS known,
      known AND t >= at AND t < at + counted.2 AND (t < {{until_ms:Int64}} OR kind = 'time_to_event') AS after,
      known AND t >= at - counted.3 AND t < at AS before
    FROM met
    LEFT JOIN standing USING (unit_name, unit)
    ARRAY JOIN {{metrics:Array(Tuple(String, Int64, Int64, String, Int64))}} AS counted
    WHERE NOT machine AND NOT left AND NOT (crossed AND kind = 'time_to_event')
  ),
  of_metrics AS (
    SELECT
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
    GROUP BY variation, segment, metric, kind, unit_name, unit, at
  ),
  cells AS (
    SELECT
      variation, segment, '' AS metric, -1 AS value_bucket, toInt64(NOT machine AND NOT left) AS n, toInt64(0) AS measured,
      [toInt128(left), toInt128(machine), 0, 0] AS letters, [toInt128(0), 0] AS ranks
    FROM met
    UNION ALL
    SELECT
      variation, segment, metric, -1, 1, toInt64(afters > 0),
      if(kind IN ('quantile', 'time_to_event'), [0, 0, 0, 0], [bounded(x), bounded(y), bounded(u), bounded(v)]), [0, 0]
    FROM of_metrics
    WHERE kind = 'time_to_event' OR afters > 0 OR (befores > 0 AND kind NOT IN ('mean', 'ratio', 'quantile'))
    UNION ALL
    SELECT variation, segment, metric, ranked.1, 1, 0, [0, 0, 0, 0], [toInt128(ranked.2), toInt128(ranked.3)]
    FROM of_metrics
    ARRAY JOIN arrayMap((value, rank) -> (bucket_of(value), 2 * rank - 1, length(sorted)), sorted, arrayEnumerate(sorted)) AS ranked
    UNION ALL
    SELECT variation, segment, metric, event, 1, 0, [0, 0, 0, 0], [0, 0]
    FROM of_metrics
    WHERE kind = 'time_to_event' AND event >= 0
  )
SELECT
  variation, {_SEGMENT} AS segments, metric, value_bucket, sum(n), sum(measured),
  sum(letters[1]), sum(letters[2]), sum(letters[3]), sum(letters[4]),
  {_PRODUCTS}
FROM cells
GROUP BY variation, segments, metric, value_bucket
FORMAT TabSeparated"""


@dataclass(frozen=True)
class Difference:
    """One cell that the stream and the raw tables disagree about; None where one of them has none."""

    cell: Cell
    streamed: tuple[int, ...] | None
    recomputed: tuple[int, ...] | None


def differences(
    client: Queries, key: str, of: Known, until_day: int = FOR_EVER, most_a_day: int = MOST_A_DAY
) -> tuple[int, list[Difference]]:
    """How many cells there are, and those that differ, in the experiment's newest phase over all days before `until_day` since 1970.

    Raises Unknown.
    """
    experiment = of.experiment(key)
    streamed = sums(client.raw_query(STORED, {"experiment": key, "phase": experiment.phase, "until": until_day}))
    windows, before = zip(*((one.window_s, one.covariate_s) for one in of.metrics.values()), strict=True) if of.metrics else ((), ())
    asked = {
        "name": f"{key}.{experiment.phase}", "until_ms": until_day * DAY_MS, "most_a_day": most_a_day,
        "window_ms": 1000 * max(windows, default=0), "covariate_ms": 1000 * max(before, default=0),
        "metrics": [counted(of.metrics[name]) for name in experiment.measured],
    }  # fmt: skip
    recomputed = sums(client.raw_query(RAW, asked))
    streamed = {cell: told for cell, told in streamed.items() if not cell[2] or cell[2] in experiment.measured}
    cells = sorted(streamed.keys() | recomputed.keys())
    wrong = [Difference(cell, streamed.get(cell), recomputed.get(cell)) for cell in cells if streamed.get(cell) != recomputed.get(cell)]
    return len(cells), wrong


def counted(metric: Metric) -> tuple[str, int, int, str, int]:
    """A metric as the query counts it: times in ms."""
    return metric.key, metric.window_s * 1000, metric.covariate_s * 1000, metric.aggregation, (metric.interval_s or 1) * 1000


def sums(answer: bytes) -> dict[Cell, tuple[int, ...]]:
    """Cell to n, measured and the totals, without cells that are nothing."""
    found: dict[Cell, tuple[int, ...]] = {}
    for line in answer.decode().splitlines():
        variation, segments, metric, bucket, *numbers = line.split("\t")
        if any(told := tuple(map(int, numbers))):
            found[variation, segments, metric, int(bucket)] = told
    return found
