-- title: Segments
-- question: What was fetched, from where, how fast, at which bitrate and with how much in the buffer?
-- show: timeline
-- empty: no segment has been fetched
SELECT
  event_time AS at,
  transform(
    any(ot), ['m', 'i', 'v', 'a', 'av', 'tt', 'c', 'k'],
    ['manifest', 'init', 'video', 'audio', 'muxed', 'text', 'caption', 'key'], 'other'
  ) AS kind,
  any(br_kbps) AS bitrate_kbps, any(mtp_kbps) AS throughput_kbps, any(bl_ms) AS buffer_ms,
  any(ttfb_ms) AS ttfb_ms, any(ttlb_ms) AS ttlb_ms, any(bytes) AS bytes, any(rc) AS rc, any(oca_id) AS oca, any(url) AS url
FROM playback_report
WHERE NOT marker AND sid = {sid:String} AND e = 'rr'
  -- Of a request that player and cache server both tell of, the player's word: the viewer's time.
  AND (target NOT LIKE 'request:%' OR sid NOT IN (
    SELECT sid FROM playback_report WHERE NOT marker AND sid = {sid:String} AND e = 'rr' AND target NOT LIKE 'request:%'
  ))
GROUP BY event_id, event_time, sn
ORDER BY at, sn
LIMIT 10000
