"""The simulator: truth that holds together, the same world from the same seed, and jobs' figures that equal the truth exactly."""

from __future__ import annotations

import json
import math
import multiprocessing
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer
from numpy.typing import NDArray

from producers.abr.bola_finite import Choice
from producers.abr.state import checked
from producers.emit import Emitter
from producers.players.adaptation import Situation, by_policy, installed
from producers.players.playback import Change, Playback
from producers.simulator.__main__ import main
from producers.simulator.ahead import Killed, ahead
from producers.simulator.audience import Audience
from producers.simulator.experiments import Effects
from producers.simulator.outputs import TOPIC, ArrivalClock, ToKafka, ToLines, ToLog, Truths, Writer, keys_of, murmur2
from producers.simulator.reports import reports
from producers.simulator.schedule import Plan, Schedule, Second
from producers.simulator.timeline import (
    BREAK,
    GIVES_UP_AFTER,
    INIT,
    KINDS,
    NEVER,
    PAUSE,
    QUIT,
    RESUME,
    SEEK,
    STATES,
    Timelines,
    _Stage,
    play,
)
from producers.simulator.world import BadWorld, World, load
from schemas.allocation.definition import fold, read_folder
from schemas.allocation.engine import Context, Table
from schemas.catalogue import catalogue
from schemas.cmcd import report_id
from schemas.codec import Decoder, Encoder
from schemas.envelope import fingerprint
from sinks.archive import RecordedLog

START_MS = 1_767_225_600_000


def eventful(**changed: Any) -> World:
    """The default world, in which much goes wrong."""
    shares = {"failed_start": 0.05, "quits_early": 0.1, "quits": 0.3, "pauses": 0.4, "seeks": 0.5, "falls_silent": 0.15, "breaks": 0.1}
    return World.model_validate({**load().model_dump(), "shares": shares, "request_failure": 0.03, **changed})


