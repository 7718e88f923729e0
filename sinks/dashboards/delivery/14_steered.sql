-- title: Who is sent where
-- question: Which cache server are the plays of each ISP sent to first, and how often was it none of the best by routing?
-- show: table
-- empty: no play has been sent anywhere in this range
-- width: 6
SELECT isp, oca, decisions, share_ratio, not_the_best, causes
FROM (
  SELECT
    toString(isp_asn) AS isp,
    nullIf(toString(best_oca_id), '') AS oca,
    count() AS decisions,
    count() / sum(count()) OVER (PARTITION BY isp) AS share_ratio,
    countIf(cause != 'NONE') AS not_the_best,
    nullIf(lower(arrayStringConcat(arraySort(groupUniqArrayIf(toString(cause), cause != 'NONE')), ', ')), '') AS causes
  FROM delivery_steering
  WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({title:String} = '' OR cid = {title:String}) AND ({isp:String} = '' OR toString(isp_asn) = {isp:String})
    AND ({region:String} = '' OR region = {region:String})
  GROUP BY isp, oca
)
WHERE {oca:String} = '' OR oca = {oca:String}
ORDER BY isp, decisions DESC, oca
LIMIT 200
