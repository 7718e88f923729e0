-- title: Served
-- question: Of which keys were values served, of the share that is told, and how old was the newest event in them?
-- show: table
-- width: 6
-- empty: nothing was served in this range, of the share that is told
SELECT
  group AS key,
  count() AS rows_served,
  uniqExact(entity) AS different,
  countIf(taken = 0) / count() AS unheard_ratio,
  quantileIf(0.5)(dateDiff('second', clock, event_time), taken > 0) AS newest_event_s,
  max(event_time) AS last_at
FROM recommendations_feature_served
WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
GROUP BY key
ORDER BY rows_served DESC, key
