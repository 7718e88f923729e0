-- title: Filters
-- question: What can the board be narrowed to?
-- show: table
-- empty: nothing has been played in this range
SELECT filter, value
FROM (
  SELECT 'oca' AS filter, toString(oca_id) AS value FROM delivery_access
  WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  GROUP BY value
  UNION ALL
  SELECT 'device', toString(device_type) AS value FROM playback_report
  WHERE NOT marker AND device_type IS NOT NULL AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  GROUP BY value
  UNION ALL
  SELECT 'title', toString(cid) AS value FROM playback_report
  WHERE NOT marker AND cid IS NOT NULL AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  GROUP BY value
)
ORDER BY filter, value
LIMIT 500
