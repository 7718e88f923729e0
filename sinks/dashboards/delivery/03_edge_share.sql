-- title: Edge share
-- question: What share of the bytes that players got did cache servers inside ISPs and at exchanges have in store? What servers fetch from each other carries no CMCD session and is not counted.
-- show: number
-- unit: ratio
-- empty: no player has been answered in this range
-- width: 2
SELECT
  sumIf(bytes, hit AND tier IN ('EMBEDDED_FLASH', 'IX_STORAGE')) / sum(bytes) AS value,
  sum(bytes) AS to_players_bytes
FROM delivery_access
WHERE NOT marker AND sid IS NOT NULL AND event_time >= {from:DateTime64(3, 'UTC')} AND event_time < {to:DateTime64(3, 'UTC')}
  AND ({oca:String} = '' OR oca_id = {oca:String}) AND ({title:String} = '' OR cid = {title:String})
HAVING sum(bytes) > 0