def flow(plan: Plan, world: World | None = None, seed: int = 1) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Everything that arrives, as a reader of the topic gets it, with `at_ms` and `made_ms` beside; and all truths."""
    world = world or eventful()
    seconds = list(Schedule(world, seed, plan))
    rows, sessions = (np.concatenate([getattr(second, name) for second in seconds]) for name in ("arrivals", "sessions"))
    return events(world, rows, sessions), truths_of(seconds)


def truths_of(seconds: list[Second]) -> list[dict[str, Any]]:
    return [true for second in seconds if second.truths is not None for true in second.truths.to_pylist()]


def events(world: World, rows: NDArray[Any], sessions: NDArray[Any]) -> list[dict[str, Any]]:
    decode = Decoder(lambda _: catalogue().topic(TOPIC).event.schema)
    found = []
    for framed, at_ms, made_ms in zip(
        Writer(world, 1)(rows, sessions, "simulator", 1, 0), rows["at_ms"].tolist(), rows["made_ms"].tolist(), strict=True
    ):
        event = decode(framed)
        found.append({**event, "event_time": round(event["event_time"].timestamp() * 1000), "at_ms": at_ms, "made_ms": made_ms})
    return found


def lines_of(world: World, count: int, seed: int = 1, from_ms: int = START_MS, over_ms: int = 60_000) -> Timelines:
    """Some sessions that begin one after another."""
    rng = np.random.default_rng(seed)
    pressed_ms = np.sort(from_ms + rng.integers(0, over_ms, count))
    return play(world, Audience(world, seed, START_MS).sessions(0, pressed_ms, rng), START_MS, rng)


def by_session(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["sid"]].append(row)
    return found


def seconds(plan: Plan, count: int) -> list[Second]:
    """Whole seconds of the default world: of some arrivals."""
    return [second for second in Schedule(load(), 1, plan) if len(second.arrivals)][:count]


def test_what_the_jobs_compute_from_reports_equals_the_truth_from_the_playback() -> None:
    from streams.playback.qoe import Report, session

    arrivals, truths = flow(Plan(START_MS, sessions=1_300, duplicates=0.05, out_of_order=0.1, late=0.02))
    found = by_session(arrivals)
    assert len(truths) == len(found) == 1_300
    assert len(arrivals) > 120_000
    wrong: Counter[str] = Counter()
    for true in truths:
        computed = {"sid": true["sid"], **(session(map(Report.of, found[true["sid"]])) or {})}
        wrong.update(name for name in true if computed.get(name) != true[name])
    assert not wrong


def replayed(lines: Timelines, world: World, number: int) -> tuple[list[Change], list[tuple[int, str, int, int, int]]]:
    """Changes and heartbeats of a session as the buffer clock of the real players has them, given what was fetched and what was done."""
    title = world.all_titles[lines.sessions["title"][number]]
    segment_ms = title.segment_s * 1000
    clock = Playback(0, title.length_s * 1000, startup_ms=min(segment_ms, 4_000), resume_ms=segment_ms)
    acts, fetches, beats = (rows[rows["session"] == number] for rows in (lines.acts, lines.fetches, lines.beats))
    todo = [*((int(a["at_ms"]), 0, a) for a in acts), *((int(f["done_ms"]), 1, f) for f in fetches)]
    todo += [(int(b["at_ms"]), 2, b) for b in beats]
    changes, seen, refusals, video_kbps = [Change(0, "s", 0)], [], 0, 0
    for at_ms, kind, what in sorted(todo, key=lambda happening: happening[:2]):
        if kind == 0:
            does = {QUIT: clock.quit, PAUSE: clock.pause, RESUME: clock.resume, BREAK: clock.fail}
            changes += clock.seek(at_ms, int(what["to_ms"])) if what["kind"] == SEEK else does[what["kind"]](at_ms)
        elif kind == 1:
            refusals = 0 if what["rc"] == 200 else refusals + 1
            video_kbps = int(what["kbps"]) if KINDS[what["kind"]] == "v" else video_kbps
            if refusals == GIVES_UP_AFTER:
                changes += clock.fail(at_ms)
            elif not refusals and KINDS[what["kind"]] == "a":
                start_ms = int(what["number"]) * segment_ms
                changes += clock.append(at_ms, start_ms, start_ms + int(what["length_ms"]), video_kbps)
            else:
                changes += clock.advance(at_ms)
        else:
            changes += clock.advance(at_ms)
            seen.append((at_ms, clock.state, clock.kbps, clock.buffer_ms, clock.playhead_ms))
    return changes + clock.advance(at_ms + title.length_s * 1000), seen


def test_what_is_on_the_screen_is_what_the_buffer_clock_of_the_real_players_says() -> None:
    world = eventful()
    lines = lines_of(world, 600)
    for number in range(600):
        changes, beats = (rows[rows["session"] == number] for rows in (lines.changes, lines.beats))
        expected, expected_beats = replayed(lines, world, number)
        assert [Change(int(c["at_ms"]), STATES[c["state"]], int(c["kbps"])) for c in changes] == expected
        assert [(*b.tolist()[1:2], STATES[b["state"]], *b.tolist()[3:]) for b in beats] == expected_beats
    assert Counter(np.diff(lines.changes["state"]).tolist())


def test_requests_follow_one_another_and_bytes_pass_no_faster_than_the_network() -> None:
    world = eventful()
    lines = lines_of(world, 300)
    rows = lines.fetches
    same = rows["session"][1:] == rows["session"][:-1]
    assert (rows["asked_ms"][1:][same] >= rows["done_ms"][:-1][same]).all()
    assert (rows["asked_ms"] < rows["first_byte_ms"]).all()
    fastest = np.array([max(isp.states_kbps) * 1.2 for isp in world.isps])[lines.sessions["isp"][rows["session"]]]
    took_ms = rows["done_ms"] - rows["first_byte_ms"]
    assert (rows["size"] * 8 <= (took_ms + 1) * (fastest + 1)).all()
    assert (took_ms[rows["size"] > 0] > 0).all()


def test_the_truth_holds_together() -> None:
    truths = truths_of(list(Schedule(eventful(), 1, Plan(START_MS, sessions=1_500))))
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
    assert first == again
    assert first[1] != other[1]


def test_disorder_has_the_shares_that_were_asked_for() -> None:
    arrivals, _ = flow(Plan(START_MS, sessions=400, duplicates=0.05, out_of_order=0.1, late=0.02))
    seen = Counter(event["event_id"] for event in arrivals)
    assert sum(n - 1 for n in seen.values()) / len(seen) == pytest.approx(0.05, abs=0.01)
    pressed_ms = {event["sid"]: event["event_time"] for event in arrivals if event["sn"] == 0}
    first: dict[str, int] = {}
    for event in arrivals:
        first.setdefault(event["event_id"], event["at_ms"] - event["made_ms"] - pressed_ms[event["sid"]])
    delays = list(first.values())
    assert sum(500 <= delay < 5_000 for delay in delays) / len(delays) == pytest.approx(0.1, abs=0.015)
    assert sum(delay >= 10_000 for delay in delays) / len(delays) == pytest.approx(0.02, abs=0.006)
    assert (np.diff([event["at_ms"] for event in arrivals]) >= 0).all()


def test_no_more_arrives_in_a_second_than_the_markers_promise() -> None:
    waits_ms = 1000 * (catalogue().topic(TOPIC).watermark_s or 0)
    for second in Schedule(load(), 1, Plan(START_MS, sessions=200, out_of_order=0.1)):
        rows = second.arrivals
        assert ((rows["at_ms"] >= second.end_ms - 1000) & (rows["at_ms"] < second.end_ms)).all()
        # A slow segment is late by nature: it is about when it was asked.
        in_time = second.sessions["pressed_ms"] + rows["made_ms"] - rows["event_time"] < 500
        assert (rows["event_time"][in_time] >= second.end_ms - 1000 - waits_ms).all()


def test_reports_come_as_densely_as_was_asked_for() -> None:
    per_second = [len(second.arrivals) for second in Schedule(load(), 1, Plan(START_MS, events=500_000, per_second=3_000))]
    assert np.mean(per_second[20:60]) == pytest.approx(3_000, rel=0.05)
    assert 500_000 <= sum(per_second) < 510_000


def test_reports_are_numbered_and_identified_as_the_collector_would() -> None:
    arrivals, _ = flow(Plan(START_MS, sessions=100))
    for sid, found in by_session(arrivals).items():
        assert sorted(event["sn"] for event in found) == list(range(len(found)))
        assert all(event["event_id"] == report_id(sid, event["target"], event["sn"]) for event in found)


def test_every_report_fits_the_contract_as_the_careful_encoder_reads_it() -> None:
    encode = Encoder(catalogue().topic(TOPIC).event, 1)
    world = eventful()
    lines = lines_of(world, 60)
    rows = reports(lines)
    for framed, event in zip(
        Writer(world, 1)(rows, lines.sessions[rows["session"]], "simulator", 1, 7),
        events(world, rows, lines.sessions[rows["session"]]),
        strict=True,
    ):
        own = {name: value for name, value in event.items() if name not in ("at_ms", "made_ms")}
        assert encode(own | {"seq": own["seq"] + 7}) == framed


def test_a_session_that_falls_silent_tells_nothing_afterwards() -> None:
    lines = lines_of(eventful(), 200, seed=4)
    silent = lines.silent_ms < NEVER
    assert silent.any()
    rows = reports(lines)
    assert (rows["made_ms"] < lines.silent_ms[rows["session"]]).all()
    told = {name: rows[rows["session"] == name] for name in np.flatnonzero(silent)}
    assert all(len(made) for made in told.values())


def test_a_recorded_log_can_be_read_back_field_by_field(tmp_path: Path) -> None:
    (second,) = seconds(Plan(START_MS, sessions=200, duplicates=0.05), 1)
    arrivals = events(load(), second.arrivals, second.sessions)
    with ToLog(load(), tmp_path / "log", "bench") as output:
        output.put(second.arrivals, second.sessions)
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
            assert event["marker"] or hashed(row.key or b"") % 4 == partition
            found.append(event)
    assert sum(event["marker"] for event in found) == 4
    assert sorted(event["seq"] for event in found) == list(range(len(found)))
    by_seq = {event["seq"]: event for event in found}
    for seq, arrival in enumerate(arrivals):
        event = by_seq[seq]
        assert event["event_time"].timestamp() * 1000 == pytest.approx(arrival["event_time"])
        told = {name: value for name, value in arrival.items() if name not in ("at_ms", "made_ms", "event_time", "seq")}
        assert {name: event[name] for name in told} == told


def test_lines_of_json_hold_whole_events(tmp_path: Path) -> None:
    (second,) = seconds(Plan(START_MS, sessions=60), 1)
    with ToLines(load(), tmp_path / "in.jsonl") as output:
        output.put(second.arrivals, second.sessions)
        output.mark(START_MS, START_MS)
    events = [json.loads(line) for line in (tmp_path / "in.jsonl").read_text().splitlines()]
    assert len(events) == len(second.arrivals) + 1
    assert events[-1]["marker"] is True
    encode = Encoder(catalogue().topic(TOPIC).event, 0)
    written = Writer(load(), 0)(second.arrivals, second.sessions, "simulator", 1, 0)
    assert [encode(event) for event in events[:-1]] == written


def test_kafka_gets_every_report_on_the_partition_of_its_session(tmp_path: Path) -> None:
    (second,) = seconds(Plan(START_MS, sessions=500, duplicates=0.05), 1)
    clock = ArrivalClock(START_MS)
    producer = Producer({
        "bootstrap.servers": "mock", "test.mock.num.brokers": 1, "partitioner": "murmur2_random", "log_level": 0,
        "queue.buffering.max.messages": 50, "linger.ms": 100,  # no marker finds room by luck
    })  # fmt: skip
    emitter = Emitter("simulator", clock=clock, producer=producer, ledger_root=tmp_path, schema_ids={TOPIC: 7})
    count = len(second.arrivals)
    assert count > 200  # so that the queue is full many times
    with ToKafka(load(), emitter, clock) as output:
        output.put(second.arrivals, second.sessions)
        output.mark(START_MS + 1_000, START_MS + 1_000)
    assert emitter.counts.acknowledged == emitter.counts.sent == count + 4
    acknowledged = [line.split() for line in (tmp_path / "simulator" / "1.ledger").read_text().splitlines() if line.startswith("A")]
    partition_of = {int(seq): int(partition) for _, _, partition, _, seq, _ in acknowledged}
    assert [partition_of[seq] for seq in range(count)] == [hashed(key) % 4 for key in keys_of(second.sessions)]
    written = Writer(load(), 7)(second.arrivals, second.sessions, "simulator", 1, 0)
    assert {int(seq): digest for *_, seq, digest in acknowledged if int(seq) < count} == dict(enumerate(map(fingerprint, written)))


def test_seconds_drawn_ahead_are_those_of_the_schedule_and_nobody_stays() -> None:
    plan = Plan(START_MS, sessions=60, duplicates=0.05, out_of_order=0.1)
    for here, there in zip(Schedule(load(), 3, plan), ahead(load(), 3, plan), strict=True):
        assert (here.end_ms, here.scheduled, here.begun, here.truths) == (there.end_ms, there.scheduled, there.begun, there.truths)
        assert np.array_equal(here.arrivals, there.arrivals)
        assert np.array_equal(here.sessions, there.sessions)
    abandoned = ahead(load(), 3, plan)
    next(abandoned)
    abandoned.close()
    assert multiprocessing.active_children() == []


def test_a_process_that_draws_and_is_killed_is_missed() -> None:
    coming = ahead(load(), 1, Plan(START_MS, sessions=100_000))
    next(coming)
    (drawing,) = multiprocessing.active_children()
    drawing.kill()
    with pytest.raises(Killed):
        list(coming)


def hashed(key: bytes) -> int:
    return int(murmur2(np.frombuffer(key, np.uint8)[None, :])[0])


def test_truth_is_written_as_lines_or_as_parquet_with_what_was_wrong_beside_it(tmp_path: Path) -> None:
    world = eventful(faults=[{"kind": "oca", "oca": "oca-sim-2", "start_s": 60, "duration_s": 30, "refuses": 1}])
    truths = [second.truths for second in Schedule(world, 1, Plan(START_MS, sessions=30)) if second.truths is not None]
    for name in ("truth.jsonl", "truth.parquet"):
        with Truths(tmp_path / name, world, START_MS) as out:
            for table in truths:
                out.write(table)
    rows = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert rows == pq.read_table(tmp_path / "truth.parquet").to_pylist()
    assert len(rows) == 30
    (fault,) = json.loads((tmp_path / "truth.faults.json").read_text())
    assert (fault["kind"], fault["oca"], fault["from_ms"], fault["to_ms"]) == ("oca", "oca-sim-2", START_MS + 60_000, START_MS + 90_000)


def test_a_cache_server_that_fails_refuses_while_it_does_and_one_that_is_slow_is_slow() -> None:
    faults = [
        {"kind": "oca", "oca": "oca-sim-2", "start_s": 60, "duration_s": 60, "refuses": 1},
        {"kind": "oca", "oca": "oca-sim-3", "start_s": 60, "duration_s": 60, "slows": 10},
    ]
    world = World.model_validate({**load().model_dump(), "request_failure": 0, "faults": faults, "shares": {}})
    lines = lines_of(world, 400, over_ms=180_000)
    rows = lines.fetches
    at_ms = lines.sessions["pressed_ms"][rows["session"]] + rows["asked_ms"] - START_MS
    struck = (at_ms >= 60_000) & (at_ms < 120_000)
    assert ((rows["rc"] != 200) == (struck & (rows["oca"] == 1))).all()
    assert (rows["rc"] != 200).sum() > 50
    kbps = rows["size"] * 8 / np.maximum(1, rows["done_ms"] - rows["first_byte_ms"])
    slow = struck & (rows["oca"] == 2)
    assert np.median(kbps[slow]) < 0.2 * np.median(kbps[~struck & (rows["oca"] == 2)])


def test_a_congested_network_passes_less_while_it_is() -> None:
    calm = World.model_validate({**load().model_dump(), "shares": {}})
    fault = {"kind": "isp", "asn": 64500, "start_s": 60, "duration_s": 60, "bandwidth": 0.1}
    lines = lines_of(World.model_validate({**calm.model_dump(), "faults": [fault]}), 400, over_ms=180_000)
    rows = lines.fetches[lines.fetches["size"] > 20_000]
    at_ms = lines.sessions["pressed_ms"][rows["session"]] + rows["first_byte_ms"] - START_MS
    until_ms = lines.sessions["pressed_ms"][rows["session"]] + rows["done_ms"] - START_MS
    mine = lines.sessions["isp"][rows["session"]] == 0
    kbps = rows["size"] * 8 / (rows["done_ms"] - rows["first_byte_ms"])
    within = mine & (at_ms >= 61_000) & (until_ms < 119_000)
    assert within.sum() > 50
    assert (kbps[within] < 0.1 * 30_000 * 1.21).all()
    assert np.median(kbps[mine & (at_ms >= 122_000)]) > 5 * np.median(kbps[within])


def test_a_bad_version_of_a_player_fails_to_start_or_stalls() -> None:
    devices = [{"kind": "tv", "player": {"tv/1": 1, "tv/2": 1, "tv/3": 1}, "tb_kbps": 9_000}]
    faults = [
        {"kind": "player", "player": "tv/2", "start_s": 0, "duration_s": 60, "fails_to_start": 0.5},
        {"kind": "player", "player": "tv/3", "start_s": 0, "duration_s": 60, "overestimates": 8},
    ]
    world = World.model_validate({**load().model_dump(), "shares": {}, "request_failure": 0, "devices": devices, "faults": faults})
    lines = lines_of(world, 900)
    failed, version = lines.error == INIT, lines.sessions["rig"]
    assert failed[version == 1].mean() == pytest.approx(0.5, abs=0.08)
    assert not failed[version != 1].any()
    stalls = np.bincount(lines.changes["session"][lines.changes["state"] == STATES.index("r")], minlength=900)
    assert stalls[version == 2].mean() > 3 * stalls[version == 0].mean()
    assert not (lines_of(world, 300, from_ms=START_MS + 60_000).error == INIT).any()


ALGORITHMS = {"rate": 1, "policy": 1, "bola": 1}


def choosing(**changed: Any) -> World:
    """A world on slow networks, a third of whose devices adapts by each algorithm."""
    slow = [{"asn": 64503, "states_kbps": [300, 900, 2600], "stay": 0.8, "rtt_ms": 70}]
    devices = [{"kind": "tv", "player": "tv/1", "tb_kbps": 5_800, "abr": ALGORITHMS}]
    titles = [{"cid": "t", "length_s": 60, "segment_s": 2, "ladder_kbps": [235, 560, 1050, 1750, 3000]}]
    calm = {"shares": {}, "request_failure": 0, "isps": slow, "devices": devices, "titles": titles}
    return World.model_validate({**load().model_dump(), **calm, **changed})


def test_a_share_of_the_devices_decides_as_real_players_do() -> None:
    world = choosing()
    assert [(rig.abr, rig.weight) for rig in world.rigs] == [(name, pytest.approx(1 / 3)) for name in ALGORITHMS]
    lines = lines_of(world, 150)
    by = lines.sessions["rig"]
    video = lines.fetches[lines.fetches["kind"] == KINDS.index("v")]
    worth = np.zeros(3)
    for number in range(150):
        mbps = video["kbps"][video["session"] == number] / 1000
        changes = lines.changes[lines.changes["session"] == number]
        stalled_s = np.diff(changes["at_ms"])[changes["state"][:-1] == STATES.index("r")].sum() / 1000
        worth[by[number]] += (mbps.sum() - 4.3 * stalled_s - np.abs(np.diff(mbps)).sum()) / len(mbps)
    rate, policy, bola = worth / np.bincount(by)
    assert policy > rate, "it is for that reward"
    assert len({rate, policy, bola}) == 3
    ladders = [set(title.ladder_kbps) for title in world.all_titles]
    assert all(int(row["kbps"]) in ladders[lines.sessions["title"][row["session"]]] for row in video)


def test_what_a_session_adapts_by_is_told_where_devices_adapt_as_real_players_do() -> None:
    devices = [{"kind": "tv", "player": "tv/1", "tb_kbps": 5_800, "abr": {**ALGORITHMS, "rate": 9}}]
    told, _ = flow(Plan(START_MS, sessions=60), choosing(devices=devices))
    assert {row["abr"] for row in told} == {"rate", "headrace", "bola"}
    assert all(len({row["abr"] for row in rows}) == 1 for rows in by_session(told).values())
    assert {row["abr"] for row in flow(Plan(START_MS, sessions=20))[0]} == {None}


def test_algorithms_are_those_of_the_one_definition() -> None:
    """What the simulator asks is what a real player asks, so its choice is the policy's on the same state."""
    asked: list[Situation] = []
    world = choosing(devices=[{"kind": "tv", "player": "tv/1", "tb_kbps": 1_800, "abr": "policy"}])
    stage = _Stage(world, Audience(world, 1, START_MS).sessions(0, np.array([START_MS]), np.random.default_rng(1)), START_MS,
                   np.random.default_rng(1))  # fmt: skip

    def watched(situation: Situation) -> Choice:
        asked.append(situation)
        return Choice(by_policy(situation), 0)

    stage._algorithm = [watched]
    lines = stage.run()
    video = lines.fetches[lines.fetches["kind"] == KINDS.index("v")]
    assert len(asked) == len(video)
    took = (video["done_ms"] - video["asked_ms"]) / 1000
    assert np.allclose(asked[-1].state.delays_s, took[:-1])
    assert np.allclose(asked[-1].state.throughputs_kbps, np.rint(video["size"] * 8 / took / 1000)[:-1])
    for situation, row in zip(asked, video, strict=True):
        assert checked(situation.state) == situation.state
        assert situation.state.bitrates_kbps[-1] <= 1_800
        assert situation.state.bitrates_kbps[installed().choose(situation.state)] == row["kbps"]
        assert situation.state.buffer_s == min(row["buffer_ms"] / 1000, 24.0)


