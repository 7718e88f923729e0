"""Ratings of films as events: `python -m producers.ratings FOLDER` sends a folder laid out as MovieLens is, each event at its own time.

    movies.csv     movieId,title,genres         genres separated by |
    ratings.csv    userId,movieId,rating,timestamp         stars in halves; seconds since 1970

Whoever rates a film has seen it: a rating is a play and a rating. Events go in the order of their times, and Kafka is told these times too,
so that they are as old for whoever reads them as they were then; send them into a namespace of their own, where nothing expires.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from infra.base import log
from infra.base.clock import FakeClock
from producers.emit import Backpressure, Emitter
from schemas.records import RecommendationsInteraction, RecommendationsTitle

PRODUCER = "ratings"
NO_GENRES = "(no genres listed)"


class Told(NamedTuple):
    """One interaction: what makes it the same if it is sent again, when it was (ms), and its fields."""

    event_id: str
    at_ms: int
    record: RecommendationsInteraction


def titles(folder: Path) -> Iterator[RecommendationsTitle]:
    """The films. Raises OSError, or ValueError in words where a line is not as it should be."""
    for cid, name, genres in _rows(folder / "movies.csv", "movieId", "title", "genres"):
        yield {"cid": cid, "name": name, "genres": [] if genres == NO_GENRES else genres.split("|")}


def interactions(folder: Path) -> list[Told]:
    """A play and a rating for each rating, in the order of their times. Raises like `titles`."""
    genres = {title["cid"]: title.get("genres", []) for title in titles(folder)}
    told = []
    for member, cid, stars, at_s in _rows(folder / "ratings.csv", "userId", "movieId", "rating", "timestamp"):
        at_ms, of = 1_000 * int(at_s), f"{PRODUCER}-{member}-{cid}-{at_s}"
        common: RecommendationsInteraction = {"member_id": member, "cid": cid, "kind": "play", "genres": genres.get(cid, [])}
        told.append(Told(f"{of}-play", at_ms, common))
        told.append(Told(f"{of}-rating", at_ms, {**common, "kind": "rating", "rating_halves": round(2 * float(stars))}))
    return sorted(told, key=lambda one: one.at_ms)


def _rows(file: Path, *columns: str) -> Iterator[tuple[str, ...]]:
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        if absent := set(columns) - set(reader.fieldnames or ()):
            raise ValueError(f"{file.name}: has no column {', '.join(sorted(absent))}")
        for row in reader:
            yield tuple(row[column] for column in columns)


def send(emitter: Emitter, clock: FakeClock, folder: Path) -> int:
    """Send all of it, `clock` being the emitter's; how many events. Blocks while the queue is full. Raises like `titles` and `send`."""
    told = interactions(folder)
    if told:
        clock.advance((told[0].at_ms - clock.now_ms()) / 1_000)
    sent = 0
    for title in titles(folder):
        _send(emitter, "recommendations.title", title, clock.now_ms(), f"{PRODUCER}-{title['cid']}")
        sent += 1
    for one in told:
        clock.advance((one.at_ms - clock.now_ms()) / 1_000)
        _send(emitter, "recommendations.interaction", one.record, one.at_ms, one.event_id)
        sent += 1
    return sent


def _send(emitter: Emitter, topic: str, record: RecommendationsInteraction | RecommendationsTitle, at_ms: int, event_id: str) -> None:
    while True:
        try:
            emitter.send(topic, record, event_time_ms=at_ms, event_id=event_id)
            return
        except Backpressure:
            emitter.poll(0.05)


def main() -> int:
    """Send the folder that is named."""
    log.configure(PRODUCER)
    if len(sys.argv) != 2:
        sys.stderr.write("say which folder: python -m producers.ratings FOLDER\n")
        return 2
    clock = FakeClock(0)
    with Emitter(PRODUCER, clock=clock) as emitter:
        sent = send(emitter, clock, Path(sys.argv[1]))
        left = emitter.flush()
    sys.stdout.write(f"{sent} events sent, {sent - emitter.counts.acknowledged} of them of unknown outcome\n")
    return 1 if left or emitter.counts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
