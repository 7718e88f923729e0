-- title: Rebuffer ratio
-- question: What share of viewing time was spent waiting for the network?
-- show: line
-- unit: ratio
-- thresholds: warn 0.005, bad 0.02
-- empty: no session has closed in this range
SELECT
  toStartOfInterval(ended_at, toIntervalSecond({step_s:UInt32})) AS t,
  sum(rebuffer_ms) / (sum(playing_ms) + sum(rebuffer_ms)) AS rebuffer_ratio
FROM qoe_sessions
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND ({title:String} = '' OR cid = {title:String})
  AND ({device:String} = '' OR device_type = {device:String})
  AND ({oca:String} = '' OR oca_id = {oca:String})
GROUP BY t
HAVING sum(playing_ms) + sum(rebuffer_ms) > 0
ORDER BY t
