-- title: Served
-- question: What did the cache servers say about the same requests?
-- show: timeline
-- empty: no cache server has answered a request of this session
SELECT event_time AS at, oca_id AS oca, path, rc, bytes, ttfb_us / 1000 AS ttfb_ms, ttlb_us / 1000 AS ttlb_ms, hit
FROM delivery_access
WHERE NOT marker AND sid = {sid:String}
ORDER BY at
LIMIT 10000