def test_load_follows_the_hour_where_members_live_and_weights_drift() -> None:
    regions = {"near": {"weight": 1, "swing": 0.8, "peak_h": 20}, "far": {"weight": 1, "swing": 0.8, "peak_h": 20, "utc_offset_h": 12}}
    drift = [{"of": "title", "name": "tt-short-05", "start_s": 3600, "over_s": 7200, "factor": 9}]
    world = World.model_validate({**load().model_dump(), "regions": regions, "drift": drift})
    audience, rng = Audience(world, 1, START_MS), np.random.default_rng(1)

    def sessions(hour: int) -> NDArray[Any]:
        return audience.sessions(0, np.full(4_000, START_MS + hour * 3_600_000), rng)

    assert (sessions(20)["region"] == 0).mean() == pytest.approx(1.8 / 2, abs=0.03)
    assert (sessions(8)["region"] == 1).mean() == pytest.approx(1.8 / 2, abs=0.03)
    assert audience.load(START_MS + 20 * 3_600_000) == pytest.approx(1)
    weights = np.array([title.weight for title in world.titles])
    for hour, factor in ((0, 1), (2, 5), (3, 9)):
        share = 2 * factor / (weights.sum() - 2 + 2 * factor)
        assert (sessions(hour)["title"] == 4).mean() == pytest.approx(share, abs=0.03)
    one = World.model_validate({**load().model_dump(), "regions": {"near": regions["near"]}})
    assert Audience(one, 1, START_MS).load(START_MS + 8 * 3_600_000) == pytest.approx(0.2)


