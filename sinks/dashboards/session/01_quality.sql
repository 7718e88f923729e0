-- title: Quality
-- question: What did this session come to in the terms of CTA-2066?
-- show: table
-- empty: this session has not closed yet
SELECT * EXCEPT (event_id, event_time, producer_id, epoch, seq, correlation_id, marker)
FROM qoe_sessions
WHERE sid = {sid:String}
