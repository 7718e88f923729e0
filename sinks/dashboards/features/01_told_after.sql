-- title: Event to row
-- question: How long after its newest event was a row told, in ninety-nine of a hundred cases? Rows told again, as when features are deployed, are left out.
-- show: number
-- unit: ms
-- thresholds: warn 1000, bad 2000
-- width: 2
-- empty: no row was told in this range
SELECT
  quantile(0.99)(dateDiff('millisecond', event_time, topic_time)) AS value,
  quantile(0.5)(dateDiff('millisecond', event_time, topic_time)) AS median_ms
FROM recommendations_feature_value
WHERE NOT marker AND topic_time >= {from:DateTime64(3, 'UTC')} AND topic_time < {to:DateTime64(3, 'UTC')} AND event_time > topic_time - INTERVAL 1 MINUTE
HAVING count() > 0
