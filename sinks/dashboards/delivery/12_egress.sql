-- title: Egress
-- question: How much does each cache server send, as it says itself?
-- show: line
-- unit: bit/s
-- empty: no cache server has reported in this range
-- width: 6
SELECT toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t, oca_id AS series, sum(bytes) * 8000 / sum(interval_ms) AS value
FROM delivery_oca_report
WHERE NOT marker AND interval_ms > 0 AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  AND ({oca:String} = '' OR oca_id = {oca:String})
GROUP BY t, series
ORDER BY t, series
