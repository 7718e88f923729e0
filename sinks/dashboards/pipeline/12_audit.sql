-- title: Audit
-- question: Was everything that producers were told is stored found in the tables, and once, in the range's last audit?
-- show: table
-- width: 6
-- empty: no audit has ended in this range
SELECT
  about AS topic,
  argMaxIf(measured, event_time, metric = 'acknowledged') AS acknowledged,
  argMaxIf(measured, event_time, metric = 'stored') AS stored,
  argMaxIf(measured, event_time, metric = 'lost') AS lost,
  argMaxIf(measured, event_time, metric = 'duplicated') AS doubled,
  max(event_time) AS audited_at
FROM observability_sample
WHERE NOT marker AND component = 'audit' AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
GROUP BY topic
ORDER BY lost + doubled DESC, topic
