-- title: Sites
-- question: Which cache server stands where, is it well, what does it hold, and what does it serve in the range? Plays are decisions that name it first; its hit ratio is of players' requests.
-- show: table
-- empty: no cache server is installed
-- width: 12
WITH servers AS (
  SELECT oca_id, argMax(site_id, at) AS site, argMax(region, at) AS region, argMax(tier, at) AS tier
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
(
  SELECT max(event_time)
  FROM delivery_oca_report
  WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
) AS newest
SELECT
  region, site, oca_id AS oca, tier, software, nullIf(state, '') AS health, load_ratio, plays, hit_ratio, egress_kbps, titles, disk_used_ratio
FROM servers
LEFT JOIN (
  SELECT oca_id, argMax(state, (event_time, topic_offset)) AS state
  FROM delivery_oca_health
  WHERE NOT marker AND topic_time < {to:DateTime64(3, 'UTC')}
  GROUP BY oca_id
) AS judged USING (oca_id)
LEFT JOIN (
  SELECT
    oca_id,
    sumIf(bytes, lately) * 8000 / nullIf(sumIf(interval_ms, lately), 0) / any(egress_bps) AS load_ratio,
    sum(bytes) * 8 / nullIf(sum(interval_ms), 0) AS egress_kbps,
    argMax(held_bytes, event_time) / nullIf(argMax(disk_bytes, event_time), 0) AS disk_used_ratio,
    toNullable(argMax(toString(software), event_time)) AS software
  FROM (
    SELECT *, event_time > newest - INTERVAL 10 SECOND AS lately
    FROM delivery_oca_report
    WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  )
  GROUP BY oca_id
) AS reported USING (oca_id)
LEFT JOIN (
  SELECT oca_id, toNullable(countIf(hit) / count()) AS hit_ratio
  FROM delivery_access
  WHERE NOT marker AND sid IS NOT NULL AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({title:String} = '' OR cid = {title:String})
  GROUP BY oca_id
) AS served USING (oca_id)
LEFT JOIN (
  SELECT best_oca_id AS oca_id, count() AS plays
  FROM delivery_steering
  WHERE NOT marker AND protocol = 'PLAY' AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({title:String} = '' OR cid = {title:String}) AND ({isp:String} = '' OR toString(isp_asn) = {isp:String})
  GROUP BY oca_id
) AS sent USING (oca_id)
LEFT JOIN (SELECT oca_id, uniqExact(cid) AS titles FROM held WHERE {title:String} = '' OR cid = {title:String} GROUP BY oca_id) AS has USING (oca_id)
WHERE ({oca:String} = '' OR oca_id = {oca:String}) AND ({region:String} = '' OR region = {region:String})
ORDER BY region, site, oca
