-- title: Events
-- question: How many player reports per second arrived in the last half minute of the range?
-- show: number
-- unit: events/s
-- width: 2
-- empty: no report has arrived lately
SELECT
  count() / 30 AS value,
  uniqExact(sid) AS sessions
FROM playback_report
WHERE NOT marker AND topic_time >= {to:DateTime64(3, 'UTC')} - INTERVAL 30 SECOND AND topic_time < {to:DateTime64(3, 'UTC')}
HAVING count() > 0
