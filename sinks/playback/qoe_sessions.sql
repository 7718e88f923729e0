-- question: What was the quality of each session, as far as is known now?
-- reads: playback_qoe_session
-- key: sid
-- time: started_at, ended_at
-- A session is written again when late reports come; the row with the most reports is the newest. Of rows with equally many, which
-- are equal by construction, the last on the topic is taken.
CREATE OR REPLACE VIEW qoe_sessions AS
SELECT *
FROM playback_qoe_session
WHERE NOT marker
ORDER BY reports DESC, topic_offset DESC
LIMIT 1 BY sid
