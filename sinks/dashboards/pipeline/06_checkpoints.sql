-- title: Checkpoint times
-- question: How long does each job's slowest checkpoint take?
-- show: line
-- unit: ms
-- thresholds: warn 2000, bad 10000
-- width: 6
-- empty: no checkpoint has been sampled in this range
SELECT
  toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t,
  component AS series,
  max(measured) AS value
FROM observability_sample
WHERE NOT marker AND metric = 'checkpoint_ms' AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
GROUP BY t, series
ORDER BY t, series
