-- title: Fills
-- question: How far was each fill of the last seven days at the end of the range, where does it come from, and what went wrong?
-- show: table
-- empty: no cache server has fetched a title yet
-- width: 12
SELECT
  event_time AS told_at,
  oca_id AS oca,
  cid AS title,
  version,
  lower(kind) AS step,
  bytes / nullIf(total_bytes, 0) AS fetched_ratio,
  total_bytes AS size_bytes,
  source,
  if(steps.reason = '', NULL, steps.reason || ': ' || detail) AS reason
FROM (
  SELECT *
  FROM delivery_fill
  WHERE NOT marker AND event_time >= {to:DateTime64(3, 'UTC')} - INTERVAL 7 DAY AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({oca:String} = '' OR oca_id = {oca:String}) AND ({title:String} = '' OR cid = {title:String})
  ORDER BY event_time DESC, topic_offset DESC
  LIMIT 1 BY oca_id, cid, version
) AS steps
ORDER BY told_at DESC, oca, title
LIMIT 100
