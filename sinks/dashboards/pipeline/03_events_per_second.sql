-- title: Events
-- question: How many events per second does each topic carry into the warehouse?
-- show: line
-- unit: events/s
-- width: 6
-- empty: no event has arrived in this range
SELECT
  toStartOfInterval(topic_time, toIntervalSecond({step_s:UInt32})) AS t,
  replaceOne(_table, '_', '.') AS series,
  count() / {step_s:UInt32} AS value
FROM landed
WHERE NOT marker
  AND topic_time >= {from:DateTime64(3, 'UTC')}
  AND topic_time < toStartOfInterval({to:DateTime64(3, 'UTC')}, toIntervalSecond({step_s:UInt32}))
GROUP BY t, series
ORDER BY t, series
