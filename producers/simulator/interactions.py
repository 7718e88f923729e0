"""What a simulated audience does with titles, by the ten thousand a second: `python -m producers.simulator.interactions --help`.

For features at load. Who does it, with which title and what are drawn independently: the k-th title has weight k^-`exponent` (Zipf),
members differ in how active they are, and each has a region and a device of its own. Sessions that hang together are the simulator's; here
only numbers count, a few members who never sleep (`bots`), clocks that are wrong, and events that come twice or late.

Pure but for `main`: everything follows from the audience, the seed and the number of the step.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from infra.base import log
from infra.base.clock import Clock, WallClock
from infra.base.settings import settings
from producers.emit import Emitter
from producers.simulator.ahead import for_bulk
from producers.simulator.audience import hashed
from producers.simulator.outputs import ArrivalClock
from producers.simulator.reports import whole
from producers.simulator.world import BadWorld
from schemas.catalogue import catalogue
from schemas.columnar import Coded, Column, ColumnEncoder, Names, Ready, Text, Where, digits, of_table, table
from schemas.publish import publish
from schemas.wire import long_bytes, string_bytes

TOPIC = "recommendations.interaction"
PRODUCER_ID = "audience"
STEP_MS = 50
"""Events that are drawn, encoded and sent together."""
MARK_EVERY_MS = 1_000
TOGETHER = 1_000
"""Events that are worth being made and sent at once."""
DONE = np.dtype([
    ("at_ms", "<i8"), ("event_time", "<i8"), ("number", "<i8"), ("member", "<i4"), ("title", "<i4"), ("kind", "i1"),
    ("previous", "<i4"), ("watched_ms", "<i8"), ("rating_halves", "<i4"),
])  # fmt: skip
"""An interaction. `at_ms` is when it arrives and `event_time` when its device says that it was, ms since 1970; `number` makes its event_id;
member, titles (`previous`: what was played before) and kind by their numbers in the audience. NONE is null."""
NONE = -1
PLAYS, WATCHED = ("play", "rewatch"), ("completion", "skip")


class Audience(BaseModel):
    """Who does what with what. Weights need not add up to anything; shares are of events, but `wrong_clocks` of members."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    members: PositiveInt = 50_000
    activity: float = Field(1.0, ge=0, le=3)
    """Standard deviation of the logarithm of how often a member does anything."""
    titles: PositiveInt = 5_000
    prefix: str = "tt-"
    exponent: float = Field(1.0, ge=0)
    genres: tuple[str, ...] = ("drama", "comedy", "crime", "documentary", "family", "horror", "romance", "thriller", "war")
    """A title has one to three of them."""
    regions: dict[str, PositiveFloat] = Field({"eu-1": 3, "eu-2": 1, "us-1": 4, "ap-1": 2}, min_length=1)
    devices: dict[str, PositiveFloat] = Field({"tv": 5, "phone": 3, "web": 2}, min_length=1)
    kinds: dict[str, PositiveFloat] = Field(
        {"click": 30, "play": 25, "completion": 12, "skip": 12, "rewatch": 4, "rating": 8, "list_add": 6, "list_remove": 3}, min_length=1
    )
    bots: NonNegativeInt = 0
    """Members with numbers from 0 on, who do `bot_share` of everything."""
    bot_share: float = Field(0.0, ge=0, le=1)
    wrong_clocks: float = Field(0.0, ge=0, le=1)
    wrong_by_ms: NonNegativeInt = 0
    """Such a member's clock is wrong by so much at most, ahead or behind, and always by the same."""
    duplicates: float = Field(0.0, ge=0, le=1)
    late: float = Field(0.0, ge=0, le=1)
    late_by_ms: NonNegativeInt = 0


def load(path: Path) -> Audience:
    """The audience in a JSON file. Raises BadWorld, OSError."""
    try:
        return Audience.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadWorld(f"{path}: {where}: {first['msg']}" if where else f"{path}: {first['msg']}") from None