def test_a_catalogue_follows_zipf() -> None:
    catalogue = {"titles": 200, "exponent": 0.8, "length_s": [60, 20], "segment_s": [2], "ladders_kbps": [[300, 900], [500]]}
    world = World.model_validate({**load().model_dump(), "titles": [], "catalogue": catalogue})
    titles = world.all_titles
    assert len(titles) == 200
    assert titles[0].weight / titles[9].weight == pytest.approx(10**0.8)
    assert [title.length_s for title in titles[:3]] == [60, 20, 60]
    drawn = Audience(world, 1, START_MS).sessions(0, np.full(20_000, START_MS), np.random.default_rng(1))["title"]
    total = sum(title.weight for title in titles)
    assert (drawn == 0).mean() == pytest.approx(titles[0].weight / total, rel=0.1)
    assert math.isclose(total, 1)


@pytest.mark.parametrize(("key", "expected"), [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536)])
def test_murmur2_is_the_one_of_the_java_client(key: str, expected: int) -> None:
    assert hashed(key.encode()) == expected & 0x7FFFFFFF


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"titles": [{"cid": "t", "length_s": 9, "segment_s": 3, "ladder_kbps": [900, 300]}]}, "must ascend"),
        ({"ocas": ["one"]}, "ocas"),
        ({"shares": {"quits": 2}}, r"shares\.quits"),
        ({"weather": "rain"}, "weather"),
        ({"titles": []}, "there are no titles"),
        ({"regions": {"x": {"swing": 2}}}, r"regions\.x\.swing"),
        ({"faults": [{"kind": "oca", "oca": "x", "start_s": 0, "duration_s": 1}]}, "no oca is called x; there are oca-sim-1"),
        ({"faults": [{"kind": "flood", "start_s": 0, "duration_s": 1}]}, r"faults\.0"),
        ({"drift": [{"of": "isp", "name": 1, "start_s": 0, "factor": 2}]}, "no isp is called 1"),
        ({"ocas": ["a", "b", "a"]}, "oca: a is there twice"),
        ({"devices": [{"kind": "tv", "player": "tv/1", "tb_kbps": 1, "abr": "guess"}]}, r"devices\.0\.abr"),
        ({"devices": [{"kind": "tv", "player": "tv/1", "tb_kbps": 1, "abr": {"policy": 0}}]}, r"devices\.0\.abr"),
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


