-- title: Jobs
-- question: How many checkpoints did each job complete, how long did they take and how large are they?
-- show: table
-- width: 6
-- empty: no checkpoint has been sampled in this range
SELECT
  component AS job,
  countIf(metric = 'checkpoint_ms') AS checkpoints,
  countIf(metric = 'checkpoint_failed_ms') AS failed,
  quantileExactIf(0.5)(measured, metric = 'checkpoint_ms') AS median_ms,
  maxIf(measured, metric = 'checkpoint_ms') AS longest_ms,
  argMaxIf(measured, event_time, metric = 'checkpoint_bytes') AS newest_bytes
FROM observability_sample
WHERE NOT marker AND metric IN ('checkpoint_ms', 'checkpoint_failed_ms', 'checkpoint_bytes')
  AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
GROUP BY job
ORDER BY job
