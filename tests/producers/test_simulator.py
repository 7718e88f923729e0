"""The simulator: truth that holds together, the same world from the same seed, and jobs' figures that equal the truth exactly."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from producers.emit import Emitter
from producers.simulator.__main__ import main
from producers.simulator.outputs import TOPIC, ArrivalClock, ToKafka, ToLines, ToLog, murmur2
from producers.simulator.reports import event_id, reports
from producers.simulator.schedule import Arrival, Plan, Schedule
from producers.simulator.timeline import draw
from producers.simulator.truth import truth
from producers.simulator.world import BadWorld, World, load
from schemas.catalogue import catalogue
from schemas.codec import Decoder, Encoder
from sinks.archive import RecordedLog

START_MS = 1_767_225_600_000


def eventful() -> World:
    """The default world, in which much goes wrong."""
    shares = {"failed_start": 0.05, "quits_early": 0.1, "quits": 0.3, "pauses": 0.4, "seeks": 0.5, "falls_silent": 0.15, "breaks": 0.1}
    calm = load()
    return World.model_validate({**calm.model_dump(), "shares": shares, "request_failure": 0.03})


def flow(plan: Plan, world: World | None = None, seed: int = 1) -> tuple[list[Arrival], list[dict[str, Any]]]:
    """Everything that arrives, and all truths."""
    arrivals: list[Arrival] = []
    truths: list[dict[str, Any]] = []
    for second in Schedule(world or eventful(), seed, plan):
        arrivals += second.arrivals
        truths += second.truths
    return arrivals, truths


def as_event(arrival: Arrival) -> dict[str, Any]:
    """What a reader of the topic gets."""
    fields = arrival.made.fields
    return {"event_id": event_id(arrival.sid, fields["sn"]), "event_time": arrival.event_time_ms, "sid": arrival.sid, **fields}


def test_what_the_jobs_compute_from_reports_equals_the_truth_from_the_playback() -> None:
    from streams.playback.qoe import Report, session

    arrivals, truths = flow(Plan(START_MS, sessions=2_500, duplicates=0.05, out_of_order=0.1, late=0.02))
    by_sid: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for arrival in arrivals:
        by_sid[arrival.sid].append(as_event(arrival))
    assert len(truths) == len(by_sid) == 2_500
    assert len(arrivals) > 150_000
    wrong: Counter[str] = Counter()
    for true in truths:
        computed = {"sid": true["sid"], **(session(map(Report.of, by_sid[true["sid"]])) or {})}
        wrong.update(name for name in true if computed.get(name) != true[name])
    assert not wrong


def test_the_truth_holds_together() -> None:
    _, truths = flow(Plan(START_MS, sessions=1_500))
    for true in truths:
        wall_ms = true["ended_at"] - true["started_at"]
        assert true["playing_ms"] + true["rebuffer_ms"] + (true["startup_ms"] or 0) <= wall_ms
        assert (true["rebuffer_ms"] > 0) <= (true["rebuffer_count"] > 0)
        assert 0 <= true["rebuffer_ratio"] <= 1
        assert sum((true["failed_start"], true["exit_before_video_start"], true["in_play_failure"])) <= 1
        assert (true["startup_ms"] is None) == (true["failed_start"] or true["exit_before_video_start"])
        assert true["switches"] < max(1, true["segments"])
    reasons = Counter(true["end_reason"] for true in truths)
    assert set(reasons) == {"ended", "quit", "fatal", "silence"}
    for name in ("failed_start", "exit_before_video_start", "in_play_failure", "rebuffer_count", "failovers", "switches"):
        assert any(true[name] for true in truths), name


def test_the_same_seed_is_the_same_world_and_another_is_not() -> None:
    plan = Plan(START_MS, sessions=40, duplicates=0.05, out_of_order=0.1)
    first, again, other = flow(plan), flow(plan), flow(plan, seed=2)
    assert [as_event(a) | {"at": a.at_ms} for a in first[0]] == [as_event(a) | {"at": a.at_ms} for a in again[0]]
    assert first[1] == again[1]
    assert first[1] != other[1]


def test_disorder_has_the_shares_that_were_asked_for() -> None:
    arrivals, _ = flow(Plan(START_MS, sessions=400, duplicates=0.05, out_of_order=0.1, late=0.02))
    seen = Counter(as_event(a)["event_id"] for a in arrivals)
    assert sum(n - 1 for n in seen.values()) / len(seen) == pytest.approx(0.05, abs=0.01)
    first: dict[str, int] = {}
    for arrival in arrivals:
        first.setdefault(
            as_event(arrival)["event_id"], arrival.at_ms - arrival.event_time_ms - (arrival.made.made_ms - arrival.made.event_ms)
        )
    delays = list(first.values())
    assert sum(500 <= delay < 5_000 for delay in delays) / len(delays) == pytest.approx(0.1, abs=0.015)
    assert sum(delay >= 10_000 for delay in delays) / len(delays) == pytest.approx(0.02, abs=0.006)
    assert all(a.at_ms <= b.at_ms for a, b in pairwise(arrivals))


def test_no_more_arrives_in_a_second_than_the_markers_promise() -> None:
    waits_ms = 1000 * (catalogue().topic(TOPIC).watermark_s or 0)
    for second in Schedule(load(), 1, Plan(START_MS, sessions=200, out_of_order=0.1)):
        for arrival in second.arrivals:
            assert second.end_ms - 1000 <= arrival.at_ms < second.end_ms
            in_time = arrival.made.made_ms - arrival.made.event_ms < 500  # a slow segment is late by nature: it is about when it was asked
            assert not in_time or arrival.event_time_ms >= second.end_ms - 1000 - waits_ms


def test_a_pool_repeats_sessions_under_new_names_with_truths_that_still_hold() -> None:
    from streams.playback.qoe import Report, session

    arrivals, truths = flow(Plan(START_MS, events=20_000, pool=20))
    assert len({a.sid for a in arrivals}) == len(truths) > 100
    by_sid: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for arrival in arrivals:
        by_sid[arrival.sid].append(as_event(arrival))
    for true in truths:
        computed = session(map(Report.of, by_sid[true["sid"]]))
        assert computed
        assert {name: computed.get(name) for name in true if name != "sid"} == {n: v for n, v in true.items() if n != "sid"}


def test_every_report_fits_the_contract() -> None:
    rng = random.Random(3)
    encode = Encoder(catalogue().topic(TOPIC).event, 1)
    envelope = {"event_id": "x", "event_time": 0, "producer_id": "simulator", "epoch": 1, "seq": 0, "sid": "s"}
    for _ in range(100):
        made = reports(draw(eventful(), rng))
        assert [report.fields["sn"] for report in made] == list(range(len(made)))
        for report in made:
            assert encode(envelope | report.fields)


def test_a_session_that_falls_silent_tells_nothing_afterwards() -> None:
    rng = random.Random(4)
    silent = [line for line in (draw(eventful(), rng) for _ in range(200)) if line.silent_ms is not None]
    assert silent
    for line in silent:
        made = reports(line)
        assert all(report.made_ms < (line.silent_ms or 0) for report in made)
        true = truth(line, max(report.event_ms for report in made))
        assert true["ended_ms"] <= (line.silent_ms or 0) or true["end_reason"] != "silence"


def test_a_recorded_log_can_be_read_back_field_by_field(tmp_path: Path) -> None:
    arrivals, _ = flow(Plan(START_MS, sessions=30, duplicates=0.05))
    with ToLog(tmp_path / "log", "bench") as output:
        for arrival in arrivals:
            output.put(arrival)
        output.mark(START_MS + 1_000, START_MS + 2_000)
    log = RecordedLog.open(tmp_path / "log")
    assert log.rows() == len(arrivals) + 4
    assert log.complete
    decode = Decoder(lambda schema_id: log.schemas[schema_id] or {})
    found: list[dict[str, Any]] = []
    for partition in range(log.partitions[TOPIC]):
        rows = list(log.read(TOPIC, partition))
        assert [row.offset for row in rows] == list(range(len(rows)))
        for row in rows:
            event = decode(row.payload or b"")
            assert event["marker"] or murmur2(row.key or b"") % 4 == partition
            found.append(event)
    assert sum(event["marker"] for event in found) == 4
    assert sorted(event["seq"] for event in found) == list(range(len(found)))
    by_seq = {event["seq"]: event for event in found}
    for seq, arrival in enumerate(arrivals):
        event = by_seq[seq]
        assert event["event_time"].timestamp() * 1000 == pytest.approx(arrival.event_time_ms)
        told = {**as_event(arrival), "correlation_id": arrival.correlation_id, "producer_id": "simulator"}
        del told["event_time"]
        assert {name: event[name] for name in told} == told


def test_lines_of_json_hold_whole_events(tmp_path: Path) -> None:
    arrivals, _ = flow(Plan(START_MS, sessions=3))
    with ToLines(tmp_path / "in.jsonl") as output:
        for arrival in arrivals:
            output.put(arrival)
        output.mark(START_MS, START_MS)
    events = [json.loads(line) for line in (tmp_path / "in.jsonl").read_text().splitlines()]
    assert len(events) == len(arrivals) + 1
    assert events[-1]["marker"] is True
    encode = Encoder(catalogue().topic(TOPIC).event, 1)
    assert all(encode(event) for event in events)


def test_kafka_gets_every_report_on_the_partition_of_its_session(tmp_path: Path) -> None:
    arrivals, _ = flow(Plan(START_MS, sessions=10, duplicates=0.05))
    clock = ArrivalClock(START_MS)
    producer = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "partitioner": "murmur2_random", "log_level": 0})
    emitter = Emitter("simulator", clock=clock, producer=producer, ledger_root=tmp_path, schema_ids={TOPIC: 7})
    with ToKafka(emitter, clock) as output:
        for arrival in arrivals:
            output.put(arrival)
        output.mark(START_MS + 1_000, START_MS + 1_000)
    assert emitter.counts.acknowledged == len(arrivals) + 4
    acknowledged = [line.split() for line in (tmp_path / "simulator" / "1.ledger").read_text().splitlines() if line.startswith("A")]
    partition_of = {int(seq): int(partition) for _, _, partition, _, seq, _ in acknowledged}
    assert [partition_of[seq] for seq in range(len(arrivals))] == [murmur2(a.sid.encode()) % 4 for a in arrivals]


@pytest.mark.parametrize(("key", "hashed"), [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536)])
def test_murmur2_is_the_one_of_the_java_client(key: str, hashed: int) -> None:
    assert murmur2(key.encode()) == hashed & 0x7FFFFFFF


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"titles": []}, "titles"),
        ({"titles": [{"cid": "t", "length_s": 9, "segment_s": 3, "ladder_kbps": [900, 300]}]}, "must ascend"),
        ({"ocas": ["one"]}, "ocas"),
        ({"shares": {"quits": 2}}, r"shares\.quits"),
        ({"weather": "rain"}, "weather"),
    ],
)
def test_a_world_that_is_none_is_refused_by_the_name_of_the_field(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    (file := tmp_path / "world.json").write_text(json.dumps({**load().model_dump(), **change}))
    with pytest.raises(BadWorld, match=words):
        load(file)


def test_simulated_sessions_are_kept_from_among_real_ones() -> None:
    with pytest.raises(SystemExit, match="name a --namespace"):
        main(events=10)
    with pytest.raises(SystemExit, match="either --events or --sessions"):
        main(namespace="bench")
