-- title: Misses by cause
-- question: How many answers to players were misses, and why did a server that is best by routing not serve them from its store?
-- show: bar
-- unit: answers
-- empty: no player has been answered in this range
-- width: 6
SELECT t, sum(content) AS content, sum(health) AS health, sum(route) AS route, sum(load) AS load, sum(other) AS other
FROM (
  SELECT
    toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t,
    countIf(cause = 'CONTENT') AS content, countIf(cause = 'HEALTH') AS health, countIf(cause = 'ROUTE') AS route,
    countIf(cause = 'LOAD') AS load, countIf(cause = 'OTHER') AS other
  FROM delivery_miss
  WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({oca:String} = '' OR oca_id = {oca:String} OR best_oca_id = {oca:String}) AND ({title:String} = '' OR cid = {title:String})
  GROUP BY t
  UNION ALL
  -- where players were answered and nothing was missed, there were none
  SELECT toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t, 0, 0, 0, 0, 0
  FROM delivery_access
  WHERE NOT marker AND sid IS NOT NULL AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({oca:String} = '' OR oca_id = {oca:String}) AND ({title:String} = '' OR cid = {title:String})
  GROUP BY t
)
GROUP BY t
ORDER BY t
