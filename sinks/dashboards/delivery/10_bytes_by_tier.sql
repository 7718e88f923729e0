-- title: Bytes by tier
-- question: How much do players get from servers inside ISPs, at exchanges, and from the origin?
-- show: line
-- unit: bit/s
-- empty: no player has been answered in this range
-- width: 6
SELECT
  toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t,
  transform(toString(tier), ['EMBEDDED_FLASH', 'IX_STORAGE', 'ORIGIN'], ['inside ISPs', 'at exchanges', 'origin'], toString(tier)) AS series,
  sum(bytes) * 8 / {step_s:UInt32} AS value
FROM delivery_access
WHERE NOT marker AND sid IS NOT NULL
  AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < toStartOfInterval({to:DateTime64(3, 'UTC')}, toIntervalSecond({step_s:UInt32}))
  AND ({oca:String} = '' OR oca_id = {oca:String}) AND ({title:String} = '' OR cid = {title:String})
GROUP BY t, series
ORDER BY t, series
