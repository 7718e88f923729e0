-- title: Time to first byte
-- question: How long do the slowest hundredth of each cache server's requests wait for their first byte, as it says itself?
-- show: line
-- unit: ms
-- empty: no cache server has reported in this range
-- width: 6
SELECT toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t, oca_id AS series, max(ttfb_p99_us) / 1000 AS value
FROM delivery_oca_report
WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  AND ({oca:String} = '' OR oca_id = {oca:String})
GROUP BY t, series
ORDER BY t, series
