-- title: Why it is there
-- question: Why is a title to be, or not to be, on a cache server, by the newest plan that said so? The most valuable first; choose a title or an OCA.
-- show: table
-- empty: no fill plan has said anything of a title yet
-- width: 12
SELECT
  unit AS title,
  oca_id AS oca,
  if(here, 'to be there', 'not to be there') AS verdict,
  lower(why) AS why,
  rank,
  of AS considered,
  reasons.value AS value_per_byte,
  cut AS cut_per_byte,
  reasons.expected_plays AS expected_plays,
  reasons.expected_bytes AS expected_served_bytes,
  reasons.bytes AS size_bytes,
  source,
  event_time AS told_at
FROM (
  SELECT *
  FROM delivery_fill_reason
  WHERE NOT marker AND topic_time < {to:DateTime64(3, 'UTC')}
    AND ({oca:String} = '' OR oca_id = {oca:String}) AND ({title:String} = '' OR unit = {title:String})
  ORDER BY event_time DESC, topic_offset DESC
  LIMIT 1 BY item
) AS reasons
ORDER BY value_per_byte DESC, title, oca
LIMIT 100
