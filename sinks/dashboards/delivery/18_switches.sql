-- title: Switches of players
-- question: How often did players leave a cache server in the middle of a session, and why?
-- show: bar
-- unit: switches
-- empty: no player has been answered in this range
-- width: 6
SELECT t, series, sum(switches) AS value
FROM (
  SELECT toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t, ifNull(toString(switch_cause), '') AS series, count() AS switches
  FROM playback_oca_switch
  WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({oca:String} = '' OR switched_from = {oca:String}) AND ({title:String} = '' OR cid = {title:String})
    AND ({isp:String} = '' OR toString(isp_asn) = {isp:String}) AND ({region:String} = '' OR region = {region:String})
  GROUP BY t, series
  UNION ALL
  -- where players were answered and none of them left, there were none
  SELECT toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t, 'broken' AS series, 0
  FROM delivery_access
  WHERE NOT marker AND sid IS NOT NULL AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({oca:String} = '' OR oca_id = {oca:String}) AND ({title:String} = '' OR cid = {title:String})
  GROUP BY t, series
)
GROUP BY t, series
ORDER BY t, series
