-- title: Plays
-- question: How many plays closed in the chosen range?
-- show: number
-- unit: plays
-- empty: no session has closed yet
-- width: 2
SELECT
  count() AS value,
  sum(playing_ms) / 1000 AS watched_s
FROM qoe_sessions
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND ({title:String} = '' OR cid = {title:String})
  AND ({device:String} = '' OR device_type = {device:String})
  AND ({oca:String} = '' OR oca_id = {oca:String})
HAVING count() > 0
