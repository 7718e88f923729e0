-- What was not served by the server that is best for the client, and why?
--
-- Reads     delivery.steering, delivery.access, delivery.oca_health
-- Writes    delivery.miss   one row for each answer that is a miss
-- Key       sid
-- Time      event_time, watermark 5 s behind. An answer is held against what was decided for its session, and what was thought of the best
--           server, at the moment it was given.
-- Lateness  An answer that is told more than 5 s late is held against what was known then all the same; a decision that late is missed.
-- State     the newest decision of each session, for six hours; the newest verdict on each server
--
-- A miss is what Open Connect calls one: bytes that the best-ranked server did not serve. All servers that are equal by routing are best, so
-- spreading load among them is none. A refusal serves nothing, and where the origin is best it has nothing to fetch first. Where the decision
-- named a best server and the player went elsewhere, the health of that very server at that moment tells whether it had to.

SET 'table.exec.mini-batch.enabled' = 'false';
SET 'table.exec.state.ttl' = '6 h';

CREATE TEMPORARY VIEW decided AS
SELECT sid, event_time, best_oca_id, best_ocas, cause
FROM (
  SELECT sid, event_time, best_oca_id, best_ocas, cause, ROW_NUMBER() OVER (PARTITION BY sid ORDER BY event_time DESC) AS age
  FROM `delivery.steering`
  WHERE NOT marker AND sid IS NOT NULL AND CARDINALITY(best_ocas) > 0
)
WHERE age = 1;

CREATE TEMPORARY VIEW judged AS
SELECT oca_id, event_time, cause
FROM (
  SELECT oca_id, event_time, cause, ROW_NUMBER() OVER (PARTITION BY oca_id ORDER BY event_time DESC) AS age
  FROM `delivery.oca_health`
  WHERE NOT marker
)
WHERE age = 1;

CREATE TEMPORARY VIEW answered AS
SELECT event_id, event_time, correlation_id, sid, cid, oca_id, tier, `bytes`, hit
FROM `delivery.access`
WHERE NOT marker AND sid IS NOT NULL AND `bytes` > 0 AND rc IN (200, 206);

CREATE TEMPORARY VIEW missed AS
SELECT
  a.event_id, a.event_time, a.correlation_id, a.sid, a.cid, a.oca_id, a.tier, a.`bytes`,
  CASE
    WHEN ARRAY_CONTAINS(d.best_ocas, a.oca_id) THEN a.oca_id
    WHEN d.cause = 'NONE' THEN d.best_oca_id
    ELSE d.best_ocas[1]
  END AS best_oca_id,
  d.cause AS decided_cause, ARRAY_CONTAINS(d.best_ocas, a.oca_id) AS by_best
FROM answered AS a
JOIN decided FOR SYSTEM_TIME AS OF a.event_time AS d ON a.sid = d.sid
WHERE (NOT a.hit AND a.tier <> 'ORIGIN') OR NOT ARRAY_CONTAINS(d.best_ocas, a.oca_id);

INSERT INTO `delivery.miss`
SELECT
  m.event_id, m.event_time, 'misses', 0, CAST(-1 AS BIGINT), m.correlation_id, FALSE,
  m.sid, m.cid, m.oca_id, m.tier, m.best_oca_id,
  CASE
    WHEN m.by_best THEN 'CONTENT'
    WHEN m.decided_cause <> 'NONE' THEN m.decided_cause
    WHEN h.cause <> 'NONE' THEN h.cause
    ELSE 'OTHER'
  END,
  m.`bytes`
FROM missed AS m
LEFT JOIN judged FOR SYSTEM_TIME AS OF m.event_time AS h ON m.best_oca_id = h.oca_id;
