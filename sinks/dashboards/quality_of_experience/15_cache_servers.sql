-- title: Cache servers
-- question: What does each cache server answer, how fast, and how often in error?
-- show: table
-- empty: no cache server has answered a request in this range
-- width: 6
SELECT
  oca_id AS oca,
  any(tier) AS tier,
  count() AS requests,
  sum(bytes) AS served_bytes,
  countIf(rc >= 400) AS errors,
  countIf(hit) / count() AS hit_ratio,
  quantile(0.95)(ttfb_us) / 1000 AS ttfb_p95_ms
FROM delivery_access
WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  AND ({oca:String} = '' OR oca_id = {oca:String}) AND ({title:String} = '' OR cid = {title:String})
GROUP BY oca_id
ORDER BY oca_id
