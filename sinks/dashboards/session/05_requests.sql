-- title: Gateway
-- question: What was asked of the gateway for this session?
-- show: timeline
-- empty: the gateway has seen no request of this session
SELECT event_time AS at, route, path, rc, latency_us / 1000 AS latency_ms, correlation_id
FROM control_request
WHERE NOT marker AND sid = {sid:String}
ORDER BY at
LIMIT 1000
