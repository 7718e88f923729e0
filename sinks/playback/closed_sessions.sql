-- question: What did each session come to, in the columns that boards show, group and narrow by?
-- reads: qoe_sessions
-- key: sid
-- time: started_at, ended_at
-- The bitrate is the one on screen. Viewing is playing and waiting for the network; a pause is neither.
CREATE OR REPLACE VIEW closed_sessions AS
SELECT
  sid,
  started_at,
  ended_at,
  ifNull(cid, 'not told') AS title,
  ifNull(device_type, 'not told') AS device,
  ifNull(oca_id, 'none reached') AS oca,
  ifNull(toString(isp_asn), 'not told') AS isp,
  ifNull(region, 'not told') AS region,
  ifNull(player, 'not told') AS player,
  startup_ms,
  playing_ms,
  playing_ms + rebuffer_ms AS viewing_ms,
  rebuffer_count,
  rebuffer_ms,
  time_weighted_bitrate_kbps AS bitrate_kbps,
  switches,
  failed_start,
  exit_before_video_start,
  in_play_failure,
  failed_start OR exit_before_video_start OR in_play_failure AS failed
FROM qoe_sessions
