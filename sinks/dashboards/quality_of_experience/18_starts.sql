-- title: Starts
-- question: What do members begin to watch, and how many of them in a minute?
-- show: line
-- unit: plays/min
-- empty: no minute has come to its end in this range
-- width: 6
SELECT
  toStartOfInterval(minute, toIntervalSecond(greatest(60, {step_s:UInt32}))) AS t,
  cid AS series,
  sum(starts) * 60 / greatest(60, {step_s:UInt32}) AS value
FROM playback_playback_starts
WHERE NOT marker AND minute >= {from:DateTime64(3, 'UTC')} AND minute < {to:DateTime64(3, 'UTC')}
  AND ({title:String} = '' OR cid = {title:String}) AND ({region:String} = '' OR region = {region:String})
GROUP BY t, series
ORDER BY t, series
