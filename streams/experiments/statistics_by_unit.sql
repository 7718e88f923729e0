-- What has each experiment come to, by variation, segment, day and metric?
--
-- Reads     experiments.exposure, experiments.measurement
-- Writes    experiments.statistic   rows that add up: what a day has come to is the sum of its rows, what was known by its end that of all days up to it
-- Key       unit; rows by experiment
-- Time      event_time; nothing waits for a watermark. A row comes with the checkpoint after what it counts, or before it where memory fills.
-- Lateness  A record more than eight days behind its unit's newest in the same topic is left out, and counted in a row without an experiment. All others end in
--           the same sums, in whatever order, however often and however corrected they come (streams/experiments/batch.py).
-- State     of a unit its first exposures, and what was measured of it within the longest window, the longest covariate and 24 days, on disk.
--           Its exposures are let go 400 days of the wall clock after its last record. A unit that is active takes about a kilobyte: where
--           there are millions, give `fixed-per-slot` so much that those of a slot fit, or each record waits for files to be read.

SET 'headrace.columns' = 'named';
SET 'execution.checkpointing.interval' = '10 s';  -- rows are written at each; nobody decides on the last seconds of an experiment
SET 'state.backend.type' = 'rocksdb';
SET 'execution.checkpointing.incremental' = 'true';  -- of a million units only what has changed
SET 'state.backend.rocksdb.memory.fixed-per-slot' = '128 mb';
SET 'state.backend.rocksdb.use-bloom-filter' = 'true';  -- most units' days are new
SET 'state.backend.rocksdb.memory.partitioned-index-filters' = 'true';  -- or a megabyte of filter is read for a unit once memory is short

CREATE TEMPORARY VIEW told AS
SELECT
  unit_name || U&'\001F' || unit AS unit, CAST(event_time AS TIMESTAMP(3)) AS event_time, event_id, variations, segments,
  CAST(NULL AS STRING) AS source, CAST(NULL AS STRING) AS measurement_id, CAST(NULL AS BIGINT) AS version, CAST(NULL AS MAP<STRING, BIGINT>) AS measured
FROM `experiments.exposure`
WHERE NOT marker
UNION ALL
SELECT
  unit_name || U&'\001F' || unit, CAST(event_time AS TIMESTAMP(3)), event_id, CAST(NULL AS MAP<STRING, STRING>), CAST(NULL AS MAP<STRING, STRING>),
  source, measurement_id, version, measured
FROM `experiments.measurement`
WHERE NOT marker;

CREATE TEMPORARY VIEW added AS OPERATOR 'headrace.experiments.UnitStatistics' OVER told WITH '${streams.experiments.counted.ARGUMENT}';

INSERT INTO `experiments.statistic`
SELECT
  row_id, told_at, 'statistics_by_unit', 0, CAST(-1 AS BIGINT), '', FALSE,
  experiment, phase, variation, segment, `day`, metric, value_bucket, n, measured,
  sum_x, sum_y, sum_u, sum_v, sum_xx, sum_yy, sum_uu, sum_vv, sum_xy, sum_xu, sum_xv, sum_yu, sum_yv, sum_uv
FROM added;
