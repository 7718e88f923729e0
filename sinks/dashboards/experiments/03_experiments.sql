-- title: Experiments
-- question: Which experiments met a member in the range, since when do they run, and how many units have they come to? Read-outs are at /experiments.
-- show: table
-- width: 6
-- empty: nobody has met an experiment in this range
WITH met AS (
  SELECT replaceRegexpOne(of_phase, '[.][0-9]+$', '') AS experiment, max(event_time) AS last_met_at
  FROM experiments_exposure
  ARRAY JOIN mapKeys(variations) AS of_phase
  WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  GROUP BY experiment
)
SELECT
  met.experiment AS experiment,
  any(defined.state) AS state,
  any(nullIf(defined.started_at, toDateTime64(0, 3, 'UTC'))) AS started_at,
  sumIf(n, metric = '' AND value_bucket < 0) AS units,
  toInt64(sumIf(sum_x, metric = '' AND value_bucket < 0)) AS left_out,
  any(met.last_met_at) AS last_met_at
FROM met
LEFT JOIN (SELECT experiment, metric, value_bucket, n, sum_x FROM experiments_statistic WHERE NOT marker AND metric = '') AS told
  ON told.experiment = met.experiment
LEFT JOIN (
  SELECT key, JSONExtractString(document, 'state') AS state, started_at FROM experiment_definitions WHERE kind = 'experiment'
) AS defined ON defined.key = met.experiment
GROUP BY experiment
ORDER BY units DESC, experiment
LIMIT 50
