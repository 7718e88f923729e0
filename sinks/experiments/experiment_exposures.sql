-- question: Which variation did each unit meet first, when, as one of which segments, and did it meet others?
-- reads: experiments_exposure
-- key: experiment, phase, unit_name, unit
-- time: first_at, the first exposure
-- `met_variations` is how many it met; with more than one it counts for none, and is told of its first. The first is the smallest event_time, of several
-- at one moment the smallest event_id, whichever order they came in.
CREATE OR REPLACE VIEW experiment_exposures AS
SELECT
  substring(met.1, 1, length(met.1) - position(reverse(met.1), '.')) AS experiment,
  toInt32(substring(met.1, length(met.1) - position(reverse(met.1), '.') + 2)) AS phase,
  unit_name,
  unit,
  argMin(met.2, (event_time, event_id)) AS variation,
  argMin(segments, (event_time, event_id)) AS segment,
  min(event_time) AS first_at,
  uniqExact(met.2) AS met_variations
FROM experiments_exposure
ARRAY JOIN arrayZip(mapKeys(variations), mapValues(variations)) AS met
WHERE NOT marker
GROUP BY experiment, phase, unit_name, unit
