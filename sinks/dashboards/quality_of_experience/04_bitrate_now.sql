-- title: Bitrate
-- question: What bitrate was on screen, weighted by the time it played?
-- show: number
-- unit: kbit/s
-- empty: no session has closed yet
-- width: 2
SELECT
  avgWeighted(bitrate_kbps, playing_ms) AS value,
  avg(switches) AS switches_per_play
FROM closed_sessions
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND {chosen}
  AND bitrate_kbps IS NOT NULL
HAVING sum(playing_ms) > 0
