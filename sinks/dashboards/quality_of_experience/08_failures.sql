-- title: Failures
-- question: Which plays failed to start, were given up before the first frame, or broke in play?
-- show: bar
-- unit: plays
-- empty: no session has failed in this range
-- width: 4
SELECT
  toStartOfInterval(ended_at, toIntervalSecond({step_s:UInt32})) AS t,
  countIf(session.failed_start) AS failed_start,
  countIf(session.exit_before_video_start) AS exit_before_video_start,
  countIf(session.in_play_failure) AS in_play_failure
FROM closed_sessions AS session
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND {chosen}
  AND failed
GROUP BY t
ORDER BY t
