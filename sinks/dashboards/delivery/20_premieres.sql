-- title: Premiere readiness
-- question: On how many cache servers of each region is an announced title held, and on how many more is it planned? A region for which nothing is announced says so.
-- show: table
-- empty: no cache server that can hold titles is installed
-- width: 12
WITH servers AS (
  SELECT oca_id, argMax(region, at) AS region, argMax(disk_bytes, at) AS disk_bytes
  FROM (SELECT *, (event_time, topic_offset) AS at FROM delivery_oca WHERE NOT marker AND topic_time < {to:DateTime64(3, 'UTC')})
  GROUP BY oca_id
  HAVING NOT argMax(retired, at)
),
held AS (
  SELECT oca_id, argMax(cid, at) AS cid
  FROM (SELECT *, (event_time, topic_offset) AS at FROM delivery_content WHERE NOT marker AND topic_time < {to:DateTime64(3, 'UTC')})
  GROUP BY oca_id, item
  HAVING argMax(held, at)
),
plans AS (
  SELECT oca_id, argMax(region, at) AS region, argMax(fills, at) AS fills
  FROM (SELECT *, (event_time, topic_offset) AS at FROM delivery_fill_plan WHERE NOT marker AND topic_time < {to:DateTime64(3, 'UTC')})
  GROUP BY oca_id
),
regions AS (SELECT region, count() AS servers FROM servers WHERE disk_bytes > 0 GROUP BY region),
announced AS (
  SELECT
    cid, argMax(from_time, at) AS from_time, argMax(tuple(expected_plays), at).1 AS expected_plays, argMax(premiere, at) AS premiere,
    arrayJoin(if(empty(argMax(release.regions, at)), (SELECT groupArray(region) FROM regions), argMax(release.regions, at))) AS region
  FROM (
    SELECT *, (event_time, topic_offset) AS at
    FROM delivery_release
    WHERE NOT marker AND topic_time < {to:DateTime64(3, 'UTC')} AND ({title:String} = '' OR cid = {title:String})
  ) AS release
  GROUP BY cid
  HAVING NOT argMax(withdrawn, at) AND from_time > {to:DateTime64(3, 'UTC')} - INTERVAL 2 DAY
)
SELECT
  region,
  nullIf(cid, '') AS title,
  multiIf(cid = '', 'nothing is announced', held_on = servers, 'held everywhere', held_on > 0, 'held', to_come_on > 0, 'to come', 'not planned') AS status,
  if(cid = '', NULL, formatDateTime(from_time, '%d %b %H:%i')) AS first_play_utc,
  if(premiere, 'yes', NULL) AS premiere,
  expected_plays,
  held_on AS held,
  to_come_on AS to_come,
  servers
FROM regions
LEFT JOIN announced USING (region)
LEFT JOIN (
  SELECT region, cid, uniqExact(oca_id) AS held_on FROM held JOIN servers USING (oca_id) WHERE disk_bytes > 0 GROUP BY region, cid
) AS there USING (region, cid)
LEFT JOIN (
  SELECT region, fill.cid AS cid, uniqExact(oca_id) AS to_come_on
  FROM (SELECT oca_id, region, arrayJoin(fills) AS fill FROM plans)
  WHERE (oca_id, fill.cid) NOT IN (SELECT oca_id, cid FROM held)
  GROUP BY region, cid
) AS planned USING (region, cid)
WHERE {region:String} = '' OR region = {region:String}
ORDER BY cid = '', from_time, cid, region
LIMIT 100
