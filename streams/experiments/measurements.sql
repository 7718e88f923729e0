-- What was measured of whom, for the metrics of experiments?
--
-- Reads     the topics that metrics are measured on
-- Writes    experiments.measurement   a row per event with a unit, with what it measures for all metrics of its topic
-- Key       the metrics' unit, such as member_id
-- Time      event_time of what was measured; nothing waits for anything
-- Lateness  none is too late; what is corrected comes again with a higher version
-- State     none
--
-- The statements come from the metrics' definitions (streams/experiments/counted.py).

SET 'headrace.columns' = 'named';
SET 'parallelism.default' = '1';  -- what is measured comes a few times a session

CREATE TEMPORARY FUNCTION measured AS 'headrace.experiments.Measured' LANGUAGE JAVA;

${streams.experiments.counted.MEASUREMENTS};
