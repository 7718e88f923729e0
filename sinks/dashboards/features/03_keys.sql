-- title: Keys
-- question: How many members, titles and what else have a row, by the newest word of the home page?
-- show: number
-- unit: keys
-- width: 2
-- empty: the home page has told of no feature in this range
SELECT sum(keys) AS value, count() AS kinds
FROM (SELECT group, argMax(keys, event_time) AS keys FROM recommendations_feature_profile WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')} GROUP BY group)
HAVING count() > 0
