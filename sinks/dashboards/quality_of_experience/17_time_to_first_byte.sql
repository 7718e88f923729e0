-- title: Time to first byte
-- question: How long did one request in twenty wait at least for its first byte, by cache server?
-- show: line
-- unit: ms
-- empty: no minute has come to its end in this range
-- width: 6
SELECT
  toStartOfInterval(minute, toIntervalSecond(greatest(60, {step_s:UInt32}))) AS t,
  oca AS series,
  quantileExactWeighted(0.95)(minutes.value, observations) AS value
FROM (
  SELECT *, cid AS title, device_type AS device, oca_id AS oca, toString(isp_asn) AS isp
  FROM qoe_minute_values
  WHERE metric = 'ttfb_ms' AND minute >= {from:DateTime64(3, 'UTC')} AND minute < {to:DateTime64(3, 'UTC')}
) AS minutes
WHERE {chosen}
GROUP BY t, series
ORDER BY t, series
