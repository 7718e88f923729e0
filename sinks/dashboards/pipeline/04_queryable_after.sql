-- title: Produced to queryable
-- question: How long after a report was written to Kafka can it be queried?
-- show: line
-- unit: ms
-- thresholds: warn 1500, bad 3000
-- width: 6
-- empty: no report has arrived in this range
SELECT
  toStartOfInterval(topic_time, toIntervalSecond({step_s:UInt32})) AS t,
  quantile(0.5)(dateDiff('millisecond', topic_time, ingested_at)) AS p50,
  quantile(0.95)(dateDiff('millisecond', topic_time, ingested_at)) AS p95,
  quantile(0.99)(dateDiff('millisecond', topic_time, ingested_at)) AS p99
FROM playback_report
WHERE NOT marker AND topic_time >= {from:DateTime64(3, 'UTC')} AND topic_time < {to:DateTime64(3, 'UTC')}
GROUP BY t
ORDER BY t
