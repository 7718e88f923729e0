"""Golden cases through the real jobs: `tests/<domain>/golden/<job>/<case>/in.<topic>.jsonl` → `expect.<topic>.jsonl`.

A line is an event in JSON, times in ISO 8601. Adding a case is adding its files.

- `in`, in the order of arrival: a line arrives at the latest `event_time` up to it. May be left out: the envelope, and `sid`, which then is
  the case's name. A line with `"marker": true` says that time has come to its `event_time`, everywhere; what follows is sent
  once the jobs have taken what came before.
- `expect`: the rows of the case's sessions, by `sid` and `event_time`, and of each the fields that matter. No more may come; none may lack.
  Of a topic without sessions it is the rows whose `event_time` is in the case's time, by `event_time` and key. Of a row that a job writes
  again as it grows the last one counts; rows of experiments.statistic are added up, and are those of the
  case's experiments.

All cases run at once, in a namespace with every job; after the last line time goes on by an hour. Among them are simulated sessions, whose
minutes are held against a plain function, units in experiments, whose sums are, and what members did, whose rows of features are.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from infra.base import kafka
from infra.base.settings import Settings, settings
from producers.simulator.schedule import Plan
from schemas.catalogue import Topic, catalogue
from schemas.examples import from_json
from schemas.recommendations.definition import features
from streams.environment import jobs
from streams.experiments import batch, counted
from streams.recommendations.engine import BETWEEN, Engine
from streams.recommendations.plan import plan
from tests.experiments import worlds
from tests.kit import eventually
from tests.playback import cases as by_hand
from tests.playback import minutes
from tests.producers.test_simulator import eventful, flow
from tests.recommendations import made
from tests.world import World, world

TESTS = Path(__file__).parents[1]
HOUR = timedelta(hours=1)
SUMS = "experiments.statistic"

Record = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What goes in and what is expected to come out, by topic."""

    job: str
    name: str
    put: dict[str, list[Record]]
    expect: dict[str, list[Record]]

    def __str__(self) -> str:
        return f"{self.job}/{self.name}"

    @cached_property
    def arrivals(self) -> list[tuple[datetime, str, Record]]:
        """(when, topic, event), in order."""
        found = []
        for topic, records in self.put.items():
            latest = datetime.min.replace(tzinfo=UTC)
            for record in records:
                latest = max(latest, record["event_time"])
                found.append((latest, topic, record))
        return sorted(found, key=lambda arrival: arrival[0])

    def rows(self, topic: str, found: list[Record]) -> list[Record]:
        """Which of a topic's rows are this case's, by session and time: not every job keeps the order of a session."""
        if has_sessions(catalogue().topic(topic)):
            sids = {record.get("sid") for records in self.put.values() for record in records}
            return sorted((row for row in found if row["sid"] in sids), key=lambda row: (row["sid"], row["event_time"]))
        if topic == SUMS:
            met = {name.rpartition(".")[0] for record in self.put["experiments.exposure"] for name in record["variations"]}
            return [row for row in found if row["experiment"] in met]
        times = [when for when, _, _ in self.arrivals]
        first, last = min(times).replace(second=0, microsecond=0), max(times)
        key = catalogue().topic(topic).key
        return sorted((row for row in found if first <= row["event_time"] <= last), key=lambda row: (row["event_time"], str(row[key])))


def topic_of(file: Path) -> Topic:
    """Whose events are in a file `in.<topic>.jsonl` or `expect.<topic>.jsonl`."""
    return catalogue().topic(file.stem.partition(".")[2])


def lines(file: Path) -> list[Record]:
    """The events of a file, as a decoder would give them."""
    return [from_json(topic_of(file).event, json.loads(line)) for line in file.read_text().splitlines()]


def read(folder: Path) -> Case:
    """The case in a folder."""
    put: dict[str, list[Record]] = {}
    for file in sorted(folder.glob("in.*.jsonl")):
        own = {"producer_id": "golden", "epoch": 0, **({"sid": folder.name} if has_sessions(topic_of(file)) else {})}
        put[topic_of(file).name] = [{**own, "event_id": f"{folder.name}-{n}", "seq": n, **line} for n, line in enumerate(lines(file))]
    return Case(folder.parent.name, folder.name, put, {topic_of(file).name: lines(file) for file in sorted(folder.glob("expect.*.jsonl"))})


