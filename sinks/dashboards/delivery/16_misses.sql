-- title: Misses
-- question: Which titles were missed most, who served them instead of which best server, and why? A title without misses is there with none.
-- show: table
-- empty: no player has been answered in this range
-- width: 6
SELECT
  nullIf(asked, '') AS title,
  oca,
  requests,
  misses,
  missed_bytes,
  nullIf(arrayStringConcat(arraySort(best), ', '), '') AS instead_of,
  nullIf(arrayStringConcat(arrayMap(told -> told.2 || ' ' || toString(told.1), arrayReverseSort(by_cause)), ', '), '') AS causes
FROM (
  SELECT ifNull(cid, '') AS asked, oca_id AS oca, count() AS requests
  FROM delivery_access
  WHERE NOT marker AND sid IS NOT NULL AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({title:String} = '' OR cid = {title:String})
  GROUP BY asked, oca
) AS answered
LEFT JOIN (
  SELECT
    asked, oca, sum(answers) AS misses, sum(answer_bytes) AS missed_bytes, groupUniqArrayArray(best_of_cause) AS best,
    groupArray((answers, lower(cause))) AS by_cause
  FROM (
    SELECT
      ifNull(cid, '') AS asked, oca_id AS oca, toString(cause) AS cause, count() AS answers, sum(bytes) AS answer_bytes,
      groupUniqArrayIf(toString(best_oca_id), best_oca_id != oca_id) AS best_of_cause
    FROM delivery_miss
    WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
      AND ({title:String} = '' OR cid = {title:String})
    GROUP BY asked, oca, cause
  )
  GROUP BY asked, oca
) AS missed USING (asked, oca)
WHERE {oca:String} = '' OR oca = {oca:String} OR has(best, {oca:String})
ORDER BY misses DESC, requests DESC, title, oca
LIMIT 50
