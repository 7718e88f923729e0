-- title: Bitrate
-- question: What bitrate was on screen, weighted by the time it played?
-- show: number
-- unit: kbit/s
-- empty: no session has closed yet
-- width: 2
SELECT
  sum(time_weighted_bitrate_kbps * playing_ms) / sum(playing_ms) AS value,
  avg(switches) AS switches_per_play
FROM qoe_sessions
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND ({title:String} = '' OR cid = {title:String})
  AND ({device:String} = '' OR device_type = {device:String})
  AND ({oca:String} = '' OR oca_id = {oca:String})
  AND time_weighted_bitrate_kbps IS NOT NULL
HAVING sum(playing_ms) > 0
