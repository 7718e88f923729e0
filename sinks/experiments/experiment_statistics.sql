-- question: What has each variation come to, by segment, metric and day?
-- reads: experiments_statistic
-- key: experiment, phase, variation, segment, metric, value_bucket, day
-- time: day; summed up to a day it is what was known of that day and all before
-- Rows of the topic are differences: their sum is what there is. Whole numbers, so the sum is the same in whatever order they came. Further sums,
-- over segments and days, are right as well. The table is sorted by experiment: filter by it.
CREATE OR REPLACE VIEW experiment_statistics AS
SELECT
  experiment,
  phase,
  variation,
  segment,
  day,
  metric,
  value_bucket,
  sum(n) AS n,
  sum(measured) AS measured,
  sum(sum_x) AS sum_x,
  sum(sum_y) AS sum_y,
  sum(sum_u) AS sum_u,
  sum(sum_v) AS sum_v,
  sum(sum_xx) AS sum_xx,
  sum(sum_yy) AS sum_yy,
  sum(sum_uu) AS sum_uu,
  sum(sum_vv) AS sum_vv,
  sum(sum_xy) AS sum_xy,
  sum(sum_xu) AS sum_xu,
  sum(sum_xv) AS sum_xv,
  sum(sum_yu) AS sum_yu,
  sum(sum_yv) AS sum_yv,
  sum(sum_uv) AS sum_uv
FROM experiments_statistic
WHERE NOT marker
GROUP BY experiment, phase, variation, segment, day, metric, value_bucket
HAVING n != 0 OR measured != 0 OR sum_x != 0 OR sum_y != 0 OR sum_u != 0 OR sum_v != 0
  OR sum_xx != 0 OR sum_yy != 0 OR sum_uu != 0 OR sum_vv != 0
  OR sum_xy != 0 OR sum_xu != 0 OR sum_xv != 0 OR sum_yu != 0 OR sum_yv != 0 OR sum_uv != 0
