-- title: Health
-- question: What was thought of each cache server at the end of the range, since when, and why?
-- show: table
-- empty: no cache server has been judged yet
-- width: 6
SELECT
  oca_id AS oca,
  argMax(state, (event_time, topic_offset)) AS health,
  max(event_time) AS told_at,
  argMax(reason, (event_time, topic_offset)) AS reason,
  argMax(load, (event_time, topic_offset)) AS load_ratio,
  argMax(failed_sessions, (event_time, topic_offset)) AS failed_sessions
FROM delivery_oca_health
WHERE NOT marker AND topic_time < {to:DateTime64(3, 'UTC')} AND ({oca:String} = '' OR oca_id = {oca:String})
GROUP BY oca_id
ORDER BY oca_id
