-- title: Inside the ISP
-- question: What share of the bytes that players got came from a server in the network of the viewer's own ISP, as steering knows it?
-- show: number
-- unit: ratio
-- empty: no play that was sent somewhere has been served in this range
-- width: 2
WITH servers AS (
  SELECT oca_id, argMax(tuple(isp_asn), at).1 AS isp_asn
  FROM (SELECT *, (event_time, topic_offset) AS at FROM delivery_oca WHERE NOT marker AND topic_time < {to:DateTime64(3, 'UTC')})
  GROUP BY oca_id
  HAVING NOT argMax(retired, at)
)
SELECT
  sumIf(bytes, server_asn = viewer_asn) / sum(bytes) AS value,
  sumIf(bytes, server_asn IS NULL AND tier = 'IX_STORAGE') AS from_exchanges_bytes
FROM (
  SELECT sid, oca_id, any(tier) AS tier, sum(bytes) AS bytes
  FROM delivery_access
  WHERE NOT marker AND sid IS NOT NULL AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({oca:String} = '' OR oca_id = {oca:String}) AND ({title:String} = '' OR cid = {title:String})
  GROUP BY sid, oca_id
) AS served
JOIN (
  SELECT sid, argMax(tuple(isp_asn), event_time).1 AS viewer_asn
  FROM delivery_steering
  WHERE NOT marker AND sid IS NOT NULL
    AND event_time >= {from:DateTime64(3, 'UTC')} - INTERVAL 6 HOUR AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({isp:String} = '' OR toString(isp_asn) = {isp:String}) AND ({region:String} = '' OR region = {region:String})
  GROUP BY sid
) AS sent USING (sid)
LEFT JOIN (SELECT oca_id, isp_asn AS server_asn FROM servers) AS stands USING (oca_id)
HAVING sum(bytes) > 0
