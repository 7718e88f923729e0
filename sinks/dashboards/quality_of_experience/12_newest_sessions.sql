-- title: Newest sessions
-- question: Who pressed play last, and how does it go? Open one for its timeline.
-- show: table
-- empty: nobody has pressed play in this range
-- width: 12
-- opens: sid
SELECT
  seen.sid AS sid,
  seen.started_at AS started_at,
  seen.title AS title,
  seen.device AS device,
  seen.oca AS oca,
  multiIf(
    quality.failed_start, 'failed to start', quality.exit_before_video_start, 'given up', quality.in_play_failure, 'broke in play',
    quality.sid != '', 'closed',
    transform(ifNull(seen.play_state, ''), ['s', 'p', 'k', 'r', 'a', 'w', 'e', 'f', 'q'],
      ['starting', 'playing', 'seeking', 'rebuffering', 'paused', 'waiting', 'ended', 'failed', 'quit'], 'seen')
  ) AS status,
  ifNull(quality.startup_ms, seen.start_delay_ms) AS startup_ms,
  if(quality.sid != '', quality.rebuffer_count, seen.rebufferings) AS rebufferings,
  if(quality.sid != '', quality.rebuffer_ms, NULL) AS rebuffered_ms,
  ifNull(quality.bitrate_kbps, seen.bitrate_kbps) AS bitrate_kbps,
  seen.reports AS reports
FROM (
  SELECT
    sid,
    min(event_time) AS started_at,
    {told},
    argMaxIf(sta, (event_time, sn), sta IS NOT NULL) AS play_state,
    max(msd_ms) AS start_delay_ms,
    argMaxIf(br_kbps, event_time, br_kbps IS NOT NULL) AS bitrate_kbps,
    uniqExactIf(event_id, e = 'ps' AND sta = 'r') AS rebufferings,
    uniqExact(event_id) AS reports
  FROM playback_report
  WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  GROUP BY sid
  HAVING {chosen}
) AS seen
LEFT JOIN closed_sessions AS quality ON quality.sid = seen.sid
ORDER BY started_at DESC
LIMIT 40
