-- title: Play states
-- question: What was the player doing, and since when?
-- show: timeline
-- empty: no change of play state has been reported
SELECT event_time AS at, assumeNotNull(sta) AS state, max(msd_ms) AS startup_ms, any(pt_ms) AS playhead_ms
FROM playback_report
WHERE NOT marker AND sid = {sid:String} AND e = 'ps' AND sta IS NOT NULL
GROUP BY event_id, event_time, sta, sn
ORDER BY at, sn
LIMIT 10000
