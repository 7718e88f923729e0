-- title: Bitrate
-- question: What bitrate was on screen, and what did the worst-served tenth of plays get?
-- show: line
-- unit: kbit/s
-- empty: no session has closed in this range
SELECT
  toStartOfInterval(ended_at, toIntervalSecond({step_s:UInt32})) AS t,
  quantileExact(0.5)(bitrate_kbps) AS p50,
  quantileExact(0.1)(bitrate_kbps) AS p10
FROM closed_sessions
WHERE ended_at >= {from:DateTime64(3, 'UTC')} AND ended_at < {to:DateTime64(3, 'UTC')}
  AND {chosen}
  AND bitrate_kbps IS NOT NULL
GROUP BY t
ORDER BY t
