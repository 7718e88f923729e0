-- title: Demand
-- question: Which titles are started most, in which region, on the days of the range?
-- show: table
-- empty: no start has been counted in this range
-- width: 12
SELECT
  cid AS title,
  region,
  sum(day_starts) AS starts,
  sum(day_attempts) AS attempts
FROM (
  SELECT cid, region, day, argMax(starts, topic_offset) AS day_starts, argMax(attempts, topic_offset) AS day_attempts
  FROM delivery_demand
  WHERE NOT marker AND day >= toStartOfDay({from:DateTime64(3, 'UTC')}) AND day <= {to:DateTime64(3, 'UTC')}
    AND ({title:String} = '' OR cid = {title:String}) AND ({region:String} = '' OR region = {region:String})
  GROUP BY cid, region, day
)
GROUP BY title, region
ORDER BY starts DESC, title, region
LIMIT 100
