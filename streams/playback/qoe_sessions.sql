-- How good was each playback session? Startup, rebuffering, bitrate and failures in the terms of CTA-2066, one row when it closes.
--
-- Reads     playback.report
-- Writes    playback.qoe_session       a row per closed session, and again when more of its reports arrive: the row with the most reports is the newest
--           playback.session_timeline  the packed reports that the row was computed from; qoe_corrections puts them together
-- Key       sid
-- Time      event_time, watermark 5 s behind. A closing report (sta e, f or q) lets the row out with the next checkpoint, a second later where
--           reports before it lack; silence does once a minute without a report has passed the watermark.
-- Lateness  No report is dropped: the metrics are a function of the set of reports. One that comes while its session is kept lets the row out again
--           when it is let go; one that comes later makes a row and a timeline of its own, which qoe_corrections joins to the earlier ones.
-- State     Packed reports, about 100 bytes each and 20,000 a session, of sessions that play, and for ten seconds after their close (Timelines.java).
--           Duplicates fall out when the session is computed: to look every event up by its id costs more than all the rest.

-- Bundles of rows would only hold them back. Those for Python end with each checkpoint, before which nothing can be seen anyway.
SET 'table.exec.mini-batch.enabled' = 'false';
SET 'python.fn-execution.bundle.time' = '2000';

CREATE TEMPORARY FUNCTION timelines AS 'headrace.playback.Timelines' LANGUAGE JAVA;
CREATE TEMPORARY FUNCTION quality AS 'streams.playback.quality.quality' LANGUAGE PYTHON;

CREATE TEMPORARY VIEW packed AS
SELECT
  sid, ${streams.playback.timeline.PACKED} AS report, event_time,
  IF(${streams.playback.timeline.IS_REQUEST}, CAST(-1 AS BIGINT), sn) AS sn,  -- request mode counts by itself: none of its numbers can lack
  topic_offset,
  IF(e = 'ps' AND sta IN ('e', 'f', 'q'), 1, 0) AS closes
FROM `playback.report`
WHERE NOT marker AND sn < ${streams.playback.qoe.MOST_REPORTS};

CREATE TEMPORARY VIEW closed AS
SELECT sid, first_offset, first_report_at, last_report_at, timeline
FROM timelines(packed => TABLE packed PARTITION BY sid, uid => 'timelines');

INSERT INTO `playback.qoe_session`
SELECT
  sid || '/' || CAST(reports AS STRING), ended_at, 'qoe_sessions', 0, CAST(-1 AS BIGINT), '', FALSE,
  sid, ${streams.playback.quality.COLUMNS}
FROM closed, LATERAL TABLE(quality(timeline)) AS quality(${streams.playback.quality.COLUMNS});

INSERT INTO `playback.session_timeline`
SELECT sid || '/' || MD5(timeline), last_report_at, 'qoe_sessions', 0, CAST(-1 AS BIGINT), '', FALSE, sid, first_report_at, first_offset, timeline
FROM closed;
