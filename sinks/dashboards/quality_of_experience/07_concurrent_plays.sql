-- title: Concurrent plays
-- question: How many members were watching at a time, and how many of them were waiting for the network?
-- show: line
-- unit: plays
-- empty: nobody has pressed play in this range
-- width: 8
WITH sessions AS (
  SELECT
    sid,
    greatest(min(event_time), {from:DateTime64(3, 'UTC')}) AS first_seen,
    least(max(event_time), {to:DateTime64(3, 'UTC')}) AS last_seen,
    {told}
  FROM playback_report
  WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} - INTERVAL 1 HOUR AND event_time < {to:DateTime64(3, 'UTC')}
  GROUP BY sid
  HAVING max(event_time) >= {from:DateTime64(3, 'UTC')}
),
chosen AS (SELECT * FROM sessions WHERE {chosen}),
spans AS (
  SELECT sid, arrayJoin(range(intDiv(toUnixTimestamp(first_seen), {step_s:UInt32}), intDiv(toUnixTimestamp(last_seen), {step_s:UInt32}) + 1)) AS bucket
  FROM chosen
),
stalls AS (
  SELECT intDiv(toUnixTimestamp(event_time), {step_s:UInt32}) AS bucket, uniqExact(sid) AS rebuffering
  FROM playback_report
  WHERE NOT marker AND sta = 'r' AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')} AND sid IN (SELECT sid FROM chosen)
  GROUP BY bucket
)
SELECT
  toDateTime(bucket * {step_s:UInt32}, 'UTC') AS t,
  uniqExact(sid) AS plays,
  max(rebuffering) AS rebuffering
FROM spans LEFT JOIN stalls USING (bucket)
GROUP BY bucket
ORDER BY t WITH FILL STEP toIntervalSecond({step_s:UInt32})