def has_sessions(topic: Topic) -> bool:
    return "sid" in {field["name"] for field in topic.event.fields}


def written_by_hand() -> Iterator[Case]:
    """The awkward sessions, which are written down once for the function and the job."""
    for case in by_hand.CASES:
        sid = f"by hand: {case['case']}"
        expect = {name: by_hand.at(value) if name in ("started_at", "ended_at") else value for name, value in case["expect"].items()}
        yield Case("qoe_sessions", sid, {"playback.report": by_hand.events(case, sid)}, {"playback.qoe_session": [expect]})


def simulated() -> Case:
    """Sessions in which much goes wrong, their reports late, out of order and repeated; half-way time comes to where the reports are."""
    plan = Plan(round(datetime(2026, 1, 2, tzinfo=UTC).timestamp() * 1000), sessions=80, duplicates=0.1, out_of_order=0.2, late=0.05)
    arrived, _ = flow(plan, eventful(), seed=4)
    beside = ("at_ms", "made_ms")
    records = [
        {name: value for name, value in event.items() if name not in beside} | {"event_time": instant(event["event_time"])}
        for event in arrived
    ]
    half = len(records) // 2
    mark = {"marker": True, "event_time": max(record["event_time"] for record in records[:half])}
    return Case("qoe_minute", "simulated", {"playback.report": [*records[:half], mark, *records[half:]]}, {})


