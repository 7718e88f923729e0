-- How fast are sessions, and how many stall, by prefix, ISP, region, time of day, device and network? What players start from.
--
-- Reads     playback.report, delivery.steering
-- Writes    playback.abr_features   one row for each cell and minute in which a session of the cell was over, at least once and without waiting
--                                   for a checkpoint
-- Key       item: the cell; the topic is compacted, so that the newest row of each cell stays
-- Time      event_time, watermark 5 s behind. A session is over when a minute of silence has passed the watermark, and counts in the minute of its
--           end, at the time of day of its beginning. A row's event_time is the end of its minute.
-- Lateness  A report that comes when its session is over is left out: what it would have said is said by others.
-- State     some 300 bytes a session that plays; a few sums for each cell, until it has had no session for 60 days
--
-- Cells are bounded by having few dimensions at once: eight times of day of each place, and device x network of each ISP, each region and
-- everybody. What a cell of more dimensions would say is put together of these (producers/abr/features.py); features.py beside this file
-- says the same as this file, in Python.
-- Throughputs are log-normal, so means are of logarithms; first of a session, so that a long one counts once. A segment counts from 64 KiB
-- on: of less, the start of the transfer is most of the time. The start-up phase is a session's first 32 reports, some ten segments.
-- Sums of a minute are whole numbers (ten-thousandths of ln(bit/s)), so no order of adding matters; a cell's minutes are added up in order of
-- time. A session weighs 2 ^ (weeks since 2026) in a sum, and the sums are divided by what a session of now would weigh: half-life 7 days.

SET 'table.exec.mini-batch.enabled' = 'false';
SET 'table.exec.state.ttl' = '60 d';
SET 'headrace.columns' = 'named';

CREATE TEMPORARY VIEW told AS
SELECT
  sid, event_time, '' AS client_prefix, CAST(NULL AS INT) AS steered_isp, CAST(NULL AS STRING) AS steered_to, isp_asn, region, device_type, network_type,
  CASE WHEN e = 'rr' AND ot = 'v' AND rc = 200 AND `bytes` >= ${streams.playback.features.LEAST_BYTES} AND ttlb_ms > 0
    THEN CAST(ROUND(10000.0E0 * LN(8000.0E0 * `bytes` / ttlb_ms)) AS BIGINT) END AS log_bps,
  sn < ${streams.playback.features.START_REPORTS} AS early,
  CASE WHEN e = 'ps' AND sta = 'r' THEN 1 ELSE 0 END AS stalled
FROM `playback.report`
WHERE NOT marker AND NOT (${streams.playback.timeline.IS_REQUEST})
UNION ALL
SELECT
  sid, event_time, client_prefix, isp_asn, region, CAST(NULL AS INT), CAST(NULL AS STRING), CAST(NULL AS STRING), CAST(NULL AS STRING),
  CAST(NULL AS BIGINT), FALSE, 0
FROM `delivery.steering`
WHERE NOT marker AND sid IS NOT NULL;

CREATE TEMPORARY VIEW counted AS
SELECT
  window_start, window_time AS over_at,
  MAX(client_prefix) AS client_prefix, COALESCE(MAX(steered_isp), MAX(isp_asn), -1) AS isp_asn, COALESCE(MAX(steered_to), MAX(region), '') AS region,
  COALESCE(MAX(device_type), '') AS device_type, COALESCE(MAX(network_type), '') AS network_type,
  COUNT(log_bps) AS segments, SUM(log_bps) AS total, SUM(log_bps * log_bps) AS squares,
  COUNT(log_bps) FILTER (WHERE early) AS early_segments, SUM(log_bps) FILTER (WHERE early) AS early_total,
  MAX(stalled) AS stalled
FROM TABLE(SESSION(TABLE told PARTITION BY sid, DESCRIPTOR(event_time), INTERVAL '${streams.playback.features.SILENCE_MIN}' MINUTE))
GROUP BY window_start, window_end, window_time, sid;

CREATE TEMPORARY VIEW sessions AS
SELECT
  over_at, client_prefix, isp_asn, region, device_type, network_type, stalled,
  CAST(EXTRACT(HOUR FROM window_start) / ${streams.playback.features.HOURS} * ${streams.playback.features.HOURS} AS INT) AS `hour`,
  CAST(ROUND(1.0E0 * total / segments) AS BIGINT) AS mean,
  segments - 1 AS freedom, CAST(ROUND(squares - 1.0E0 * total * total / segments) AS BIGINT) AS scatter,
  CASE WHEN early_segments > 0 THEN CAST(ROUND(1.0E0 * early_total / early_segments) AS BIGINT) END AS early_mean
