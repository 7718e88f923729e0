-- question: Who had it worse in a minute than everybody else at the same time, and than they had it themselves before?
-- reads: playback_qoe_minute
-- key: minute, dimension, member, metric
-- time: minute, the last day that there is
-- Three shares, for each player, cache server, ISP, region, device and title: of sessions that failed, of viewing time spent rebuffering, of requests that
-- failed. Each is held by a two-proportion z against all others of the dimension in the same minute, and against its own last half hour without
-- the last three minutes, so that something new stands out for as long; the smaller z counts. Who has no such past is held against the others alone. Time
-- counts in minutes of sessions: a share of a minute varies no more than a yes or no, so z errs to the low side. Few sessions are
-- never an anomaly. Of members that are the same sessions the dimension named first comes first.
CREATE OR REPLACE VIEW qoe_anomalies AS
WITH
  20 AS fewest,
  4 AS notable,
  cells AS (
    SELECT
      minute,
      of.1 AS place,
      of.2 AS dimension,
      of.3 AS member,
      share.1 AS metric,
      sum(share.2) AS had,
      sum(share.3) AS of_all
    FROM (
      SELECT
        minute,
        arrayJoin([
          (1, 'player', player), (2, 'oca_id', oca_id), (3, 'isp_asn', ifNull(toString(isp_asn), '')), (4, 'region', region),
          (5, 'device_type', device_type), (6, 'cid', cid)
        ]) AS of,
        arrayJoin([
          ('failed', toFloat64(failed_starts + in_play_failures), toFloat64(sessions + failed_starts)),
          ('rebuffering', rebuffer_ms / 60000, (playing_ms + rebuffer_ms) / 60000),
          ('failed_requests', toFloat64(failed_requests), toFloat64(requests))
        ]) AS share
      FROM playback_qoe_minute
      WHERE NOT marker AND minute > (SELECT max(minute) FROM playback_qoe_minute) - INTERVAL 1 DAY
    )
    WHERE member != ''
    GROUP BY minute, place, dimension, member, metric
  ),
  compared AS (
    SELECT
      *,
      sum(had) OVER everybody - had AS others_had,
      sum(of_all) OVER everybody - of_all AS others_of_all,
      sum(had) OVER past AS past_had,
      sum(of_all) OVER past AS past_of_all
    FROM cells
    WINDOW
      everybody AS (PARTITION BY minute, dimension, metric),
      past AS (PARTITION BY dimension, member, metric ORDER BY toUnixTimestamp(minute) RANGE BETWEEN 1980 PRECEDING AND 240 PRECEDING)
  ),
  judged AS (
    SELECT
      *,
      (had + others_had) / (of_all + others_of_all) AS pooled,
      (had / of_all - others_had / others_of_all) / sqrt(pooled * (1 - pooled) * (1 / of_all + 1 / others_of_all)) AS z_others,
      (had + past_had) / (of_all + past_of_all) AS pooled_past,
      (had / of_all - past_had / past_of_all) / sqrt(pooled_past * (1 - pooled_past) * (1 / of_all + 1 / past_of_all)) AS z_past,
      if(past_of_all >= fewest, least(z_others, z_past), z_others) AS z
    FROM compared
    WHERE of_all >= fewest AND others_of_all >= fewest
  )
SELECT
  minute,
  row_number() OVER (PARTITION BY minute ORDER BY z DESC, place) AS rank,
  dimension,
  member,
  metric,
  had / of_all AS share,
  others_had / others_of_all AS others_share,
  if(past_of_all >= fewest, past_had / past_of_all, NULL) AS past_share,
  of_all AS volume,
  z
FROM judged
WHERE z >= notable AND isFinite(z)
