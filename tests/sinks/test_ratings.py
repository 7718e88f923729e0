"""MovieLens' ratings, loaded at their own times: the top titles of each month in ClickHouse are what a batch over the file says."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from datetime import UTC, date, datetime

from infra.base import warehouse
from infra.base.clock import FakeClock
from producers.emit import Emitter
from producers.ratings import send
from schemas.catalogue import catalogue
from sinks import migrate
from tests.kit import eventually, vectors
from tests.sinks.loading import LETTERS, loading
from tests.sinks.reports import register

TOPICS = [catalogue().topic(f"recommendations.{name}") for name in ("interaction", "title")]
PLAYED = "SELECT count() FROM recommendations_interaction WHERE kind = 'play'"
MONTHS = """
SELECT toStartOfMonth(event_time) AS month, cid, count() AS plays
FROM recommendations_interaction
WHERE kind = 'play'
GROUP BY month, cid
ORDER BY month, plays DESC, cid
LIMIT 10 BY month
"""


def test_the_top_titles_of_each_month_are_those_of_a_batch(place: str) -> None:
    folder = vectors("recs")
    with (folder / "ratings.csv").open(newline="") as lines:
        rated = [(datetime.fromtimestamp(int(row["timestamp"]), UTC), row["movieId"]) for row in csv.DictReader(lines)]
    often: dict[date, Counter[str]] = defaultdict(Counter)
    for at, cid in rated:
        often[at.date().replace(day=1)][cid] += 1
    batch = [
        (month, *one) for month in sorted(often) for one in sorted(often[month].items(), key=lambda one: (-one[1], one[0]))[:10]
    ]  # fmt: skip
    migrate.migrate(warehouse.writer("default"), [*TOPICS, LETTERS], [])
    for topic in (*TOPICS, LETTERS):
        register(topic)
    clock = FakeClock(0)
    with Emitter("ratings", clock=clock) as emitter:
        assert send(emitter, clock, folder) > 2 * len(rated)
        assert emitter.flush() == 0
    with loading([*TOPICS, LETTERS]):
        eventually(lambda: warehouse.reader().query(PLAYED).result_rows == [(len(rated),)], within=120, every=0.5)
    assert len(often) > 200
    assert warehouse.reader().query(MONTHS).result_rows == batch
