-- title: Rebuffer ratio
-- question: What share of viewing time was spent waiting for the network?
-- show: number
-- unit: ratio
-- thresholds: warn 0.005, bad 0.02
-- empty: no session has closed yet
-- width: 2
SELECT
  sum(rebuffer_ms) / sum(viewing_ms) AS value,
  sum(rebuffer_count) AS rebufferings
FROM closed_sessions
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND {chosen}
HAVING sum(viewing_ms) > 0
