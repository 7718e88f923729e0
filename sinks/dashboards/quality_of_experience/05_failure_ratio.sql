-- title: Failed plays
-- question: What share of plays failed to start, was given up before the first frame, or broke in play?
-- show: number
-- unit: ratio
-- thresholds: warn 0.02, bad 0.05
-- empty: no session has closed yet
-- width: 2
SELECT
  countIf(failed) / count() AS value,
  countIf(failed) AS failed_plays
FROM closed_sessions
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND {chosen}
HAVING count() > 0