WORLDS = Path(__file__).parents[2] / "infra" / "bench" / "worlds"
"""Of benchmarks: one of them knows of experiments."""


def experimenting(**changed: Any) -> World:
    return World.model_validate({**load(WORLDS / "power.json").model_dump(), "members": 200, **changed})


@pytest.fixture(scope="module")
def experimented() -> list[Second]:
    plan = Plan(START_MS, sessions=600, duplicates=0.1)
    return list(Schedule(experimenting(), 1, plan, definitions=read_folder(WORLDS / "power")))


def test_a_member_has_a_device_a_network_a_place_and_levels_of_its_own() -> None:
    audience, rng = Audience(experimenting(), 1, START_MS), np.random.default_rng(1)
    days = [audience.sessions(0, np.full(3_000, START_MS + day * 86_400_000), rng) for day in range(2)]
    places = [{int(one["member"]): (one["rig"], one["isp"], one["region"]) for one in day} for day in days]
    both = places[0].keys() & places[1].keys()
    assert len(both) > 150
    assert all(places[0][member] == places[1][member] for member in both)
    means = [
        np.bincount(day["member"], np.log(traits.watch_ms), 200) / np.maximum(1, np.bincount(day["member"], minlength=200))
        for day in days
        if (traits := audience.traits(day, rng)) is not None
    ]
    often = (np.bincount(days[0]["member"], minlength=200) > 5) & (np.bincount(days[1]["member"], minlength=200) > 5)
    assert np.corrcoef(means[0][often], means[1][often])[0, 1] > 0.7  # 0.6² of own against 0.7² / 5 at most of the session


