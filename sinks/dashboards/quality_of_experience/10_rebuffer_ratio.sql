-- title: Rebuffer ratio
-- question: What share of viewing time was spent waiting for the network?
-- show: line
-- unit: ratio
-- thresholds: warn 0.005, bad 0.02
-- empty: no session has closed in this range
SELECT
  toStartOfInterval(ended_at, toIntervalSecond({step_s:UInt32})) AS t,
  sum(rebuffer_ms) / sum(viewing_ms) AS rebuffer_ratio
FROM closed_sessions
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND {chosen}
GROUP BY t
HAVING sum(viewing_ms) > 0
ORDER BY t
