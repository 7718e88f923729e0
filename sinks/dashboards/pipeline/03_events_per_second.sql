-- title: Events
-- question: How many events per second does each topic carry into the warehouse?
-- show: line
-- unit: events/s
-- width: 6
-- empty: no event has arrived in this range
SELECT
  toStartOfInterval(topic_time, toIntervalSecond({step_s:UInt32})) AS t,
  topic AS series,
  count() / {step_s:UInt32} AS value
FROM (
  SELECT topic_time, 'playback.report' AS topic FROM playback_report
  UNION ALL SELECT topic_time, 'playback.report_late' FROM playback_report_late
  UNION ALL SELECT topic_time, 'playback.qoe_session' FROM playback_qoe_session
  UNION ALL SELECT topic_time, 'delivery.access' FROM delivery_access
  UNION ALL SELECT topic_time, 'control.request' FROM control_request
  UNION ALL SELECT topic_time, 'encoding.source' FROM encoding_source
  UNION ALL SELECT topic_time, 'encoding.chunk' FROM encoding_chunk
  UNION ALL SELECT topic_time, 'encoding.rung' FROM encoding_rung
  UNION ALL SELECT topic_time, 'encoding.published' FROM encoding_published
  UNION ALL SELECT topic_time, 'observability.dead_letter' FROM observability_dead_letter
  UNION ALL SELECT topic_time, 'observability.route_count' FROM observability_route_count
)
WHERE topic_time >= {from:DateTime64(3, 'UTC')} AND topic_time < toStartOfInterval({to:DateTime64(3, 'UTC')}, toIntervalSecond({step_s:UInt32}))
GROUP BY t, series
ORDER BY t, series
