-- title: Failed sessions
-- question: Which plays failed to start, were given up, or broke, newest first? Open one for its errors.
-- show: table
-- empty: no session has failed in this range
-- width: 12
-- opens: sid
SELECT
  session.sid AS sid,
  session.ended_at AS ended_at,
  session.title AS title,
  session.device AS device,
  session.oca AS oca,
  multiIf(session.failed_start, 'failed to start', session.exit_before_video_start, 'given up', 'broke in play') AS status,
  session.startup_ms AS startup_ms,
  session.rebuffer_count AS rebufferings,
  session.rebuffer_ms AS rebuffered_ms,
  session.bitrate_kbps AS bitrate_kbps
FROM closed_sessions AS session
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND {chosen}
  AND failed
ORDER BY ended_at DESC
LIMIT 40
