-- What state is each session in now? The changes of state and heartbeats among the reports, without the segments, which are most of them.
--
-- Reads     playback.report
-- Writes    playback.session_state   one row per change or heartbeat, at least once and without waiting for a checkpoint
-- Key       sid; the topic is compacted, and readers let the latest event_time win
-- Time      none: rows pass as they come
-- State     none

SET 'table.exec.mini-batch.enabled' = 'false';
SET 'headrace.columns' = 'named';

INSERT INTO `playback.session_state`
SELECT
  event_id, event_time, 'session_states', 0, CAST(-1 AS BIGINT), correlation_id, FALSE,
  sid, sta, cid, br_kbps, bl_ms, oca_id, device_type, region, isp_asn, player
FROM `playback.report`
WHERE NOT marker AND sta IS NOT NULL AND e <> 'rr';
