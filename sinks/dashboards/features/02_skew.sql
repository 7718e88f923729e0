-- title: Skew
-- question: How many values that were served does the log not allow? There should be none.
-- show: number
-- unit: values
-- thresholds: bad 1
-- width: 2
-- empty: nothing that was served has been compared in this range
SELECT
  sumIf(measured, metric = 'skewed') AS value,
  sumIf(measured, metric = 'compared') AS compared,
  sumIf(measured, metric = 'undecided') AS undecided
FROM observability_sample
WHERE NOT marker AND component = 'features' AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
HAVING count() > 0
