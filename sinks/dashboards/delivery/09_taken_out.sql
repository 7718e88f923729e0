-- title: Taken out and back
-- question: When did a cache server stop or begin to be a choice for new sessions, and why?
-- show: table
-- empty: no cache server's health has changed in this range
-- width: 6
SELECT
  event_time AS changed_at,
  oca_id AS oca,
  state AS health,
  reason
FROM (
  SELECT event_time, oca_id, state, reason, lagInFrame(state) OVER (PARTITION BY oca_id ORDER BY event_time, topic_offset) AS before
  FROM delivery_oca_health
  WHERE NOT marker AND event_time < {to:DateTime64(3, 'UTC')} AND ({oca:String} = '' OR oca_id = {oca:String})
)
WHERE state != before AND event_time >= {from:DateTime64(3, 'UTC')}
ORDER BY changed_at DESC
LIMIT 50
