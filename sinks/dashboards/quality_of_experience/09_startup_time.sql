-- title: Startup time
-- question: How long do members wait from the press of play to the first frame?
-- show: line
-- unit: ms
-- thresholds: warn 2000, bad 4000
-- empty: no session has closed in this range
SELECT
  toStartOfInterval(ended_at, toIntervalSecond({step_s:UInt32})) AS t,
  quantileExact(0.5)(startup_ms) AS p50,
  quantileExact(0.95)(startup_ms) AS p95
FROM closed_sessions
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND {chosen}
  AND startup_ms IS NOT NULL
GROUP BY t
ORDER BY t
