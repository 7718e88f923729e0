-- title: Compared with the log
-- question: How many values that were served were computed again from the log, and how many of them did it allow?
-- show: line
-- unit: values
-- width: 6
-- empty: nothing that was served has been compared in this range
SELECT
  toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t,
  metric AS series,
  sum(measured) AS value
FROM observability_sample
WHERE NOT marker AND component = 'features' AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
GROUP BY t, series
ORDER BY t, series
