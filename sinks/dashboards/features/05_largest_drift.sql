-- title: Largest drift
-- question: How differently is the value that moved most distributed in the later half of what was looked at in the range? Population stability index; over 0.25 is another population.
-- show: number
-- unit: PSI
-- thresholds: warn 0.1, bad 0.25
-- width: 2
-- empty: no value was looked at twice in this range
SELECT max(psi) AS value, count() AS compared_values
FROM (
  SELECT
    value,
    sumMapIf(CAST(buckets, 'Map(String, Int64)'), event_time < middle) AS before,
    sumMapIf(CAST(buckets, 'Map(String, Int64)'), event_time >= middle) AS after,
    arrayDistinct(arrayConcat(mapKeys(before), mapKeys(after))) AS names,
    arraySum(mapValues(before)) + 0.5 * length(names) AS all_before,
    arraySum(mapValues(after)) + 0.5 * length(names) AS all_after,
    arraySum(arrayMap(
      name -> ((after[name] + 0.5) / all_after - (before[name] + 0.5) / all_before)
        * log((after[name] + 0.5) / all_after / ((before[name] + 0.5) / all_before)), names)) AS psi
  FROM (
    SELECT *, addMilliseconds(min(event_time) OVER (), intDiv(dateDiff('millisecond', min(event_time) OVER (), max(event_time) OVER ()), 2)) AS middle
    FROM recommendations_feature_profile
    WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  )
  GROUP BY value
  HAVING length(before) > 0 AND length(after) > 0
)
HAVING count() > 0
