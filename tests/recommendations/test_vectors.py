"""MovieLens' ratings, replayed as plays at their own times: the top titles of every month are what a batch over the file says."""

from __future__ import annotations

import csv
from bisect import bisect_left
from collections import Counter
from datetime import UTC, datetime, timedelta

from producers.ratings import interactions
from streams.recommendations.engine import Engine
from streams.recommendations.plan import plan
from streams.recommendations.table import Table
from tests.kit import vectors
from tests.recommendations.made import TOPIC, feature

DAYS = timedelta(days=30)


def test_the_top_titles_of_each_month_are_those_of_a_batch() -> None:
    folder = vectors("recs")
    with (folder / "ratings.csv").open(newline="") as lines:
        seen = sorted((datetime.fromtimestamp(int(row["timestamp"]), UTC), row["movieId"]) for row in csv.DictReader(lines))
    first, last = seen[0][0], seen[-1][0]
    made = plan([feature("plays", key=["title"], filter={"kind": "play"}, windows=["30d"])])
    engine, told, n, months = Engine(made), [one for one in interactions(folder) if one.record["kind"] == "play"], 0, 0
    ends = [datetime(year, month, 1, tzinfo=UTC) for year in range(1995, 2017) for month in range(1, 13)]
    table = Table(made)
    for end in (end for end in ends if first < end < last + DAYS):
        ended_ms, changed = round(end.timestamp() * 1000) - 1, set()
        while n < len(told) and told[n].at_ms < ended_ms:
            event = {**told[n].record, "event_id": told[n].event_id, "event_time": told[n].at_ms}
            changed.update(engine.take(TOPIC, event, told[n].at_ms))
            n += 1
        for group, key in changed:
            table.fold(group, key, made.layouts[group].id, *engine.packed(group, key))
        ended = end - timedelta(milliseconds=1)
        begun = (ended - DAYS).replace(hour=0, minute=0, second=0, microsecond=0)
        often = Counter(cid for _, cid in seen[bisect_left(seen, (begun,)) : bisect_left(seen, (ended,))])
        assert table.ranked("plays_30d", 10, ended_ms) == sorted(often.items(), key=lambda one: (-one[1], one[0]))[:10]
        months += bool(often)
    assert months > 200
    assert engine.counts == {"taken": len(told)}
