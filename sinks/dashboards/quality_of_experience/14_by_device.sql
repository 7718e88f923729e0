-- title: By device
-- question: Does one kind of device do worse than the others?
-- show: table
-- empty: no session has closed in this range
-- width: 4
SELECT
  ifNull(device_type, 'not told') AS device,
  count() AS plays,
  quantileExactIf(0.95)(startup_ms, startup_ms IS NOT NULL) AS startup_p95_ms,
  sum(rebuffer_ms) / nullIf(sum(playing_ms) + sum(rebuffer_ms), 0) AS rebuffer_ratio,
  sum(time_weighted_bitrate_kbps * playing_ms) / nullIf(sumIf(playing_ms, time_weighted_bitrate_kbps IS NOT NULL), 0) AS bitrate_kbps,
  countIf(failed_start OR exit_before_video_start OR in_play_failure) AS failed
FROM qoe_sessions
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND ({title:String} = '' OR cid = {title:String})
  AND ({device:String} = '' OR device_type = {device:String})
  AND ({oca:String} = '' OR oca_id = {oca:String})
GROUP BY device
ORDER BY plays DESC
LIMIT 50
