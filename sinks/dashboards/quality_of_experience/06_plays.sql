-- title: Plays
-- question: How many plays closed in the chosen range?
-- show: number
-- unit: plays
-- empty: no session has closed yet
-- width: 2
SELECT
  count() AS value,
  sum(playing_ms) / 1000 AS watched_s
FROM closed_sessions
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND {chosen}
HAVING count() > 0
