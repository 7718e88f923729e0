-- title: Bytes served
-- question: How much does each cache server deliver?
-- show: line
-- unit: bit/s
-- empty: no cache server has answered a request in this range
-- width: 6
SELECT
  toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t,
  oca_id AS series,
  sum(bytes) * 8 / {step_s:UInt32} AS value
FROM delivery_access
WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < toStartOfInterval({to:DateTime64(3, 'UTC')}, toIntervalSecond({step_s:UInt32}))
  AND ({oca:String} = '' OR oca_id = {oca:String}) AND ({title:String} = '' OR cid = {title:String})
GROUP BY t, series
ORDER BY t, series
