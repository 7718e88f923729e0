-- title: Failed plays
-- question: What share of plays failed to start, was given up before the first frame, or broke in play?
-- show: number
-- unit: ratio
-- thresholds: warn 0.02, bad 0.05
-- empty: no session has closed yet
-- width: 2
SELECT
  countIf(failed_start OR exit_before_video_start OR in_play_failure) / count() AS value,
  countIf(failed_start OR exit_before_video_start OR in_play_failure) AS failed
FROM qoe_sessions
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND ({title:String} = '' OR cid = {title:String})
  AND ({device:String} = '' OR device_type = {device:String})
  AND ({oca:String} = '' OR oca_id = {oca:String})
HAVING count() > 0
