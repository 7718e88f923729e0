-- title: Startup time
-- question: How long do members wait from the press of play to the first frame, and when was that out of line with the twenty points before?
-- show: line
-- unit: ms
-- thresholds: warn 2000, bad 4000
-- empty: no session has closed in this range
WITH {robust_z},
points AS (
  -- Fewer than eight plays say nothing of a baseline, nor are they held against one.
  SELECT
    toStartOfInterval(ended_at, toIntervalSecond({step_s:UInt32})) AS t,
    quantileExact(0.5)(startup_ms) AS p50,
    quantileExact(0.95)(startup_ms) AS p95,
    count() AS plays
  FROM closed_sessions
  WHERE ended_at >= {from:DateTime64(3, 'UTC')} - toIntervalSecond(20 * {step_s:UInt32}) AND ended_at < {to:DateTime64(3, 'UTC')}
    AND {chosen}
    AND startup_ms IS NOT NULL
  GROUP BY t
)
SELECT t, p50, p95, arrayReduce('quantileExact', before) AS p95_expected, if(plays >= 8, robust_z(p95, before, 100), NULL) AS p95_z
FROM (SELECT *, groupArrayIf(p95, plays >= 8) OVER (ORDER BY t ROWS BETWEEN 20 PRECEDING AND 1 PRECEDING) AS before FROM points)
WHERE t > {from:DateTime64(3, 'UTC')} - toIntervalSecond({step_s:UInt32})
ORDER BY t
