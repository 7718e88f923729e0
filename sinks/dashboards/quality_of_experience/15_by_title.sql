-- title: By title
-- question: Does one title do worse than the others?
-- show: table
-- empty: no session has closed in this range
-- width: 4
SELECT
  title,
  count() AS plays,
  quantileExact(0.95)(startup_ms) AS startup_p95_ms,
  sum(rebuffer_ms) / sum(viewing_ms) AS rebuffer_ratio,
  avgWeighted(session.bitrate_kbps, playing_ms) AS bitrate_kbps,
  countIf(session.failed) AS failed
FROM closed_sessions AS session
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND {chosen}
GROUP BY title
ORDER BY plays DESC
LIMIT 50
