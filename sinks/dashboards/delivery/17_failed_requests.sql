-- title: Failed requests
-- question: How many requests did each cache server not answer, break off or fail, as players tell?
-- show: bar
-- unit: requests
-- empty: no player has asked a cache server for anything in this range
-- width: 6
SELECT t, series, sum(failed) AS value
FROM (
  SELECT toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t, ifNull(toString(oca_id), 'none reached') AS series, count() AS failed
  FROM playback_failed_request
  WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({oca:String} = '' OR oca_id = {oca:String}) AND ({title:String} = '' OR cid = {title:String})
    AND ({isp:String} = '' OR toString(isp_asn) = {isp:String}) AND ({region:String} = '' OR region = {region:String})
  GROUP BY t, series
  UNION ALL
  -- where a server answered players and none of them complains, there were none
  SELECT toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t, toString(oca_id) AS series, 0
  FROM delivery_access
  WHERE NOT marker AND sid IS NOT NULL AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({oca:String} = '' OR oca_id = {oca:String}) AND ({title:String} = '' OR cid = {title:String})
  GROUP BY t, series
)
GROUP BY t, series
ORDER BY t, series
