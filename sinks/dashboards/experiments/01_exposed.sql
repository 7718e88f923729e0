-- title: Members in experiments
-- question: How many units met a variation in the range, and of how many experiments?
-- show: number
-- unit: members
-- width: 2
-- empty: nobody has met an experiment in this range
SELECT
  uniqExact(unit) AS value,
  uniqExact(experiment) AS experiments
FROM experiments_exposure
ARRAY JOIN mapKeys(variations) AS experiment
WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
HAVING count() > 0
