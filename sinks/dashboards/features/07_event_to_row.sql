-- title: Event to row
-- question: How long after its newest event was a row told? A row that is told coalesced counts with its newest event.
-- show: line
-- unit: ms
-- thresholds: warn 1000, bad 2000
-- width: 6
-- empty: no row was told in this range
SELECT
  toStartOfInterval(topic_time, toIntervalSecond({step_s:UInt32})) AS t,
  quantile(0.5)(dateDiff('millisecond', event_time, topic_time)) AS p50,
  quantile(0.95)(dateDiff('millisecond', event_time, topic_time)) AS p95,
  quantile(0.99)(dateDiff('millisecond', event_time, topic_time)) AS p99
FROM recommendations_feature_value
WHERE NOT marker AND topic_time >= {from:DateTime64(3, 'UTC')} AND topic_time < {to:DateTime64(3, 'UTC')} AND event_time > topic_time - INTERVAL 1 MINUTE
GROUP BY t
ORDER BY t
