-- title: Bitrate
-- question: What bitrate was on screen, and what did the worst-served tenth of plays get?
-- show: line
-- unit: kbit/s
-- empty: no session has closed in this range
SELECT
  toStartOfInterval(ended_at, toIntervalSecond({step_s:UInt32})) AS t,
  quantileExact(0.5)(time_weighted_bitrate_kbps) AS p50,
  quantileExact(0.1)(time_weighted_bitrate_kbps) AS p10
FROM qoe_sessions
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND ({title:String} = '' OR cid = {title:String})
  AND ({device:String} = '' OR device_type = {device:String})
  AND ({oca:String} = '' OR oca_id = {oca:String})
  AND time_weighted_bitrate_kbps IS NOT NULL
GROUP BY t
ORDER BY t
