-- title: Startup time
-- question: How long do nineteen of twenty members wait at most from the press of play to the first frame?
-- show: number
-- unit: ms
-- thresholds: warn 2000, bad 4000
-- empty: no session has closed yet
-- width: 2
SELECT
  quantileExact(0.95)(startup_ms) AS value,
  quantileExact(0.5)(startup_ms) AS median_ms
FROM closed_sessions
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND {chosen}
HAVING count(startup_ms) > 0
