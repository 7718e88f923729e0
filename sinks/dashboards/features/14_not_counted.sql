-- title: What did not count
-- question: Of what members do, how much came twice, from a clock that was ahead, from who does too much to be one, or without a region?
-- show: table
-- width: 6
-- empty: no member has done anything in this range
WITH
  told AS (
    SELECT member_id, event_id, event_time, topic_time, region
    FROM recommendations_interaction
    WHERE NOT marker AND topic_time >= {from:DateTime64(3, 'UTC')} AND topic_time < {to:DateTime64(3, 'UTC')}
  ),
  busy AS (SELECT member_id, toDate(topic_time) AS day, count() AS events FROM told GROUP BY member_id, day HAVING events > 10000)
SELECT why, events, events / (SELECT count() FROM told) AS share_ratio, what_happens
FROM (
  SELECT 'all' AS why, count() AS events, 'counted, but for what follows' AS what_happens, 0 AS place FROM told
  UNION ALL
  SELECT 'came twice', count() - uniqExact(member_id, event_id), 'counted once, if within an hour', 1 FROM told
  UNION ALL
  SELECT 'beyond 10,000 a day', sum(toInt64(busy.events) - 10000), 'not counted: no member does so much', 2 FROM busy
  UNION ALL
  SELECT 'clock ahead', countIf(event_time > topic_time), 'counted when it arrived', 3 FROM told
  UNION ALL
  SELECT 'late by a minute', countIf(event_time < topic_time - INTERVAL 1 MINUTE), 'counted at its own time', 4 FROM told
  UNION ALL
  SELECT 'no region', countIf(ifNull(region, '') = ''), 'not counted by region', 5 FROM told
)
WHERE (SELECT count() FROM told) > 0
ORDER BY place
