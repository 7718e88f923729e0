-- title: Loader
-- question: In how many inserts did each topic's events reach their table, and how often was an answer uncertain or a range counted anew?
-- show: table
-- width: 6
-- empty: the loader has told nothing in this range
SELECT
  about AS topic,
  sumIf(measured, metric = 'rows') AS events,
  sumIf(measured, metric = 'blocks') AS blocks,
  round(events / nullIf(blocks, 0)) AS events_per_block,
  sumIf(measured, metric = 'uncertain') AS uncertain,
  sumIf(measured, metric = 'recoveries') AS recoveries
FROM observability_sample
WHERE NOT marker AND component = 'loader' AND metric != 'lag'
  AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
GROUP BY topic
ORDER BY events DESC
LIMIT 50
