-- title: One member
-- question: How did the numbers go that were served most often of one member, the one who was served most in the range? /features?member=… tells why, of any.
-- show: line
-- width: 6
-- empty: no member's features were served in this range, of the share that is told
WITH
  told AS (
    SELECT event_time, entity, named.1 AS name, JSONExtract(named.2, 'Nullable(Float64)') AS number
    FROM recommendations_feature_served
    ARRAY JOIN arrayZip(mapKeys(values), mapValues(values)) AS named
    WHERE NOT marker AND group = 'member' AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')} AND number IS NOT NULL
  ),
  one AS (SELECT entity FROM told GROUP BY entity ORDER BY count() DESC, entity LIMIT 1),
  names AS (SELECT name FROM told WHERE entity IN (SELECT entity FROM one) GROUP BY name ORDER BY uniqExact(number) DESC, name LIMIT 6)
SELECT
  toStartOfInterval(event_time, toIntervalSecond({step_s:UInt32})) AS t,
  name AS series,
  argMax(assumeNotNull(number), event_time) AS value
FROM told
WHERE entity IN (SELECT entity FROM one) AND name IN (SELECT name FROM names)
GROUP BY t, series
ORDER BY t, series