FROM counted
WHERE segments > 0;

CREATE TEMPORARY VIEW by_cell AS
SELECT
  window_end AS told_at, window_time AS at_time,
  CASE
    WHEN GROUPING(client_prefix) = 0 THEN 'PREFIX' WHEN GROUPING(isp_asn) = 0 THEN 'ISP' WHEN GROUPING(region) = 0 THEN 'REGION' ELSE 'GLOBAL'
  END AS level,
  client_prefix, isp_asn, region, `hour`, device_type, network_type,
  COUNT(*) AS sessions, SUM(mean) AS mean, SUM(mean * mean) AS mean_square, SUM(freedom) AS freedom, SUM(scatter) AS scatter,
  COUNT(early_mean) AS starts, SUM(early_mean) AS early_mean, SUM(early_mean * early_mean) AS early_square, SUM(stalled) AS stalled
FROM TABLE(TUMBLE(TABLE sessions, DESCRIPTOR(over_at), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, window_time, GROUPING SETS (
  (client_prefix, `hour`),
  (isp_asn, `hour`), (isp_asn, device_type, network_type),
  (region, `hour`), (region, device_type, network_type),
  (`hour`), (device_type, network_type)
);

CREATE TEMPORARY VIEW weighed AS
SELECT
  told_at, at_time, level, client_prefix, isp_asn, region, `hour`, device_type, network_type,
  CONCAT_WS(
    U&'\001F', level, COALESCE(client_prefix, ''), COALESCE(CAST(isp_asn AS STRING), ''), COALESCE(region, ''), COALESCE(CAST(`hour` AS STRING), ''),
    COALESCE(device_type, ''), COALESCE(network_type, '')
  ) AS item,
  sessions, mean, mean_square, freedom, scatter, starts, early_mean, early_square, stalled,
  POWER(2.0E0, GREATEST(LEAST(
    TIMESTAMPDIFF(SECOND, TIMESTAMP '2026-01-01 00:00:00', told_at) / ${streams.playback.features.HALF_LIFE_S}E0,
    ${streams.playback.features.MOST_HALVINGS}E0), -${streams.playback.features.MOST_HALVINGS}E0)) AS weight
FROM by_cell
WHERE (client_prefix IS NULL OR client_prefix <> '') AND (isp_asn IS NULL OR isp_asn >= 0) AND (region IS NULL OR region <> '');

CREATE TEMPORARY VIEW so_far AS
SELECT
  told_at, item, level, client_prefix, isp_asn, region, `hour`, device_type, network_type,
  SUM(sessions * weight) OVER cell / weight AS sessions,
  SUM(mean / 1.0E4 * weight) OVER cell / weight AS mean,
  SUM(mean_square / 1.0E8 * weight) OVER cell / weight AS mean_square,
  SUM(freedom * weight) OVER cell / weight AS freedom,
  SUM(scatter / 1.0E8 * weight) OVER cell / weight AS scatter,
  SUM(starts * weight) OVER cell / weight AS starts,
  SUM(COALESCE(early_mean, 0) / 1.0E4 * weight) OVER cell / weight AS early_mean,
  SUM(COALESCE(early_square, 0) / 1.0E8 * weight) OVER cell / weight AS early_square,
  SUM(stalled * weight) OVER cell / weight AS stalled
FROM weighed
WINDOW cell AS (PARTITION BY item ORDER BY at_time ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW);

INSERT INTO `playback.abr_features`
SELECT
  MD5(CONCAT_WS(U&'\001F', CAST(told_at AS STRING), item)), told_at, 'abr_features', 0, CAST(-1 AS BIGINT), '', FALSE,
  item, level, COALESCE(client_prefix, ''), isp_asn, COALESCE(region, ''), `hour`, COALESCE(device_type, ''), COALESCE(network_type, ''),
  ROUND(sessions, 6),
  ROUND(mean / sessions, 6), ROUND(GREATEST(mean_square / sessions - mean / sessions * (mean / sessions), 0.0E0), 6),
  CASE WHEN freedom > 0 THEN ROUND(GREATEST(scatter / freedom, 0.0E0), 6) END,
  ROUND(starts, 6),
  CASE WHEN starts > 0 THEN ROUND(early_mean / starts, 6) END,
  CASE WHEN starts > 0 THEN ROUND(GREATEST(early_square / starts - early_mean / starts * (early_mean / starts), 0.0E0), 6) END,
  ROUND(stalled / sessions, 6)
FROM so_far;
