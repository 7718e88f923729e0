-- title: Filters
-- question: What can the board be narrowed to?
-- show: table
-- empty: nothing has been played in this range
SELECT offer.1 AS filter, arrayJoin(arraySort(offer.2)) AS value
FROM (
  SELECT arrayJoin([
    ('title', groupUniqArray(200)(cid)), ('device', groupUniqArray(200)(toString(device_type))), ('oca', groupUniqArray(200)(oca_id)),
    ('isp', groupUniqArray(200)(toString(isp_asn))), ('region', groupUniqArray(200)(toString(region))),
    ('player', groupUniqArray(200)(toString(player)))
  ]) AS offer
  FROM playback_report
  WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
)
ORDER BY filter, value
