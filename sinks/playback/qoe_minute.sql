-- question: How good was playback in each minute, for whom?
-- reads: playback_qoe_minute
-- key: minute, cid, device_type, player, region, isp_asn, oca_id
-- time: minute
-- Rows of the topic are differences: a minute is their sum. Summed over dimensions or minutes once more it is right as well, histograms by sumMap.
-- What was let out and all taken back again has never been.
CREATE OR REPLACE VIEW qoe_minute AS
SELECT
  minute,
  cid,
  device_type,
  player,
  region,
  isp_asn,
  oca_id,
  sum(sessions) AS sessions,
  sum(attempts) AS attempts,
  sum(starts) AS starts,
  sum(failed_starts) AS failed_starts,
  sum(exits_before_start) AS exits_before_start,
  sum(in_play_failures) AS in_play_failures,
  sum(playing_ms) AS playing_ms,
  sum(rebuffer_count) AS rebuffer_count,
  sum(rebuffer_ms) AS rebuffer_ms,
  sum(known_bitrate_ms) AS known_bitrate_ms,
  sum(played_bits) AS played_bits,
  sum(requests) AS requests,
  sum(failed_requests) AS failed_requests,
  sum(received_bytes) AS received_bytes,
  mapFilter((bucket, n) -> n != 0, sumMap(startup_ms)) AS startup_ms,
  mapFilter((bucket, n) -> n != 0, sumMap(ttfb_ms)) AS ttfb_ms,
  mapFilter((bucket, n) -> n != 0, sumMap(throughput_kbps)) AS throughput_kbps
FROM playback_qoe_minute
WHERE NOT marker
GROUP BY minute, cid, device_type, player, region, isp_asn, oca_id
HAVING arrayExists(come -> come != 0, [
  sessions, attempts, starts, failed_starts, exits_before_start, in_play_failures, playing_ms, rebuffer_count, rebuffer_ms, requests,
  toInt64(length(startup_ms))
])
