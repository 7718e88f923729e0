-- title: Experiments
-- question: Which experiments were counted in the range, since when do they run, and how many units have they come to? Read-outs are at /experiments.
-- show: table
-- width: 6
-- empty: the stream has told no sums in this range: they come with the first exposure, after a checkpoint
SELECT
  told.experiment AS experiment,
  any(defined.state) AS state,
  any(nullIf(defined.started_at, toDateTime64(0, 3, 'UTC'))) AS started_at,
  sumIf(n, metric = '' AND value_bucket < 0) AS units,
  toInt64(sumIf(sum_x, metric = '' AND value_bucket < 0)) AS left_out,
  maxIf(event_time, event_time < {to:DateTime64(3, 'UTC')}) AS told_at
FROM experiments_statistic AS told
LEFT JOIN (
  SELECT key, JSONExtractString(document, 'state') AS state, started_at FROM experiment_definitions WHERE kind = 'experiment'
) AS defined ON defined.key = told.experiment
WHERE NOT marker AND told.experiment != ''
GROUP BY experiment
HAVING countIf(event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}) > 0
ORDER BY units DESC, experiment
LIMIT 50
