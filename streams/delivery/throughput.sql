-- How fast do sessions get their video from each cache server, by prefix, ISP and region? What steering predicts from.
--
-- Reads     playback.report, delivery.steering
-- Writes    delivery.throughput   one row for each minute, prefix, ISP, region and cache server with a session to tell of, at least once and
--                                 without waiting for a checkpoint
-- Key       item: prefix, AS number, region, cache server and minute of the hour; the topic is compacted, and an hour of it stays
-- Time      event_time, watermark 5 s behind. A report belongs to the minute of its event_time, and to the prefix that the decision in force
--           then was made for; a minute comes out when the watermark has passed its end.
-- Lateness  A report that comes after its minute is left out: what it would have said is said by others.
-- State     the newest decision of each session, for six hours; a count and two sums for each session and server of a minute
--
-- Throughputs are log-normal, so means are of logarithms; first of a session, so that a long one counts once. A segment counts from 64 KiB on:
-- of less, the start of the transfer is most of the time. What cache servers hear in requests says how soon the kernel took the bytes, and is left out.

SET 'table.exec.mini-batch.enabled' = 'false';
SET 'table.exec.state.ttl' = '6 h';
SET 'headrace.columns' = 'named';

CREATE TEMPORARY VIEW decided AS
SELECT sid, event_time, client_prefix, isp_asn, region
FROM (
  SELECT sid, event_time, client_prefix, isp_asn, region, ROW_NUMBER() OVER (PARTITION BY sid ORDER BY event_time DESC) AS age
  FROM `delivery.steering`
  WHERE NOT marker AND sid IS NOT NULL
)
WHERE age = 1;

CREATE TEMPORARY VIEW fetched AS
SELECT sid, event_time, oca_id, LN(8000.0E0 * `bytes` / ttlb_ms) AS log_bps
FROM `playback.report`
WHERE NOT marker AND e = 'rr' AND ot = 'v' AND rc = 200 AND oca_id IS NOT NULL AND `bytes` >= 65536 AND ttlb_ms > 0
  AND NOT (${streams.playback.timeline.IS_REQUEST});

CREATE TEMPORARY VIEW placed AS
SELECT f.sid, f.event_time, f.oca_id, f.log_bps, d.client_prefix, d.isp_asn, d.region
FROM fetched AS f
JOIN decided FOR SYSTEM_TIME AS OF f.event_time AS d ON f.sid = d.sid;

CREATE TEMPORARY VIEW by_session AS
SELECT window_start, window_end, client_prefix, isp_asn, region, oca_id, AVG(log_bps) AS log_bps
FROM TABLE(TUMBLE(TABLE placed, DESCRIPTOR(event_time), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, sid, client_prefix, isp_asn, region, oca_id;

CREATE TEMPORARY VIEW by_place AS
SELECT
  window_start, window_end,
  CONCAT_WS(
    U&'\001F', client_prefix, COALESCE(CAST(isp_asn AS STRING), ''), region, oca_id, CAST(EXTRACT(MINUTE FROM window_start) AS STRING)
  ) AS item,
  client_prefix, isp_asn, region, oca_id, COUNT(*) AS sessions, AVG(log_bps) AS mean_log_throughput, AVG(log_bps * log_bps) AS mean_square
FROM by_session
GROUP BY window_start, window_end, client_prefix, isp_asn, region, oca_id;

INSERT INTO `delivery.throughput`
SELECT
  MD5(CONCAT_WS(U&'\001F', CAST(window_start AS STRING), item)), window_start, 'throughput', 0, CAST(-1 AS BIGINT), '', FALSE,
  item, client_prefix, isp_asn, region, oca_id, sessions,
  ROUND(mean_log_throughput, 6), ROUND(GREATEST(mean_square - mean_log_throughput * mean_log_throughput, 0.0E0), 6)  -- in whatever order they were added up
FROM by_place;
