-- title: First play hit
-- question: What share of the plays that were sent somewhere in the range got their first media from the store of a server that is best by routing?
-- show: number
-- unit: ratio
-- empty: no play that was sent somewhere in this range has been served yet
-- width: 2
SELECT
  countIf(first_hit AND has(best_ocas, first_oca)) / count() AS value,
  count() AS plays
FROM (
  SELECT sid, argMin(best_ocas, event_time) AS best_ocas
  FROM delivery_steering
  WHERE NOT marker AND sid IS NOT NULL AND protocol = 'PLAY'
    AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({title:String} = '' OR cid = {title:String}) AND ({isp:String} = '' OR toString(isp_asn) = {isp:String})
    AND ({region:String} = '' OR region = {region:String})
  GROUP BY sid
) AS sent
JOIN (
  SELECT sid, argMin(oca_id, event_time) AS first_oca, argMin(hit, event_time) AS first_hit
  FROM delivery_access
  WHERE NOT marker AND sid IS NOT NULL AND bytes > 0 AND NOT match(path, '\\.(mpd|m3u8)$')
    AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  GROUP BY sid
) AS served USING (sid)
WHERE {oca:String} = '' OR first_oca = {oca:String}
HAVING count() > 0
