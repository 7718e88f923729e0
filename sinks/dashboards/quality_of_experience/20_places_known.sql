-- title: Places known
-- question: Of how many prefixes, ISPs and regions is it known what throughput a session may expect?
-- show: number
-- unit: prefixes
-- empty: no session has been over for a minute yet
-- width: 4
SELECT
  uniqExactIf(client_prefix, level = 'PREFIX') AS value,
  uniqExactIf(isp_asn, level = 'ISP') AS isps,
  uniqExactIf(region, level = 'REGION') AS regions,
  uniqExact(item) AS cells
FROM playback_abr_features
WHERE NOT marker AND event_time <= {to:DateTime64(3, 'UTC')}
HAVING cells > 0