class Doings:
    """What an audience does, step by step from `begin_ms` on, `per_second` events a second."""

    def __init__(self, audience: Audience, seed: int, begin_ms: int, per_second: int) -> None:
        """Raises BadWorld where an audience does what the contract has no word for."""
        self._audience, self._seed, self._begin_ms, self._per_second = audience, seed, begin_ms, per_second
        symbols = next(item["symbols"] for item in catalogue().topic(TOPIC).event.fields if item["name"] == "kind")
        if unknown := audience.kinds.keys() - set(symbols):
            raise BadWorld(f"kinds: {', '.join(sorted(unknown))}: none of {', '.join(symbols)}")
        rng = np.random.default_rng([seed, 0])
        members, titles = audience.members, audience.titles
        self._coming = np.cumsum(np.exp(audience.activity * rng.standard_normal(members)))
        self._popular = np.cumsum(np.arange(1, titles + 1) ** -audience.exponent)
        self._kinds = np.cumsum(list(audience.kinds.values()))
        self._runtime_ms = 60_000 * rng.integers(20, 150, titles)
        wrong = rng.random(members) < audience.wrong_clocks
        self._wrong_ms = np.where(wrong, rng.integers(-audience.wrong_by_ms, audience.wrong_by_ms + 1, members), 0)
        kinds = list(audience.kinds)
        self._is_play = np.array([kind in PLAYS for kind in kinds])
        self._is_watched = np.array([kind in WATCHED for kind in kinds])
        self._is_completion = np.array([kind == "completion" for kind in kinds])
        self._is_rating = np.array([kind == "rating" for kind in kinds])

    def step(self, number: int) -> NDArray[Any]:
        """What arrives (DONE, in order) in the step of STEP_MS with this number, from 0 on."""
        audience, rng = self._audience, np.random.default_rng([self._seed, 1, number])
        first, last = (self._per_second * STEP_MS * n // 1_000 for n in (number, number + 1))
        rows = np.zeros(last - first, DONE)
        count = len(rows)
        rows["number"] = np.arange(first, last)
        rows["at_ms"] = self._begin_ms + STEP_MS * number + np.sort(rng.integers(STEP_MS, size=count))
        rows["member"] = _drawn(self._coming, rng.random(count))
        if audience.bots:
            robots = rng.random(count) < audience.bot_share
            rows["member"][robots] = rng.integers(min(audience.bots, audience.members), size=int(robots.sum()))
        rows["title"] = _drawn(self._popular, rng.random(count))
        rows["kind"] = _drawn(self._kinds, rng.random(count))
        late = rng.random(count) < audience.late
        rows["event_time"] = rows["at_ms"] + self._wrong_ms[rows["member"]] - late * rng.integers(audience.late_by_ms + 1, size=count)
        runtime_ms, kind = self._runtime_ms[rows["title"]], rows["kind"]
        watched_ms = np.where(self._is_completion[kind], runtime_ms, (rng.random(count) * runtime_ms).astype(np.int64))
        rows["watched_ms"] = np.where(self._is_watched[kind], watched_ms, NONE)
        rows["previous"] = np.where(self._is_play[kind], _drawn(self._popular, rng.random(count)), NONE)
        rows["rating_halves"] = np.where(self._is_rating[kind], rng.integers(1, 11, count), NONE)
        if audience.duplicates:
            again = rows[rng.random(count) < audience.duplicates].copy()
            again["at_ms"] = self._begin_ms + STEP_MS * (number + 1) - 1
            rows = np.concatenate([rows, again])
        return rows


class Columns:
    """Interactions as columns of their contract, for `schemas.columnar`."""

    def __init__(self, audience: Audience, seed: int) -> None:
        rng = np.random.default_rng([seed, 2])
        self._members = hashed([b"member %d" % n for n in range(audience.members)], 32)
        self._cids = Names([f"{audience.prefix}{k:05d}" for k in range(1, audience.titles + 1)])
        self._kinds = Names(list(audience.kinds))
        self._regions, self._devices = Names(list(audience.regions)), Names(list(audience.devices))
        self._region, self._device = (
            _drawn(np.cumsum(list(weights.values())), rng.random(audience.members)) for weights in (audience.regions, audience.devices)
        )
        many = min(3, len(audience.genres))
        self._genres = table([
            _array([audience.genres[n] for n in rng.permutation(len(audience.genres))[: rng.integers(1, many + 1)]]) if many else b"\0"
            for _ in range(audience.titles)
        ])  # fmt: skip
        self._previous = table([*(_array([cid]) for cid in map(str, self._cids.texts)), b"\0"])  # the last one, where there is none
        self._of = table([f"{PRODUCER_ID}-{seed}-".encode()])

    def keys(self, rows: NDArray[Any]) -> list[bytes]:
        """The key of each: its member_id."""
        keys: list[bytes] = np.ascontiguousarray(self._members[rows["member"]]).view("S64").ravel().tolist()
        return keys

    def __call__(self, rows: NDArray[Any]) -> dict[str, Column]:
        """Columns of `rows` (DONE)."""
        return {
            "event_id": Text([of_table(self._of, np.zeros(len(rows), np.int8)), digits(rows["number"])]),
            "event_time": rows["event_time"],
            "member_id": Text([whole(self._members[rows["member"]])]),
            "cid": Coded(self._cids, rows["title"]),
            "kind": Coded(self._kinds, rows["kind"]),
            "genres": Ready(of_table(self._genres, rows["title"])),
            "previous_cids": Ready(of_table(self._previous, rows["previous"])),
            "region": Coded(self._regions, self._region[rows["member"]]),
            "device_type": Coded(self._devices, self._device[rows["member"]]),
            "watched_ms": Where(rows["watched_ms"] != NONE, rows["watched_ms"]),
            "rating_halves": Where(rows["rating_halves"] != NONE, rows["rating_halves"]),
        }


class Sender:
    """Sends an audience's interactions by an emitter."""

    def __init__(self, emitter: Emitter, audience: Audience, seed: int) -> None:
        """Raises like `Emitter.bind`."""
        self.emitter = emitter
        self._columns = Columns(audience, seed)
        self._encode = ColumnEncoder(catalogue().topic(TOPIC).event, emitter.schema_id(TOPIC))

    def send(self, rows: NDArray[Any]) -> None:
        """Queue `rows` (DONE); Kafka is told when they arrive. Blocks while the queue is full. Raises like `Emitter.send_all`."""

        def write(epoch: int, first_seq: int) -> list[bytes]:
            seqs: dict[str, Column] = {"seq": first_seq + np.arange(len(rows))}
            constants = {"producer_id": self.emitter.producer_id, "epoch": epoch, "correlation_id": ""}
            return self._encode(len(rows), self._columns(rows) | seqs, constants) if len(rows) else []

        self.emitter.send_all(TOPIC, self._columns.keys(rows), rows["at_ms"].tolist(), write)
        self.emitter.poll()


def sent(sender: Sender, doings: Doings, begin_ms: int, seconds: float, live: Clock | None = None) -> Iterator[int]:
    """Send so many seconds of it, from `begin_ms` on, with time markers; after each step, or some steps, how many events it was.

    With a `live` clock each step goes when it is over by that clock. One that lags says so by nothing but its events' age: what arrives is
    told as it was planned, so that waiting here counts as waiting. Without one, steps of few events go together, up to a marker.
    """
    emitter, waiting, steps = sender.emitter, list[NDArray[Any]](), round(1_000 * seconds / STEP_MS)
    for number in range(steps):
        waiting.append(doings.step(number))
        end_ms = begin_ms + STEP_MS * (number + 1)
        is_marked = end_ms // MARK_EVERY_MS > (end_ms - STEP_MS) // MARK_EVERY_MS
        if live is not None:
            live.sleep(max(0.0, (end_ms - live.now_ms()) / 1_000))
        elif not is_marked and number + 1 < steps and sum(map(len, waiting)) < TOGETHER:
            continue
        elif isinstance(emitter.clock, ArrivalClock):
            emitter.clock.at_ms = end_ms
        rows, waiting = np.concatenate(waiting), []
        sender.send(rows)
        if is_marked:
            emitter.mark(TOPIC, end_ms, wait=True)
        yield len(rows)


def main(
    seconds: Annotated[float, typer.Option(min=0.05, help="How long, in simulated time.")],
    per_second: Annotated[int, typer.Option(min=1, help="Events per second of simulated time, without those that come twice.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Everything drawn, event_ids too, follows from it.")] = 1,
    audience: Annotated[Path | None, typer.Option(help="JSON file of the audience; default: 50,000 members and 5,000 titles.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Namespace to write to; default: HEADRACE_NAMESPACE.")] = None,
    start: Annotated[int, typer.Option(help="When it begins, ms since 1970; default: 2026-03-01.")] = 1_772_323_200_000,
    live: Annotated[bool, typer.Option("--live", help="In step with the clock, from now on.")] = False,
    producer_id: Annotated[str, typer.Option(help="Processes that run at once need different ones, and different seeds.")] = PRODUCER_ID,
) -> None:
    """Write simulated interactions to a namespace, as fast as it goes, or in step with the clock."""
    log.configure(PRODUCER_ID)
    if namespace is not None:
        os.environ["HEADRACE_NAMESPACE"] = namespace
        settings.cache_clear()
    if not settings().namespace:
        raise SystemExit("simulated members do not belong among real ones: name a --namespace")
    wall = WallClock()
    begin_ms = wall.now_ms() if live else start
    try:
        known = Audience() if audience is None else load(audience)
        doings = Doings(known, seed, begin_ms, per_second)
    except (BadWorld, OSError) as error:
        raise SystemExit(str(error)) from None
    publish([catalogue().topic(TOPIC)])
    began, total = time.monotonic(), 0
    with Emitter(producer_id, clock=wall if live else ArrivalClock(begin_ms)) as emitter:
        for many in sent(Sender(emitter, known, seed), doings, begin_ms, seconds, wall if live else None):
            total += many
        left = emitter.flush(120)
    took_s = time.monotonic() - began
    sys.stdout.write(f"{total} interactions in {took_s:.1f} s, {total / took_s:,.0f} a second; {left} of unknown outcome\n")
    if left or emitter.counts.failed:
        raise SystemExit(1)


def _drawn(shares: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.int64]:
    """Numbers by cumulated weights, for places from 0 to 1."""
    found: NDArray[np.int64] = np.searchsorted(shares, places * shares[-1], side="right").clip(max=len(shares) - 1)
    return found


def _array(items: list[str]) -> bytes:
    """A list of strings in Avro."""
    return long_bytes(len(items)) + b"".join(map(string_bytes, items)) + b"\0"


if __name__ == "__main__":
    for_bulk()
    typer.run(main)
