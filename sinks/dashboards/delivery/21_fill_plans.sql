-- title: Fill plans
-- question: What is each cache server still to fetch and to let go by its newest plan, and what of its plans came or failed in the range?
-- show: table
-- empty: no fill plan has been told yet
-- width: 12
WITH held AS (
  SELECT oca_id, argMax(cid, at) AS cid, argMax(version, at) AS version
  FROM (SELECT *, (event_time, topic_offset) AS at FROM delivery_content WHERE NOT marker AND topic_time < {to:DateTime64(3, 'UTC')})
  GROUP BY oca_id, item
  HAVING argMax(held, at)
),
plans AS (
  SELECT oca_id, argMax(region, at) AS region, argMax(event_time, at) AS planned_at, argMax(window_start, at) AS window_start, argMax(window_end, at) AS window_end, argMax(fills, at) AS fills, argMax(evictions, at) AS evictions
  FROM (SELECT *, (event_time, topic_offset) AS at FROM delivery_fill_plan WHERE NOT marker AND topic_time < {to:DateTime64(3, 'UTC')})
  GROUP BY oca_id
)
SELECT region, oca, planned_at, to_fetch, to_come_bytes, fetched, received_bytes, failed, to_let_go, opens_at, closes_at
FROM (
  SELECT
    region, oca_id AS oca, planned_at, window_start AS opens_at, window_end AS closes_at,
    arrayFilter(
      fill -> ({title:String} = '' OR fill.cid = {title:String}) AND NOT has(there, (fill.cid, fill.version)), fills
    ) AS missing,
    length(missing) AS to_fetch,
    arraySum(missing.bytes) AS to_come_bytes,
    arrayCount(gone -> ({title:String} = '' OR gone.cid = {title:String}) AND has(there, (gone.cid, gone.version)), evictions) AS to_let_go
  FROM plans
  LEFT JOIN (SELECT oca_id, groupArray((cid, version)) AS there FROM held GROUP BY oca_id) AS has_already USING (oca_id)
) AS planned
LEFT JOIN (
  SELECT oca_id AS oca, countIf(kind = 'COMPLETED') AS fetched, countIf(kind = 'FAILED') AS failed, sum(steps.fetched_bytes) AS received_bytes
  FROM delivery_fill AS steps
  WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({title:String} = '' OR cid = {title:String})
  GROUP BY oca
) AS filled USING (oca)
WHERE ({oca:String} = '' OR oca = {oca:String}) AND ({region:String} = '' OR region = {region:String})
ORDER BY region, oca
LIMIT 200
