-- question: What are the flags, experiments and metrics now, and who made them so?
-- reads: experiments_change
-- key: kind, key
-- time: event_time of the newest change
-- What was withdrawn is not here; experiments_change has every version.
CREATE OR REPLACE VIEW experiment_definitions AS
SELECT
  kind,
  key,
  version,
  action,
  document,
  author,
  reason,
  event_time,
  started_at
FROM (
  SELECT *, minIf(event_time, action = 'START' OR kind = 'holdout' OR JSONExtractString(document, 'state') = 'running') OVER (PARTITION BY kind, key) AS started_at
  FROM experiments_change
  WHERE NOT marker
  ORDER BY version DESC, topic_offset DESC
  LIMIT 1 BY kind, key
)
WHERE document != ''
