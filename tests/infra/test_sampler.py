"""The sampler: each figure once, a part that is silent keeps nobody else silent, and on a running stack every figure arrives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from edge.skew import Served, Verdict
from infra.base import warehouse
from infra.base.clock import Clock, FakeClock
from infra.base.settings import Settings
from infra.stack.health import Unreachable
from infra.stack.sampler import AUDIT_EVERY_S, Audits, Checkpoints, Counters, Sample, Sampler, Skew
from schemas.catalogue import catalogue
from sinks.audit import TopicAudit
from streams.cluster import Checkpoint, Running
from tests.kit import eventually


def table(rows: int, blocks: int = 1, uncertain: int = 0) -> dict[str, Any]:
    return {"topic": "playback.report", "rows": rows, "blocks": blocks, "uncertain": uncertain, "recoveries": 0}


def test_counters_become_what_came_since_the_last_look() -> None:
    counters = Counters()

    def told(now: dict[str, Any]) -> list[tuple[str, int]]:
        return [(sample.metric, sample.measured) for sample in counters.samples([now])]

    assert told(table(100, 2)) == []
    assert told(table(100, 2)) == []
    assert told(table(160, 3)) == [("blocks", 1), ("rows", 60)]
    assert told(table(10, 1, 1)) == [("blocks", 1), ("rows", 10), ("uncertain", 1)], "the loader has been started anew"


@dataclass
class Flink:
    """A cluster with one job."""

    ended: list[Checkpoint] = field(default_factory=list)

    def alive(self) -> dict[str, Running]:
        return {"qoe_sessions": Running("abc", "qoe_sessions", "RUNNING", 0)}

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        assert job_id == "abc"
        return self.ended


def test_each_checkpoint_is_told_once_with_a_name_of_its_own() -> None:
    flink = Flink([Checkpoint(1, True, 900, 10, 1)])
    checkpoints = Checkpoints(flink, since_ms=1_000)  # type: ignore[arg-type]
    assert list(checkpoints.samples()) == [], "it ended before anybody looked"
    flink.ended += [Checkpoint(2, True, 1_500, 40, 7_000), Checkpoint(3, False, 2_500, 900, 0)]
    assert list(checkpoints.samples()) == [
        Sample("qoe_sessions", "checkpoint_ms", 40, at_ms=1_500, event_id="abc:2:checkpoint_ms"),
        Sample("qoe_sessions", "checkpoint_bytes", 7_000, at_ms=1_500, event_id="abc:2:checkpoint_bytes"),
        Sample("qoe_sessions", "checkpoint_failed_ms", 900, at_ms=2_500, event_id="abc:3:checkpoint_failed_ms"),
    ]
    assert list(checkpoints.samples()) == []


def test_audits_follow_each_other_with_a_rest() -> None:
    clock, ran = FakeClock(), []

    def run(clock: Clock) -> list[TopicAudit]:
        ran.append(clock.now_ms())
        clock.sleep(3600)  # a long wait for what was acknowledged to be stored is no work, and asks for no rest
        return [TopicAudit("playback.report", acknowledged=9, stored=8, lost=1), TopicAudit("playback.silent")]

    audits = Audits(clock, run)
    found = eventually(lambda: list(audits.samples()))
    assert [(s.about, s.metric, s.measured) for s in found] == [
        ("playback.report", "acknowledged", 9), ("playback.report", "stored", 8), ("playback.report", "lost", 1),
        ("playback.report", "duplicated", 0),
    ]  # fmt: skip
    assert list(audits.samples()) == []
    assert len(ran) == 1
    clock.advance(AUDIT_EVERY_S)
    assert eventually(lambda: list(audits.samples()))
    assert len(ran) == 2


@dataclass
class Sent:
    """An emitter that keeps what it is given."""

    events: list[tuple[str, int]] = field(default_factory=list)

    def send(self, topic: str, record: dict[str, Any], *, event_time_ms: int, event_id: str | None) -> None:
        assert record.keys() <= {item["name"] for item in catalogue().topic(topic).event.fields}
        self.events.append((record["metric"], event_time_ms))


def test_a_part_that_is_silent_keeps_nobody_else_silent() -> None:
    def silent() -> Iterator[Sample]:
        raise Unreachable("Kafka does not answer")

    sent = Sent()
    parts = {
        "kafka": silent,
        "loader": lambda: [Sample("loader", "rows", 1, "t")],
        "flink": lambda: [Sample("j", "checkpoint_ms", 1, at_ms=5)],
    }
    Sampler(sent, parts).round(77)  # type: ignore[arg-type]
    assert sent.events == [("rows", 77), ("checkpoint_ms", 5)]


@pytest.mark.stack
def test_every_part_of_a_running_stack_is_heard(stack: Settings) -> None:
    query = "SELECT groupUniqArray(metric), uniqExact(event_id) = count() FROM observability_sample WHERE NOT marker"
    wanted = {"lag", "checkpoint_ms", "checkpoint_bytes", "blocks", "rows", "acknowledged", "stored", "lost", "duplicated"}

    def heard() -> bool:
        metrics, once = warehouse.reader().query(query).result_rows[0]
        assert once
        return wanted <= set(metrics)

    eventually(heard, within=90)


def test_what_was_compared_is_told_once_and_what_differs_by_itself() -> None:
    served = Served("title", "t-1", "beef", 5_000, 4_000, 3, {"a": "1", "b": "2"})
    verdicts = [Verdict(served, agree=1, differ=(("b", "2", "3"),), arrived=4), Verdict(served, undecided=2)]
    told: list[tuple[dict[str, Any], int]] = []
    clock = FakeClock(0)
    watched = Skew(clock, lambda _: verdicts, lambda record, at_ms: told.append((record, at_ms)))
    samples: list[Sample] = []
    eventually(lambda: samples.extend(watched.samples()) or samples)
    assert samples == [Sample("features", name, n, "title") for name, n in (("compared", 2), ("skewed", 1), ("undecided", 2))]
    assert told == [
        ({"value": "b", "group": "title", "entity": "t-1", "served": "2", "recomputed": "3", "taken": 3, "arrived": 4}, 5_000),
    ]  # fmt: skip
    assert list(watched.samples()) == [], "not before it is due again"
