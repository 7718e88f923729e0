-- title: Playing now
-- question: How many members are watching at the end of the chosen range?
-- show: number
-- unit: plays
-- empty: nobody has pressed play yet
-- width: 2
SELECT
  countIf(play_state NOT IN ('e', 'f', 'q') AND last_seen > {to:DateTime64(3, 'UTC')} - INTERVAL 60 SECOND) AS value,
  countIf(play_state = 'r' AND last_seen > {to:DateTime64(3, 'UTC')} - INTERVAL 60 SECOND) AS rebuffering
FROM (
  SELECT
    sid,
    argMaxIf(sta, (event_time, sn), sta IS NOT NULL) AS play_state,
    max(topic_time) AS last_seen,
    {told}
  FROM playback_report
  WHERE NOT marker AND topic_time <= {to:DateTime64(3, 'UTC')} AND topic_time > {to:DateTime64(3, 'UTC')} - INTERVAL 1 DAY
  GROUP BY sid
)
WHERE {chosen}
HAVING count() > 0
