-- How good was each playback session? Startup, rebuffering, bitrate and failures in the terms of CTA-2066, one row when it closes.
--
-- Reads     playback.report
-- Writes    playback.qoe_session       a row per closed session, and again when more of its reports arrive: the row with the most reports is the newest
--           playback.session_timeline  the packed reports that the row was computed from; qoe_corrections puts them together
-- Key       sid
-- Time      event_time, watermark 5 s behind. A closing report (sta e, f or q) lets the row out with the next checkpoint; silence does once a
--           whole minute without a sign of life has passed the watermark, three at most.
-- Lateness  No report is dropped: the metrics are a function of the set of reports, and one behind the watermark lets the row out (again).
-- State     Packed reports, about 100 bytes each and 20,000 a session, of sessions with a report in the last hour by the wall clock. One that comes later
--           makes a row and a timeline of its own, which qoe_corrections joins to the earlier ones. Duplicates fall out when the session is
--           computed: to look every event up by its id costs more than all the rest. The hour is also how long the job may be down: a session
--           that was playing then and says nothing afterwards has expired when its silence is noticed, and its row is missing until a replay.

SET 'table.exec.state.ttl' = '1 h';

-- A bundle ends with each checkpoint, before which nothing can be seen anyway, and after so many reports: joining them copies a session's string once
-- per report of it in the bundle. It ends too whenever the watermark passes a multiple of the latency, which is event time: short, it would make a
-- bundle of every few reports of a recorded log.
SET 'table.exec.mini-batch.allow-latency' = '60 s';
SET 'table.exec.mini-batch.size' = '10000';

CREATE TEMPORARY FUNCTION quality AS 'streams.playback.quality.quality' LANGUAGE PYTHON;

-- `late`: the minute it happened in is over, so that `active_minutes` will not count it. The first comparison spares most reports the second.
-- `sign`: counts as a sign of life, as every fourth segment does: a session that still plays fetches more than those in a minute.
CREATE TEMPORARY VIEW packed AS
SELECT
  sid, event_time, arrived_at, ${streams.playback.timeline.PACKED} AS report,
  IF(e = 'ps' AND sta IN ('e', 'f', 'q'), 1, 0) AS closes,
  event_time <= CURRENT_WATERMARK(event_time) AND FLOOR(event_time TO MINUTE) + INTERVAL '1' MINUTE <= CURRENT_WATERMARK(event_time) AS late,
  e <> 'rr' OR MOD(sn, 4) = 0 AS sign
FROM `playback.report`
WHERE NOT marker AND sn < ${streams.playback.qoe.MOST_REPORTS};

CREATE TEMPORARY VIEW signs AS SELECT sid, event_time, closes FROM packed WHERE sign;

-- Minutes in which a session gave a sign of life, then sessions of such minutes: a fraction of the work of a session window over every report.
CREATE TEMPORARY VIEW active_minutes AS
SELECT sid, window_time AS minute_end, MAX(closes) AS closes
FROM TUMBLE(TABLE signs, DESCRIPTOR(event_time), INTERVAL '1' MINUTE)
GROUP BY sid, window_start, window_end, window_time;

CREATE TEMPORARY VIEW silences AS
SELECT sid
FROM SESSION(TABLE active_minutes PARTITION BY sid, DESCRIPTOR(minute_end), INTERVAL '61' SECOND)
GROUP BY sid, window_start, window_end
HAVING MAX(closes) = 0;

-- A session's row comes out when it has closed or fallen silent, and whenever no sign of life in time came after a late report, or at all: if one
-- does, so does a close or a silence, and until then there is nothing to say.
CREATE TEMPORARY VIEW closed AS
SELECT sid, timeline, first_report_at, last_report_at
FROM (
  SELECT
    sid, MAX(closes) AS closes, MAX(sign_at) AS newest_sign_at, MAX(late_at) AS newest_late_at,
    MIN(event_time) AS first_report_at, MAX(event_time) AS last_report_at, SUM(CAST(CHAR_LENGTH(report) AS BIGINT)) AS characters,
    LISTAGG(report, ${streams.playback.timeline.SQL_BETWEEN_REPORTS}) AS timeline
  FROM (
    SELECT
      sid, report, closes, CAST(event_time AS TIMESTAMP(3)) AS event_time,
      CASE WHEN sign THEN arrived_at END AS sign_at, CASE WHEN late THEN arrived_at END AS late_at
    FROM packed
    UNION ALL
    SELECT sid, CAST(NULL AS STRING), 1, CAST(NULL AS TIMESTAMP(3)), CAST(NULL AS TIMESTAMP(3)), CAST(NULL AS TIMESTAMP(3)) FROM silences
  )
  GROUP BY sid
)
WHERE (closes = 1 OR newest_sign_at IS NULL OR newest_late_at >= newest_sign_at) AND characters <= ${streams.playback.timeline.LONGEST};

CREATE TEMPORARY VIEW timelines AS
SELECT sid, timeline, first_report_at, last_report_at FROM TO_CHANGELOG(input => TABLE closed, uid => 'timelines') WHERE op IN ('INSERT', 'UPDATE_AFTER');

INSERT INTO `playback.qoe_session`
SELECT
  sid || '/' || CAST(reports AS STRING), ended_at, 'qoe_sessions', 0, CAST(-1 AS BIGINT), '', FALSE,
  sid, ${streams.playback.quality.COLUMNS}
FROM timelines, LATERAL TABLE(quality(timeline)) AS quality(${streams.playback.quality.COLUMNS});

INSERT INTO `playback.session_timeline`
SELECT sid || '/' || MD5(timeline), last_report_at, 'qoe_sessions', 0, CAST(-1 AS BIGINT), '', FALSE, sid, first_report_at, timeline
FROM timelines;
