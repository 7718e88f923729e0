"""Ratings of films become plays and ratings at their own times."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.base.clock import FakeClock
from producers.emit import Emitter
from producers.ratings import send
from tests.broker import FakeRegistry, MockCluster, records

MOVIES = 'movieId,title,genres\n1,"Kid, The (1921)",Comedy|Drama\n2,Unlisted (2001),(no genres listed)\n'
RATINGS = "userId,movieId,rating,timestamp\n7,2,4.5,1260759200\n7,1,0.5,1260759100\n"


def test_they_are_sent_in_the_order_of_their_times(tmp_path: Path, cluster: MockCluster, registry: FakeRegistry) -> None:
    (tmp_path / "movies.csv").write_text(MOVIES)
    (tmp_path / "ratings.csv").write_text(RATINGS)
    clock = FakeClock(0)
    with Emitter("ratings", registry=registry, clock=clock) as emitter:
        assert send(emitter, clock, tmp_path) == 6
        assert emitter.flush() == 0
    titles = records(cluster, registry, "recommendations.title", 2)
    assert sorted((one["cid"], one["name"], one["genres"]) for one in titles) == [
        ("1", "Kid, The (1921)", ["Comedy", "Drama"]), ("2", "Unlisted (2001)", []),
    ]  # fmt: skip
    told = records(cluster, registry, "recommendations.interaction", 4)
    assert [(one["event_id"], one["cid"], one["kind"], one["rating_halves"], one["genres"]) for one in told] == [
        ("ratings-7-1-1260759100-play", "1", "play", None, ["Comedy", "Drama"]),
        ("ratings-7-1-1260759100-rating", "1", "rating", 1, ["Comedy", "Drama"]),
        ("ratings-7-2-1260759200-play", "2", "play", None, []),
        ("ratings-7-2-1260759200-rating", "2", "rating", 9, []),
    ]
    at_ms = [message.timestamp()[1] for message in cluster.messages("recommendations.interaction", 4)]
    assert at_ms == [1_260_759_100_000] * 2 + [1_260_759_200_000] * 2


def test_a_file_without_a_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text("movieId,genres\n")
    with pytest.raises(ValueError, match=r"movies\.csv: has no column title"):
        send(None, FakeClock(0), tmp_path)  # type: ignore[arg-type]
