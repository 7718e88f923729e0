-- title: Dead letters by reason
-- question: When was something refused, and why?
-- show: bar
-- unit: letters
-- width: 6
-- empty: nothing has been refused in this range
SELECT toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t, reason AS series, count() AS value
FROM observability_dead_letter
WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
GROUP BY t, series
ORDER BY t, series