def test_who_presses_play_is_told_of_as_the_gateway_would(experimented: list[Second]) -> None:
    sessions = {keys_of(second.sessions)[at].decode(): row for second in experimented for at, row in enumerate(second.sessions)}
    told = [one for second in experimented for one in second.exposures]
    assert [one.at_ms for one in told] == sorted(one.at_ms for one in told)
    assert all(one.at_ms < second.end_ms for second in experimented for one in second.exposures)
    once = {one.event_id: one for one in told}
    assert len(once) == 600 < len(told) < 720
    table = Table(fold(read_folder(WORLDS / "power")))
    for one in once.values():
        session = sessions[one.event["sid"]]
        assert (one.event["unit"], one.event["unit_name"]) == (session["member_id"].tobytes().decode(), "member_id")
        assert one.event_time == session["pressed_ms"] <= one.at_ms
        assert one.correlation_id == session["correlation_id"].tobytes().decode()
        given = dict.fromkeys(("quick_start.0", "bold_rule.0", "next_episode.0"), "control")
        for flag, decision in table.decide_all(Context({"member_id": one.event["unit"]})).items():
            assert decision.exposure is not None, flag
            given[f"{decision.exposure.experiment}.0"] = decision.exposure.key
        assert one.event["variations"] == given


def test_effects_are_those_of_the_world_and_nothing_else_differs(experimented: list[Second]) -> None:
    effects = Effects()
    for second in experimented:
        if second.effects is not None:
            effects.merge(second.effects.sums)
    found = {(one["experiment"], one["figure"]): one for one in effects.told()}
    assert {one["variation"] for one in found.values()} == {"quick", "bold", "shown"}
    quick = found["quick_start", "startup_ms"]
    assert quick["effect"] / quick["first"] == pytest.approx(-0.1, abs=0.01)
    assert found["next_episode", "startup_ms"]["effect"] == found["bold_rule", "startup_ms"]["effect"] == 0
    for name, figure in (("next_episode", "playing_ms"), ("bold_rule", "rebuffer_ms")):
        assert found[name, figure]["effect"] > 5 * found[name, figure]["standard_error"] > 0


