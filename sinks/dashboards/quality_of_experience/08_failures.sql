-- title: Failures
-- question: Which plays failed to start, were given up before the first frame, or broke in play?
-- show: bar
-- unit: plays
-- empty: no session has failed in this range
-- width: 4
SELECT
  toStartOfInterval(ended_at, toIntervalSecond({step_s:UInt32})) AS t,
  countIf(qoe.failed_start) AS failed_start,
  countIf(qoe.exit_before_video_start) AS exit_before_video_start,
  countIf(qoe.in_play_failure) AS in_play_failure
FROM qoe_sessions AS qoe
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND ({title:String} = '' OR cid = {title:String})
  AND ({device:String} = '' OR device_type = {device:String})
  AND ({oca:String} = '' OR oca_id = {oca:String})
  AND (qoe.failed_start OR qoe.exit_before_video_start OR qoe.in_play_failure)
GROUP BY t
ORDER BY t
