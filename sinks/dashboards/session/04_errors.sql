-- title: Errors
-- question: What went wrong, by the player's own words?
-- show: timeline
-- empty: no error has been reported
SELECT event_time AS at, any(arrayStringConcat(ec, ', ')) AS codes, any(sta) AS state
FROM playback_report
WHERE NOT marker AND sid = {sid:String} AND (e = 'e' OR sta = 'f')
GROUP BY event_id, event_time
ORDER BY at
LIMIT 1000
