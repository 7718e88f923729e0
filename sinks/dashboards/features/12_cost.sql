-- title: Cost by feature
-- question: What does keeping each feature take, parts that several share being shared out among them, and in how many keys did anything happen?
-- show: table
-- width: 12
-- empty: the home page has told of no feature in this range
SELECT
  feature,
  any(owner) AS owner,
  any(group) AS key,
  max(newest.1) AS keys,
  sum(newest.2) AS row_bytes,
  sum(newest.1 * newest.2) AS state_bytes,
  state_bytes / sum(state_bytes) OVER () AS state_ratio,
  sum(newest.3) AS parts,
  sum(newest.4) AS shared_parts,
  max(newest.5 / greatest(newest.6, 1)) AS happened_ratio,
  max(newest.7) AS cut_by_rule
FROM (
  SELECT
    feature, owner, group, value,
    argMax((keys, value_bytes, columns, shared, happened, looked_at, over_cap), event_time) AS newest
  FROM recommendations_feature_profile
  WHERE NOT marker AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  GROUP BY feature, owner, group, value
)
GROUP BY feature
ORDER BY state_bytes DESC, feature
LIMIT 100
