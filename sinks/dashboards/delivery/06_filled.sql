-- title: Filled
-- question: Of the bytes that cache servers hold or are still to fetch by their newest fill plans, what share was there at the end of the range?
-- show: number
-- unit: ratio
-- empty: no fill plan has been told yet
-- width: 2
WITH held AS (
  SELECT oca_id, argMax(cid, at) AS cid, argMax(version, at) AS version, argMax(bytes, at) AS bytes
  FROM (SELECT *, (event_time, topic_offset) AS at FROM delivery_content WHERE NOT marker AND topic_time < {to:DateTime64(3, 'UTC')})
  GROUP BY oca_id, item
  HAVING argMax(held, at)
),
plans AS (
  SELECT oca_id, argMax(region, at) AS region, argMax(fills, at) AS fills
  FROM (SELECT *, (event_time, topic_offset) AS at FROM delivery_fill_plan WHERE NOT marker AND topic_time < {to:DateTime64(3, 'UTC')})
  GROUP BY oca_id
)
SELECT
  if(sum(bytes) = 0, 1, sumIf(bytes, there) / sum(bytes)) AS value,
  sumIf(bytes, NOT there) AS to_come_bytes
FROM (
  SELECT oca_id, cid, bytes, true AS there FROM held
  UNION ALL
  SELECT oca_id, fill.cid, fill.bytes, false
  FROM (SELECT oca_id, arrayJoin(fills) AS fill FROM plans)
  WHERE (oca_id, fill.cid, fill.version) NOT IN (SELECT oca_id, cid, version FROM held)
)
WHERE ({oca:String} = '' OR oca_id = {oca:String}) AND ({title:String} = '' OR cid = {title:String})
  AND ({region:String} = '' OR oca_id IN (SELECT oca_id FROM plans WHERE region = {region:String}))
HAVING (SELECT count() FROM plans) > 0
