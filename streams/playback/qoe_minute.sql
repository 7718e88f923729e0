-- How good was playback in each minute, for whom? Sums and histograms by title, device, ISP, region, player and cache server.
--
-- Reads     playback.report
-- Writes    playback.qoe_minute       rows that add up: what a minute has come to is the sum of its rows
--           playback.playback_starts  what of it is demand, by title and region
-- Key       cid
-- Time      event_time, watermark 5 s behind. A minute comes out once the watermark has passed its end; what changes of it later comes out as
--           a difference, at the end of the minute in which it became known.
-- Lateness  A report that took more than three minutes to arrive is left out: that depends on the report alone, not on when it is read, and
--           route counts such reports onto playback.report_late. All others count, in whatever order they come, once each (target, sn),
--           but for request mode: whether a player tells of its requests itself is known only when its session is over (qoe_sessions).
-- State     25 bytes a report of the last five minutes (Minutes.java), and some 200 a session until ten minutes after its last report. Who is heard of
--           again after five minutes of silence counts as a new session.

SET 'table.exec.mini-batch.enabled' = 'false';
SET 'headrace.columns' = 'named';
SET 'table.optimizer.agg-phase-strategy' = 'ONE_PHASE';  -- sessions have added up their reports already

CREATE TEMPORARY FUNCTION session_minutes AS 'headrace.playback.Minutes' LANGUAGE JAVA;
CREATE TEMPORARY FUNCTION added_counts AS 'headrace.playback.AddedCounts' LANGUAGE JAVA;

CREATE TEMPORARY VIEW told AS
SELECT
  sid, event_time, CAST(sn AS INT) AS sn, target, e, sta, ot, rc, br_kbps, msd_ms, oca_id,
  CONCAT_WS(
    U&'\001F', COALESCE(CAST(isp_asn AS STRING), ''), COALESCE(cid, ''), COALESCE(device_type, ''), COALESCE(player, ''), COALESCE(region, '')
  ) AS about,
  ttfb_ms, ttlb_ms, `bytes` AS received
FROM `playback.report`
WHERE NOT marker AND sn < ${streams.playback.qoe.MOST_REPORTS} AND NOT (${streams.playback.timeline.IS_REQUEST})
  AND arrived_at <= event_time + INTERVAL '${streams.playback.minute.LATEST_MIN}' MINUTE;

CREATE TEMPORARY VIEW added AS
SELECT * FROM session_minutes(told => TABLE told PARTITION BY sid, on_time => DESCRIPTOR(event_time), uid => 'minutes');

INSERT INTO `playback.qoe_minute`
SELECT
  MD5(CONCAT_WS(
    U&'\001F', CAST(window_end AS STRING), CAST(counted_minute AS STRING), COALESCE(CAST(isp_asn AS STRING), ''), cid, device_type, player, region, oca_id
  )),
  counted_minute, 'qoe_minute', 0, CAST(-1 AS BIGINT), '', FALSE,
  counted_minute, cid, device_type, player, region, isp_asn, oca_id,
  SUM(sessions), SUM(attempts), SUM(starts), SUM(failed_starts), SUM(exits_before_start), SUM(in_play_failures),
  SUM(playing_ms), SUM(rebuffer_count), SUM(rebuffer_ms), SUM(known_bitrate_ms), SUM(played_bits),
  SUM(requests), SUM(failed_requests), SUM(received_bytes),
  added_counts(startup_ms), added_counts(ttfb_ms), added_counts(throughput_kbps)
FROM TABLE(TUMBLE(TABLE added, DESCRIPTOR(rowtime), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, counted_minute, cid, device_type, player, region, isp_asn, oca_id;

INSERT INTO `playback.playback_starts`
SELECT
  MD5(CONCAT_WS(U&'\001F', CAST(window_end AS STRING), CAST(counted_minute AS STRING), cid, region)),
  counted_minute, 'qoe_minute', 0, CAST(-1 AS BIGINT), '', FALSE,
  counted_minute, cid, region, SUM(attempts), SUM(starts), SUM(failed_starts), SUM(received_bytes)
FROM TABLE(TUMBLE(TABLE added, DESCRIPTOR(rowtime), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, counted_minute, cid, region
HAVING SUM(attempts) <> 0 OR SUM(starts) <> 0 OR SUM(failed_starts) <> 0 OR SUM(received_bytes) <> 0;
