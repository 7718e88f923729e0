-- title: Cardinality
-- question: How many keys have a row, by what they are?
-- show: line
-- unit: keys
-- width: 6
-- empty: the home page has told of no feature in this range
SELECT toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t, group AS series, argMax(keys, event_time) AS value
FROM recommendations_feature_profile
WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
GROUP BY t, series
ORDER BY t, series
