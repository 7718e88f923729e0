-- Which sessions must be computed anew, because their reports did not all meet in the state of qoe_sessions? Those that went on after it had let them go.
--
-- Reads     playback.session_timeline   what qoe_sessions computed each of its rows from
-- Writes    playback.qoe_session        a row wherever the timelines of a session hold more reports together than any of them alone
--                                       The row says that it is from qoe_sessions, like every other: which job saw the last report first is chance, and
--                                       a log that is replayed must give the same rows.
-- Key       sid
-- Time      none: every timeline is taken whenever it comes
-- State     The newest timeline of each stretch of each session of the last 8 days by the wall clock (reports are accepted for 7), on disk.
--           A stretch is what shares the report that arrived first; a later timeline of the same stretch holds all of the earlier one.

SET 'table.exec.state.ttl' = '8 d';
SET 'execution.checkpointing.interval' = '5 s';  -- nobody waits for a correction, and each checkpoint makes files that have to be compacted
SET 'state.backend.type' = 'rocksdb';
SET 'state.backend.rocksdb.memory.fixed-per-slot' = '128 mb';
SET 'state.backend.rocksdb.use-bloom-filter' = 'true';  -- nearly every session is new, and only a filter tells that without looking through the files
SET 'parallelism.default' = '1';

CREATE TEMPORARY FUNCTION corrected AS 'streams.playback.quality.corrected' LANGUAGE PYTHON;

CREATE TEMPORARY VIEW stretches AS
SELECT sid, timeline
FROM (
  SELECT sid, timeline, ROW_NUMBER() OVER (PARTITION BY sid, first_offset ORDER BY seen_at DESC) AS nth
  FROM (SELECT *, PROCTIME() AS seen_at FROM `playback.session_timeline` WHERE NOT marker)
)
WHERE nth = 1;

CREATE TEMPORARY VIEW scattered AS
SELECT sid, timelines
FROM (
  SELECT sid, LISTAGG(timeline, ${streams.playback.timeline.SQL_BETWEEN_TIMELINES}) AS timelines, COUNT(*) AS stretches
  FROM stretches
  GROUP BY sid
)
WHERE stretches > 1;

INSERT INTO `playback.qoe_session`
SELECT
  sid || '/' || CAST(reports AS STRING), ended_at, 'qoe_sessions', 0, CAST(-1 AS BIGINT), '', FALSE,
  sid, ${streams.playback.quality.COLUMNS}
FROM
  (SELECT sid, timelines FROM TO_CHANGELOG(input => TABLE scattered, uid => 'scattered') WHERE op IN ('INSERT', 'UPDATE_AFTER')),
  LATERAL TABLE(corrected(timelines)) AS quality(${streams.playback.quality.COLUMNS});
