-- title: Exposures
-- question: How often does each experiment's variations meet a member? Of many experiments, the eight that meet most.
-- show: line
-- unit: per min
-- width: 4
-- empty: nobody has met an experiment in this range
WITH met AS (
  SELECT event_time, experiment
  FROM experiments_exposure
  ARRAY JOIN mapKeys(variations) AS experiment
  WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
)
SELECT
  toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t,
  replaceRegexpOne(experiment, '[.][0-9]+$', '') AS series,
  count() * 60 / {step_s:UInt32} AS value
FROM met
WHERE experiment IN (SELECT experiment FROM met GROUP BY experiment ORDER BY count() DESC, experiment LIMIT 8)
GROUP BY t, series
ORDER BY t, series
