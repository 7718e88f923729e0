-- title: By {each}
-- question: Does one {each} do worse than the others, or than it did itself in the eight times as long before?
-- each: title, device, OCA, ISP, region, player
-- show: table
-- empty: no session has closed in this range
-- width: 4
WITH {robust_z},
dateDiff('millisecond', {from:DateTime64(3, 'UTC')}, {to:DateTime64(3, 'UTC')}) AS span_ms,
spans AS (
  -- Fewer than eight plays say nothing of a baseline, nor are they held against one.
  -- ago is 0 in the chosen range, 1 in the one before it, and so on
  SELECT
    {each},
    intDiv(dateDiff('millisecond', ended_at, {to:DateTime64(3, 'UTC')}) - 1, span_ms) AS ago,
    count() AS plays,
    quantileExact(0.95)(session.startup_ms) AS startup_p95_ms,
    sum(rebuffer_ms) / nullIf(sum(viewing_ms), 0) AS rebuffer_ratio,
    avgWeighted(session.bitrate_kbps, playing_ms) AS bitrate_kbps,
    countIf(session.failed) AS failed
  FROM closed_sessions AS session
  WHERE ended_at >= {from:DateTime64(3, 'UTC')} - toIntervalMillisecond(8 * span_ms) AND ended_at < {to:DateTime64(3, 'UTC')}
    AND {chosen}
  GROUP BY {each}, ago
)
SELECT
  {each}, plays, startup_p95_ms, rebuffer_ratio, bitrate_kbps, failed,
  arrayReduce('quantileExact', startup_before) AS startup_p95_ms_expected,
  if(plays >= 8, robust_z(startup_p95_ms, startup_before, 100), NULL) AS startup_p95_ms_z,
  arrayReduce('quantileExact', rebuffer_before) AS rebuffer_ratio_expected,
  if(plays >= 8, robust_z(rebuffer_ratio, rebuffer_before, 0.002), NULL) AS rebuffer_ratio_z
FROM (
  SELECT
    *,
    groupArrayIf(startup_p95_ms, plays >= 8) OVER earlier AS startup_before,
    groupArrayIf(rebuffer_ratio, plays >= 8) OVER earlier AS rebuffer_before
  FROM spans
  WINDOW earlier AS (PARTITION BY {each} ORDER BY ago ROWS BETWEEN 1 FOLLOWING AND 8 FOLLOWING)
)
WHERE ago = 0
ORDER BY plays DESC, {each}
LIMIT 50
