-- title: Held
-- question: How much does each cache server hold, as it says itself? A fill makes it rise, what is let go makes it fall.
-- show: line
-- unit: bytes
-- empty: no cache server has reported in this range
-- width: 6
SELECT toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t, oca_id AS series, argMax(held_bytes, event_time) AS value
FROM delivery_oca_report
WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  AND ({oca:String} = '' OR oca_id = {oca:String})
GROUP BY t, series
ORDER BY t, series
