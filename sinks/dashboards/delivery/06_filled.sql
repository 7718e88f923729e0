-- title: Filled
-- question: Of the bytes that cache servers hold or are still to fetch by their newest fill plans, what share was there at the end of the range?
-- show: number
-- unit: ratio
-- empty: no fill plan has been told yet
-- width: 2
WITH {held}, {plans}
SELECT
  if(sum(bytes) = 0, 1, sumIf(bytes, there) / sum(bytes)) AS value,
  sumIf(bytes, NOT there) AS to_come_bytes
FROM (
  SELECT oca_id, cid, bytes, true AS there FROM held
  UNION ALL
  SELECT oca_id, fill.cid, fill.bytes, false FROM plans ARRAY JOIN fills AS fill
  WHERE (oca_id, fill.cid, fill.version) NOT IN (SELECT oca_id, cid, version FROM held)
)
WHERE ({oca:String} = '' OR oca_id = {oca:String}) AND ({title:String} = '' OR cid = {title:String})
  AND ({region:String} = '' OR oca_id IN (SELECT oca_id FROM plans WHERE region = {region:String}))
HAVING (SELECT count() FROM plans) > 0
