-- title: Drift
-- question: Which values are distributed otherwise in the later half of what was looked at in the range than in the earlier? Over two days that is a day against the day before. PSI from 0.1 on is a shift, from 0.25 on another population.
-- show: table
-- width: 6
-- empty: no value was looked at twice in this range
SELECT
  value AS name,
  round(arraySum(arrayMap(
    name -> ((after[name] + 0.5) / all_after - (before[name] + 0.5) / all_before)
      * log((after[name] + 0.5) / all_after / ((before[name] + 0.5) / all_before)), names)), 4) AS psi,
  arrayStringConcat(arrayMap(
    name -> name || ': ' || toString(round(100 * before[name] / all_before)) || ' → ' || toString(round(100 * after[name] / all_after)) || ' %',
    arraySlice(arrayReverseSort(name -> abs(after[name] / all_after - before[name] / all_before), names), 1, 2)), ', ') AS moved_most
FROM (
  SELECT
    value,
    sumMapIf(CAST(buckets, 'Map(String, Int64)'), event_time < middle) AS before,
    sumMapIf(CAST(buckets, 'Map(String, Int64)'), event_time >= middle) AS after,
    arrayDistinct(arrayConcat(mapKeys(before), mapKeys(after))) AS names,
    arraySum(mapValues(before)) + 0.5 * length(names) AS all_before,
    arraySum(mapValues(after)) + 0.5 * length(names) AS all_after
  FROM (
    SELECT *, addMilliseconds(min(event_time) OVER (), intDiv(dateDiff('millisecond', min(event_time) OVER (), max(event_time) OVER ()), 2)) AS middle
    FROM recommendations_feature_profile
    WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  )
  GROUP BY value
  HAVING length(before) > 0 AND length(after) > 0
)
ORDER BY psi DESC, name
LIMIT 20
