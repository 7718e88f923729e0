-- question: What arrives, over all topics?
-- reads: every landing table, by the domain that its name begins with
-- key: none; `_table` is the landing table of a row
-- time: topic_time
-- Reads through to the landing tables and stores nothing, so that a new topic is counted without being named anywhere.
CREATE TABLE IF NOT EXISTS landed (
  topic_time DateTime64(3, 'UTC'),
  marker Bool
) ENGINE = Merge(currentDatabase(), '^(control|delivery|encoding|experiments|observability|playback|recommendations|security)_')
