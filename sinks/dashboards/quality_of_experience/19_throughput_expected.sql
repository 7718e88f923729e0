-- title: Throughput expected
-- question: Were sessions as fast as those of their ISP and time of day had been before this range? Players start from that.
-- show: table
-- empty: no session has fetched a video segment of 64 KiB in this range
-- width: 8
WITH sessions AS (
  SELECT
    sid,
    intDiv(toHour(min(event_time)), 3) * 3 AS begun,
    avgIf(log(8000 * bytes / ttlb_ms), e = 'rr' AND ot = 'v' AND rc = 200 AND bytes >= 65536 AND ttlb_ms > 0) AS log_bps,
    max(e = 'ps' AND ifNull(sta, '') = 'r') AS stalled,
    {told}
  FROM playback_report
  WHERE NOT marker AND target NOT LIKE 'request:%'
    AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  GROUP BY sid
),
expected AS (
  SELECT
    toString(isp_asn) AS isp,
    assumeNotNull(hour) AS begun,
    argMax((mean_log_throughput, stalled), (event_time, topic_offset)) AS newest
  FROM playback_abr_features
  WHERE NOT marker AND level = 'ISP' AND hour IS NOT NULL AND event_time < {from:DateTime64(3, 'UTC')}
  GROUP BY isp_asn, hour
)
SELECT
  measured.isp AS isp,
  measured.begun AS from_hour_utc,
  measured.sessions AS sessions,
  measured.kbps AS measured_kbps,
  if(ifNull(expected.isp, '') = '', NULL, exp(expected.newest.1) / 1000) AS expected_kbps,
  measured.stalled AS stalled_share,
  if(ifNull(expected.isp, '') = '', NULL, expected.newest.2) AS stalled_share_expected
FROM (
  SELECT ifNull(isp, '') AS isp, begun, count() AS sessions, exp(avg(log_bps)) / 1000 AS kbps, avg(stalled) AS stalled
  FROM sessions
  WHERE {chosen} AND isFinite(log_bps)
  GROUP BY isp, begun
) AS measured
LEFT JOIN expected ON expected.isp = measured.isp AND expected.begun = measured.begun
ORDER BY sessions DESC, isp, from_hour_utc
LIMIT 50
