-- title: Misses
-- question: Which titles were missed most, who served them instead of which best server, and why? A title without misses is there with none.
-- show: table
-- empty: no player has been answered in this range
-- width: 6
SELECT title, oca, requests, misses, instead_of, causes, missed_bytes
FROM (
  SELECT ifNull(cid, 'not told') AS title, oca_id AS oca, count() AS requests
  FROM delivery_access
  WHERE NOT marker AND sid IS NOT NULL AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
    AND ({title:String} = '' OR cid = {title:String})
  GROUP BY title, oca
) AS answered
LEFT JOIN (
  SELECT
    title, oca, sum(answers) AS misses, sum(answer_bytes) AS missed_bytes,
    arrayStringConcat(groupUniqArrayArray(3)(best), ', ') AS instead_of,
    arrayStringConcat(groupArray(lower(cause) || ' ' || toString(answers)), ', ') AS causes
  FROM (
    SELECT
      ifNull(cid, 'not told') AS title, oca_id AS oca, toString(cause) AS cause, count() AS answers, sum(bytes) AS answer_bytes,
      groupUniqArrayIf(3)(toString(best_oca_id), best_oca_id != oca_id) AS best
    FROM delivery_miss
    WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
      AND ({title:String} = '' OR cid = {title:String})
    GROUP BY title, oca, cause
    ORDER BY answers DESC
  )
  GROUP BY title, oca
) AS missed USING (title, oca)
WHERE {oca:String} = '' OR oca = {oca:String} OR has(splitByString(', ', instead_of), {oca:String})
ORDER BY misses DESC, requests DESC, title, oca
LIMIT 50
