-- title: Fullest server
-- question: What share of what it can send was in use on the fullest cache server, in the last ten seconds that were reported in the range?
-- show: number
-- unit: %
-- thresholds: warn 80, bad 95
-- empty: no cache server has reported in this range
-- width: 2
WITH (
  SELECT max(event_time)
  FROM delivery_oca_report
  WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
) AS newest
SELECT
  max(load) * 100 AS value,
  count() AS reporting
FROM (
  SELECT oca_id, sum(bytes) * 8000 / sum(interval_ms) / any(egress_bps) AS load
  FROM delivery_oca_report
  WHERE NOT marker AND interval_ms > 0 AND egress_bps > 0 AND event_time > newest - INTERVAL 10 SECOND
    AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')} AND ({oca:String} = '' OR oca_id = {oca:String})
  GROUP BY oca_id
)
HAVING count() > 0
