-- title: Dead letters
-- question: What could not go on, who refused it and why?
-- show: table
-- width: 6
-- empty: nothing has been refused in this range
SELECT
  reason,
  component,
  topic,
  count() AS letters,
  max(event_time) AS last_at
FROM observability_dead_letter
WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
GROUP BY reason, component, topic
ORDER BY letters DESC
LIMIT 50