def test_without_effects_experiments_change_nothing() -> None:
    plan, world = Plan(START_MS, sessions=40), experimenting(effects={})
    plain, dealt = (list(Schedule(world, 1, plan, definitions=of)) for of in (None, read_folder(WORLDS / "power")))
    assert not any(second.exposures for second in plain)
    assert sum(len(second.exposures) for second in dealt) == 40
    assert truths_of(plain) == truths_of(dealt)


def test_exposures_are_written_beside_the_reports(tmp_path: Path) -> None:
    (world := tmp_path / "world.json").write_text(experimenting().model_dump_json())
    folder = str(WORLDS / "power")
    main(sessions=30, world=world, to=tmp_path / "log", truth=tmp_path / "truth.jsonl", experiments=folder)
    main(sessions=30, world=world, to=tmp_path / "lines.jsonl", experiments=folder)
    lines = [json.loads(line) for line in (tmp_path / "lines.exposures.jsonl").read_text().splitlines()]
    log = RecordedLog.open(tmp_path / "log")
    decode = Decoder(lambda number: log.schemas[number] or {})
    rows = []
    for partition in range(log.partitions["experiments.exposure"]):
        for row in log.read("experiments.exposure", partition):
            rows.append(decode(row.payload or b""))
            assert rows[-1]["marker"] or hashed(row.key or b"") % 4 == partition
    sids = sorted(line["sid"] for line in lines if not line.get("marker"))
    assert sids == sorted(row["sid"] for row in rows if not row["marker"])
    assert len(set(sids)) == 30
    assert json.loads((tmp_path / "truth.effects.json").read_text())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"effects": {"quick_start": {"quick": {"speed": 2}}}}, r"effects\.quick_start\.quick"),
        ({"own": None}, "members have no `own` time"),
        ({"own": {"watching": 9}}, r"own\.watching"),
    ],
)
def test_effects_that_are_none_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    (file := tmp_path / "world.json").write_text(json.dumps({**experimenting().model_dump(), **change}))
    with pytest.raises(BadWorld, match=words):
        load(file)


@pytest.mark.parametrize(
    ("effects", "words"),
    [({"slow": {}}, "no experiment is called slow; there are bold_rule"), ({"bold_rule": {"x": {}}}, "no variation is called x")],
)
def test_effects_of_what_is_not_defined_are_refused(tmp_path: Path, effects: dict[str, Any], words: str) -> None:
    (world := tmp_path / "world.json").write_text(experimenting(effects=effects).model_dump_json())
    with pytest.raises(SystemExit, match=words):
        main(sessions=1, world=world, to=tmp_path / "log", experiments=str(WORLDS / "power"))
    with pytest.raises(SystemExit, match="name a folder that defines them"):
        main(sessions=1, world=world, to=tmp_path / "log")
