"""Fault plans and poison follow from their seed; the recomputation says what differs; the injector touches what it is told to."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import Future
from itertools import islice, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from infra.chaos import loaders
from infra.chaos.doomed import POINTS, Doomed, Point
from infra.chaos.inject import Injector, Processes, freeze
from infra.chaos.plan import CALM_AT_START_S, Fault, Kind, Menu, plan
from infra.chaos.poison import poisons
from infra.chaos.recompute import difference
from schemas.catalogue import catalogue
from schemas.codec import BadFraming, BadPayload, Decoder, Encoder
from schemas.envelope import Stamp, marker
from sinks.loader.lane import Answer, Effect, Insert, Limits, Protocol, Refusal, Screen, Stored
from sinks.loader.ranges import Committed
from sinks.loader.recovery import Found
from tests.kit import eventually

MENU = (
    Menu("broker", Kind.KILL),
    Menu("broker", Kind.FREEZE, (2, 9)),
    Menu("loader", Kind.KILL),
    Menu("registry", Kind.OUTAGE, (5, 20)),
    Menu("jobs", Kind.UPGRADE, once=True),
)


def test_a_plan_follows_from_its_seed() -> None:
    assert plan(7, 600, MENU, (3, 10)) == plan(7, 600, MENU, (3, 10))
    assert plan(7, 600, MENU, (3, 10)) != plan(8, 600, MENU, (3, 10))


@pytest.mark.parametrize("seed", range(20))
def test_every_fault_comes_in_its_time_and_none_overlaps_on_its_target(seed: int) -> None:
    faults = plan(seed, 600, MENU, (3, 10))
    assert [f for f in faults if f.kind is Kind.UPGRADE] == [Fault(300.0, Kind.UPGRADE, "jobs", 0.0)]
    assert {(f.target, f.kind) for f in faults} == {(m.target, m.kind) for m in MENU}
    assert all(f.at_s >= CALM_AT_START_S and f.over_s <= 600 for f in faults)
    for target in {m.target for m in MENU}:
        on_it = [f for f in faults if f.target == target]
        assert all(before.over_s < after.at_s for before, after in pairwise(on_it))


def test_a_short_run_may_leave_no_room_for_faults() -> None:
    assert plan(1, 5, MENU[:4], (3, 10)) == []


def test_no_poison_can_be_decoded() -> None:
    event = catalogue().topic("delivery.access").event
    encode, stamp = Encoder(event, 7), Stamp("a", 1)

    def good() -> bytes:
        return encode(stamp("delivery.access", marker(event), 1_700_000_000_000))

    def schema_of(schema_id: int) -> dict[str, Any]:
        if schema_id == 7:
            return event.schema
        raise LookupError(schema_id)

    decode = Decoder(schema_of)
    decode(good())
    seen = set()
    for poison in islice(poisons(3, good, foreign_id=8), 900):
        seen.add(poison.name)
        with pytest.raises((BadFraming, BadPayload, LookupError)):
            decode(poison.payload)
    assert len(seen) == 9
    assert [p.name for p in islice(poisons(3, good, 8), 50)] == [p.name for p in islice(poisons(3, good, 8), 50)]


def test_differences_are_said_in_words() -> None:
    assert difference({"reports": 3, "startup_ms": None}, {"reports": 3, "startup_ms": None, "sid": "a"}) == ""
    assert difference({"reports": 3}, {"reports": 2}) == "reports is 2, recomputed 3"
    assert difference({"reports": 3}, None) == "expected a row, found none"
    assert difference(None, {"reports": 3}) == "expected no row, found one"


class NoSupervisor(Processes):
    """Stands in for a stack with one service."""

    def __init__(self, pid: int) -> None:
        self.acted: list[tuple[str, str]] = []
        self._pid = pid

    def pid(self, name: str) -> int | None:
        return self._pid if name == "service" else None

    def running(self, name: str, within_s: float = 0.1) -> int:
        return super().running(name, within_s)

    def act(self, name: str, action: str) -> None:
        self.acted.append((name, action))


@pytest.fixture
def sleeper() -> Any:
    """A process group of its own."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def state(pid: int) -> str:
    """The kernel's letter for a process: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_frozen_process_stands_still_and_goes_on(sleeper: subprocess.Popen[bytes]) -> None:
    thread = threading.Thread(target=freeze, args=(sleeper.pid, 0.5))
    thread.start()
    eventually(lambda: state(sleeper.pid) == "T")
    thread.join()
    eventually(lambda: state(sleeper.pid) != "T")


def test_the_injector_does_what_the_plan_says_and_reports_what_it_could_not(sleeper: subprocess.Popen[bytes]) -> None:
    processes, own = NoSupervisor(sleeper.pid), []
    injector = Injector(processes, {("producer", Kind.KILL): own.append})
    faults = [
        Fault(0.0, Kind.KILL, "service"),
        Fault(0.0, Kind.OUTAGE, "service", 0.01),
        Fault(0.01, Kind.KILL, "producer"),
        Fault(0.01, Kind.FREEZE, "nobody", 1.0),
        Fault(0.02, Kind.UPGRADE, "service"),
        Fault(3600.0, Kind.KILL, "never"),
    ]
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    injector.run(faults, stop)
    injector.join()
    assert sorted(processes.acted) == [("service", "kill"), ("service", "start"), ("service", "stop")]
    assert own == [faults[2]]
    assert {fault for fault, _ in injector.failed} == {faults[3], faults[4]}
    assert {fault.target for fault in injector.done} == {"service", "producer"}


def steps(protocol: Protocol) -> list[Effect]:
    """What a lane asks for while its second block holds a message that nobody can read."""
    lane = protocol.run(Committed(0, None))
    answers: dict[type, Any] = {Stored: Found([]), Screen: {4: Refusal("decode", "cut off")}}
    blocks = iter([[0, 1, 2], [3, 4, 5], [6]])
    effects, result = [], None
    for _ in range(18):
        effect = lane.send(result)
        effects.append(effect)
        match effect:
            case Insert(offsets, _):
                result = Refusal("decode", "cut off") if 4 in offsets else Answer.STORED
                answers[Stored] = Found([3, 5]) if offsets == [3, 5] else answers[Stored]
            case _ if type(effect).__name__ == "Fetch":
                result = next(blocks)
            case _:
                result = answers.get(type(effect))
    lane.close()
    return effects


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_a_doomed_lane_takes_the_same_steps_and_ends_at_each_of_them(point: Point) -> None:
    ended = threading.Event()
    limits = Limits(1.0, 1_000)
    usual = steps(Protocol("t", 0, limits))
    assert {type(effect).__name__ for effect in usual} >= {point.step}
    assert steps(Doomed("t", 0, limits, point=point, end=ended.set)) == usual
    assert ended.wait(5)


def test_a_broker_that_never_answers_has_given_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's answer is then a timeout without words, which must not end the wait for the zombie's turn."""
    answer: Future[Any] = Future()
    monkeypatch.setattr(answer, "result", lambda within_s: Future.result(answer, 0.01))
    admin = SimpleNamespace(describe_consumer_groups=lambda names, request_timeout: {names[0]: answer})
    monkeypatch.setattr(loaders.kafka, "admin", lambda: admin)
    assert not loaders._given_away("member")


@pytest.mark.stack
@pytest.mark.usefixtures("stack")
def test_a_group_that_is_stable_has_given_away_what_was_a_strangers() -> None:
    """Asked of a real broker: a client that was let go of before the answer never got one."""
    eventually(lambda: loaders._given_away("somebody who is no member"))


def test_a_fault_that_fails_without_words_says_what_kind_of_failure_it_was() -> None:
    fault = Fault(0.0, Kind.KILL, "producer")

    def fails(_: Fault) -> None:
        raise TimeoutError

    injector = Injector(cast(Processes, None), {("producer", Kind.KILL): fails})
    injector.run([fault], threading.Event())
    injector.join()
    assert injector.failed == [(fault, "TimeoutError")]
