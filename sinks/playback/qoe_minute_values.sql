-- question: Which startup times, times to first byte and throughputs were there in each minute, and how many of each?
-- reads: playback_qoe_minute
-- key: minute, cid, device_type, player, region, isp_asn, oca_id, metric, value
-- time: minute
-- For quantiles over whatever is chosen: quantileExactWeighted(0.95)(value, observations), within 1.6 % of the exact one. A value is the middle of its
-- bucket (streams.playback.minute): below 64 exact, then 32 buckets for each power of two.
CREATE OR REPLACE VIEW qoe_minute_values AS
SELECT
  minute,
  cid,
  device_type,
  player,
  region,
  isp_asn,
  oca_id,
  metric,
  bitShiftLeft(toInt64(bucket) - 32 * shift, shift) + (bitShiftLeft(toInt64(1), shift) - 1) / 2 AS value,
  toUInt64(sum(observed)) AS observations
FROM (
  SELECT *, observed, toInt32(name) AS bucket, greatest(0, intDiv(bucket, 32) - 1) AS shift
  FROM (
    SELECT minute, cid, device_type, player, region, isp_asn, oca_id, metric, counts
    FROM playback_qoe_minute
    ARRAY JOIN ['startup_ms', 'ttfb_ms', 'throughput_kbps'] AS metric, [startup_ms, ttfb_ms, throughput_kbps] AS counts
    WHERE NOT marker
  )
  ARRAY JOIN mapKeys(counts) AS name, mapValues(counts) AS observed
)
GROUP BY minute, cid, device_type, player, region, isp_asn, oca_id, metric, bucket, shift
HAVING sum(observed) > 0
