-- How often was each title started in each region, day by day, and how much of it was received? What cache fill is planned from.
--
-- Reads     playback.playback_starts   rows that add up, differences of late reports among them
-- Writes    delivery.demand            a day's totals so far, once for each row that changed them, at least once and without waiting for a checkpoint
-- Key       item: cid, region and day; the topic is compacted, and what was said last stands
-- Time      the day is that of the minute counted, in UTC; rows are added as they come, so that no difference is too late
-- State     a few numbers for each title, region and day, three days long: reports take ten minutes at most to be counted

SET 'table.exec.mini-batch.enabled' = 'false';
SET 'table.exec.state.ttl' = '3 d';

CREATE TEMPORARY VIEW counted AS
SELECT cid, region, CAST(`minute` AS DATE) AS on_day, `minute` AS counted_minute, attempts, starts, received_bytes, PROCTIME() AS came
FROM `playback.playback_starts`
WHERE NOT marker;

CREATE TEMPORARY VIEW so_far AS
SELECT
  cid, region, on_day, counted_minute,
  SUM(attempts) OVER same_day AS attempts,
  SUM(starts) OVER same_day AS starts,
  SUM(received_bytes) OVER same_day AS received_bytes,
  COUNT(*) OVER same_day AS changes
FROM counted
WINDOW same_day AS (PARTITION BY cid, region, on_day ORDER BY came ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW);

INSERT INTO `delivery.demand`
SELECT
  CONCAT(MD5(CONCAT_WS(U&'\001F', cid, region, CAST(on_day AS STRING))), '/', CAST(changes AS STRING)),
  counted_minute, 'demand', 0, CAST(-1 AS BIGINT), '', FALSE,
  CONCAT_WS(U&'\001F', cid, region, CAST(on_day AS STRING)), cid, region, CAST(on_day AS TIMESTAMP(3)), attempts, starts, received_bytes
FROM so_far;
