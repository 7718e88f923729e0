-- title: Cut by rule
-- question: Of how many keys did a rule cut some value, by the newest word of each?
-- show: number
-- unit: ratio
-- thresholds: warn 0.01, bad 0.1
-- width: 2
-- empty: the home page has told of no feature in this range
SELECT max(newest.1 / newest.2) AS value, argMax(value_name, newest.1 / newest.2) AS most
FROM (
  SELECT value AS value_name, argMax((over_cap, greatest(looked_at, 1)), event_time) AS newest
  FROM recommendations_feature_profile
  WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  GROUP BY value_name
)
HAVING count() > 0
