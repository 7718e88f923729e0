-- title: Consumer lag
-- question: How many offsets are the consumers behind, over all their topics?
-- show: line
-- unit: offsets
-- width: 6
-- empty: no lag has been sampled in this range
SELECT toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t, component AS series, max(behind) AS value
FROM (
  SELECT event_time, component, sum(measured) AS behind
  FROM observability_sample
  WHERE NOT marker AND metric = 'lag' AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  GROUP BY event_time, component
)
GROUP BY t, series
ORDER BY t, series
