-- title: Synthetic event
-- question: How long after it was produced did a question to the warehouse find the newest synthetic event?
-- show: number
-- unit: ms
-- thresholds: warn 2500, bad 5000
-- width: 2
-- empty: the freshness probe does not run
SELECT
  ifNull(queryable_after_ms, 60000) AS value,
  dateDiff('second', produced_at, {to:DateTime64(3, 'UTC')}) AS seconds_ago
FROM observability_freshness
WHERE NOT marker AND event_time >= {to:DateTime64(3, 'UTC')} - INTERVAL 2 MINUTE AND event_time < {to:DateTime64(3, 'UTC')}
ORDER BY produced_at DESC
LIMIT 1
