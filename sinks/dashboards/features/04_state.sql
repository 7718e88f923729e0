-- title: State
-- question: How much do all rows take, by the newest word of the home page?
-- show: number
-- unit: bytes
-- width: 2
-- empty: the home page has told of no feature in this range
SELECT sum(newest.1 * newest.2) AS value, sum(newest.1 * newest.2) / sum(newest.1) AS row_bytes
FROM (
  SELECT group, argMax((keys, row_bytes), event_time) AS newest FROM recommendations_feature_profile WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')} GROUP BY group
)
HAVING count() > 0
