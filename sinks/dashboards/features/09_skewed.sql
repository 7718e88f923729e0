-- title: Values that differ
-- question: Which values were served that the log does not allow, and what does all that had arrived come to? There should be none.
-- show: table
-- width: 6
-- faults: yes
-- empty: no value differed from the log in this range, of those that were compared
SELECT
  event_time AS served_at,
  value,
  replaceAll(entity, char(31), ' × ') AS about,
  served,
  recomputed,
  taken AS events_in_row,
  arrived AS events_in_log
FROM recommendations_feature_skew
WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
ORDER BY event_time DESC, value
LIMIT 50