def instant(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def milliseconds(when: datetime) -> int:
    return round(when.timestamp() * 1000)


def exposed() -> Case:
    """Units in experiments, with the product's own metrics; what comes out is what the plain function says."""
    metrics = counted.counted(counted.METRICS)
    exposures: list[Record] = []
    measurements: list[Record] = []
    for seed in range(20):
        for told, one in zip((exposures, measurements), worlds.world(Random(seed), metrics), strict=True):
            told += [event | {"unit": f"{event['unit']} of {seed}", "event_id": f"{event['event_id']} of {seed}"} for event in one]
    put = {"experiments.exposure": exposures, "experiments.measurement": measurements}
    envelope = {"producer_id": "golden", "epoch": 0, "seq": 0}
    expected = batch.statistics(exposures, measurements, metrics)
    return Case(
        "statistics_by_unit",
        "exposed",
        {topic: [{**envelope, **event, "event_time": instant(event["event_time"])} for event in events] for topic, events in put.items()},
        {SUMS: added_up(expected)},
    )


def featured() -> Case:
    """What members did, some of it late and some twice; each key's row is what the engine makes of it."""
    told = [event for event, _ in made.events(2, 200, "1d", members=5)]
    envelope = {"producer_id": "golden", "epoch": 0, "seq": 0}
    put = [{**envelope, **event, "event_time": instant(event["event_time"])} for event in [*told, *told[::7]]]
    case = Case("features", "featured", {made.TOPIC: put}, {})
    engine = Engine(plan(features()))
    for when, topic, event in case.arrivals:
        engine.take(topic, event, milliseconds(when))
    rows = {f"{group}{BETWEEN}{key}": row for group, of in engine.rows.items() for key, row in of.items()}
    expected = [
        {"item": item, "event_time": instant(row.clock), "tiles": row.pack()[0], "texts": row.pack()[1]}
        for item, row in sorted(rows.items(), key=lambda one: (one[1].clock, one[0]))
    ]
    return Case(case.job, case.name, case.put, {"recommendations.feature_value": expected})


def added_up(sums: Mapping[batch.Cell, Mapping[str, int]]) -> list[Record]:
    """Sums as rows, one a cell."""
    return [
        {
            **cell._asdict(), "segment": dict(cell.segment), "day": instant(cell.day * batch.DAY_MS).date(),
            **dict.fromkeys(batch.SUMS, 0), **of,
        }
        for cell, of in sorted(sums.items())
    ]  # fmt: skip


SIMULATED = simulated()
CASES = [*(read(folder) for folder in sorted(TESTS.glob("*/golden/*/*")) if folder.is_dir()), *written_by_hand(), exposed(), featured()]


@pytest.fixture(scope="module")
def came_out(stack: Settings) -> dict[str, list[Record]]:
    """Everything that came out, by topic."""
    with world("golden") as there:
        return run(there, [*CASES, SIMULATED])


def run(there: World, cases: list[Case]) -> dict[str, list[Record]]:
    """Run the cases through every job: the standing rows by topic."""
    deployed = there.run("python", "-m", "streams.deploy", "--all")
    assert deployed.returncode == 0, deployed.stderr
    arrivals = sorted((arrival for case in cases for arrival in case.arrivals), key=lambda arrival: arrival[0])
    marked = datetime.min.replace(tzinfo=UTC)
    for (topic, marks), group in groupby(arrivals, key=lambda arrival: (arrival[1], arrival[2].get("marker", False))):
        if not marks:
            there.arrive(topic, ((milliseconds(when), record) for when, _, record in group))
            continue
        for when, _, _ in group:
            if when > marked:
                marked = when
                there.mark(topic, milliseconds(when))
                wait_until_taken(topic)
    topics = {topic for case in cases for topic in case.put}
    for topic in topics:
        there.mark(topic, milliseconds(arrivals[-1][0] + HOUR))
    expected = {topic for case in cases for topic in case.expect}

    def out() -> dict[str, list[Record]]:
        found = {topic: standing(there.found(topic)) for topic in expected}
        return found | {SUMS: added_up(batch.added_up(found[SUMS]))}

    with contextlib.suppress(AssertionError):  # each case says what is wrong with it
        eventually(lambda: all_as_expected(cases, out()), within=45, every=1)
    there.headrace("jobs", "stop", *jobs())
    return out()


def wait_until_taken(topic: str) -> None:
    """Until every job that reads the topic has a checkpoint behind its end."""
    for job in jobs().values():
        if topic in job.reads:
            eventually(lambda job=job: has_taken(job.name, topic), within=60)  # type: ignore[misc]


def has_taken(job: str, topic: str) -> bool:
    """Whether a job has committed that it has read the topic to its end."""
    consumer = kafka.consumer(job)
    try:
        partitions = [TopicPartition(settings().topic(topic), p) for p in range(catalogue().topic(topic).partitions)]
        ends = [consumer.get_watermark_offsets(partition, timeout=10)[1] for partition in partitions]
        return all(max(taken.offset, 0) >= end for taken, end in zip(consumer.committed(partitions, timeout=10), ends, strict=True))
    finally:
        consumer.close()


def standing(rows: list[Record]) -> list[Record]:
    """Rows without those that were written again when they had grown: `event_id` ends in a slash and the size."""
    newest: dict[Any, Record] = {}
    for place, row in enumerate(rows):
        identity, _, size = row["event_id"].rpartition("/")
        key = identity if size.isdigit() else place
        if key not in newest or int(size) >= int(newest[key]["event_id"].rpartition("/")[2]):
            newest[key] = row
    return list(newest.values())


def all_as_expected(cases: list[Case], found: Mapping[str, list[Record]]) -> bool:
    return all(picked(case, topic, found[topic]) == expected for case in cases for topic, expected in case.expect.items())


def picked(case: Case, topic: str, found: list[Record]) -> list[Mapping[str, Any]]:
    """The case's rows, each with the fields that its expected row has; a row too many as a whole."""
    rows, expected = case.rows(topic, found), case.expect[topic]
    known = [{name: row[name] for name in fields} for row, fields in zip(rows, expected, strict=False)]
    return [*known, *rows[len(expected) :]]


@pytest.mark.stack
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_golden(case: Case, came_out: dict[str, list[Record]]) -> None:
    for topic, expected in case.expect.items():
        assert picked(case, topic, came_out[topic]) == expected


@pytest.mark.stack
def test_minutes_add_up_to_what_the_plain_function_counts(came_out: dict[str, list[Record]]) -> None:
    """Of simulated sessions, whatever was known when: rows add up, and the demand is that of the minutes."""
    arrivals = [(milliseconds(when), record) for when, _, record in SIMULATED.arrivals if not record.get("marker")]
    expected = minutes.minutes((at, {**record, "event_time": milliseconds(record["event_time"])}) for at, record in arrivals)
    rows = SIMULATED.rows("playback.qoe_minute", came_out["playback.qoe_minute"])
    assert any(row["playing_ms"] < 0 for row in rows), "nothing was late for a minute that had come out"
    assert minutes.added_up({**row, "minute": milliseconds(row["minute"])} for row in rows) == expected
    starts = SIMULATED.rows("playback.playback_starts", came_out["playback.playback_starts"])
    assert minutes.demand(starts) == minutes.demand(rows)
