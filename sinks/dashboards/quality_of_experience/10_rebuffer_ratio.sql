-- title: Rebuffer ratio
-- question: What share of viewing time was spent waiting for the network, and when was that out of line with the twenty points before?
-- show: line
-- unit: ratio
-- thresholds: warn 0.005, bad 0.02
-- empty: no session has closed in this range
WITH {robust_z},
points AS (
  -- Fewer than eight plays say nothing of a baseline, nor are they held against one.
  SELECT
    toStartOfInterval(ended_at, toIntervalSecond({step_s:UInt32})) AS t,
    sum(rebuffer_ms) / sum(viewing_ms) AS rebuffer_ratio,
    count() AS plays
  FROM closed_sessions
  WHERE ended_at >= {from:DateTime64(3, 'UTC')} - toIntervalSecond(20 * {step_s:UInt32}) AND ended_at < {to:DateTime64(3, 'UTC')}
    AND {chosen}
  GROUP BY t
  HAVING sum(viewing_ms) > 0
)
SELECT
  t, rebuffer_ratio,
  arrayReduce('quantileExact', before) AS rebuffer_ratio_expected,
  if(plays >= 8, robust_z(rebuffer_ratio, before, 0.002), NULL) AS rebuffer_ratio_z
FROM (SELECT *, groupArrayIf(rebuffer_ratio, plays >= 8) OVER (ORDER BY t ROWS BETWEEN 20 PRECEDING AND 1 PRECEDING) AS before FROM points)
WHERE t > {from:DateTime64(3, 'UTC')} - toIntervalSecond({step_s:UInt32})
ORDER BY t
