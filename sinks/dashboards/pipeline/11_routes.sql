-- title: Routes
-- question: What did each route forward, and how many repeats did it drop?
-- show: table
-- width: 6
-- empty: no route has closed a minute in this range
SELECT
  source,
  destination,
  sum(events) AS events,
  sum(duplicates) AS duplicates
FROM observability_route_count
WHERE NOT marker AND minute >= {from:DateTime64(3, 'UTC')} AND minute < {to:DateTime64(3, 'UTC')}
GROUP BY source, destination
ORDER BY events DESC
LIMIT 50
