-- What is kept of each key for recommendation features?
--
-- Reads     the topics that features name (schemas/recommendations/features)
-- Writes    recommendations.feature_value   the newest row of a key, packed as streams/recommendations/tiles.py packs it
-- Key       first the topic's key, where it is decided which events count; then group and entity, such as title.region and a title in a region
-- Time      event_time, or arrival where that is earlier; nothing waits for a watermark. A row is told at most five times a second.
-- Lateness  none is too late: an event lies in the tile of its own time
-- State     of a key of a topic the events of its last hour, at most 10,000; of a group's key its row, which is as long as its features make it. On disk.
--           Rows are let go 64 days of the wall clock after their last event, when no window has reached them for a month.
--
-- What operators are told of features is made by streams/recommendations/kept.py; new ones come with `headrace feature deploy`.

SET 'headrace.columns' = 'named';
SET 'headrace.state' = '${streams.recommendations.kept.STATE}';
SET 'execution.checkpointing.interval' = '10 s';  -- nobody waits for them: rows are told at once, and a failure tells them again
SET 'execution.checkpointing.min-pause' = '5 s';
SET 'state.backend.type' = 'rocksdb';
SET 'state.backend.incremental' = 'true';
SET 'state.backend.rocksdb.memory.fixed-per-slot' = '256 mb';
SET 'state.backend.rocksdb.use-bloom-filter' = 'true';  -- most keys are seldom
SET 'state.backend.rocksdb.memory.partitioned-index-filters' = 'true';  -- or a megabyte of filter is read for a row once memory is short

CREATE TEMPORARY VIEW told AS
${streams.recommendations.kept.TOLD};

CREATE TEMPORARY VIEW kept AS OPERATOR 'headrace.recommendations.Features' OVER told WITH '${streams.recommendations.kept.ARGUMENT}';

INSERT INTO `recommendations.feature_value`
SELECT
  item || '/' || CAST(taken AS STRING), clock, 'features', generation, CAST(-1 AS BIGINT), '', FALSE,
  item, `group`, entity, layout, tiles, texts
FROM kept;
