-- title: Produced to queryable
-- question: How long after a report was written to Kafka can it be queried, in ninety-nine of a hundred cases?
-- show: number
-- unit: ms
-- thresholds: warn 1500, bad 3000
-- width: 2
-- empty: no report has arrived lately
SELECT
  quantile(0.99)(dateDiff('millisecond', topic_time, ingested_at)) AS value,
  quantile(0.5)(dateDiff('millisecond', topic_time, ingested_at)) AS median_ms
FROM playback_report
WHERE NOT marker AND topic_time >= {to:DateTime64(3, 'UTC')} - INTERVAL 1 MINUTE AND topic_time < {to:DateTime64(3, 'UTC')}
HAVING count() > 0
