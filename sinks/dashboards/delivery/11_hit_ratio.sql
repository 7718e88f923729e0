-- title: Hit ratio
-- question: What share of players' requests did each cache server answer from its own store? It rises as fills come in.
-- show: line
-- unit: ratio
-- empty: no player has been answered in this range
-- width: 6
SELECT
  toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t,
  oca_id AS series,
  countIf(hit) / count() AS value
FROM delivery_access
WHERE NOT marker AND sid IS NOT NULL AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  AND ({oca:String} = '' OR oca_id = {oca:String}) AND ({title:String} = '' OR cid = {title:String})
GROUP BY t, series
ORDER BY t, series
