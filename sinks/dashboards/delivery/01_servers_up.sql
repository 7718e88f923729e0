-- title: Servers up
-- question: How many cache servers were an equal choice for new sessions at the end of the chosen range, of all that ever reported?
-- show: number
-- unit: servers
-- empty: no cache server has been judged yet
-- width: 2
SELECT
  countIf(state = 'UP') AS value,
  count() AS judged
FROM (
  SELECT oca_id, argMax(state, (event_time, topic_offset)) AS state
  FROM delivery_oca_health
  WHERE NOT marker AND topic_time < {to:DateTime64(3, 'UTC')} AND ({oca:String} = '' OR oca_id = {oca:String})
  GROUP BY oca_id
)
HAVING count() > 0
