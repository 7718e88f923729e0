-- question: What happened in a session, in order?
-- reads: playback_report
-- key: sid, sn
-- time: event_time
-- A report that was sent again is shown once. Filter by sid: the table is sorted by it.
CREATE OR REPLACE VIEW session_timeline AS
SELECT
  sid,
  event_time,
  sn,
  target,
  e,
  sta,
  ot,
  br_kbps,
  bl_ms,
  mtp_kbps,
  oca_id,
  rc,
  ttfb_ms,
  ttlb_ms,
  bytes,
  pt_ms,
  ec,
  correlation_id
FROM playback_report
WHERE NOT marker
ORDER BY sid, event_time, sn
LIMIT 1 BY sid, event_id
