"""Is every value exactly what its definition says, at every edge, after a replay at two speeds, and after a kill of any process?

For each window a member and 10,000 events of his, many at the edges of hops, some late by up to two windows, some from a clock that is
ahead. All aggregations are asked at 10,000 times, anywhere and at the edges where something comes or leaves, and compared with sums over
all events that had arrived by then (infra/bench/feature_worlds.py).

`engine`: values of the engine in Python. `fast`, `paced`: the same log through Kafka and the job, as fast as it goes and over a minute, and
the online table of what the job tells, asked at times from the log's end on until all has left its window. `killed`: once more, while the
TaskManager, the JobManager and the broker are killed in turn. A difference is a value that is not equal, to the last bit; `rows` are rows
of the job that are not the engine's, byte for byte.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np

from infra.base import kafka
from infra.base.registry import RegistryClient
from infra.base.settings import environment, settings
from infra.bench import feature_worlds
from infra.bench.feature_cost import job
from infra.bench.feature_worlds import LENGTHS_MS, TOPIC, Log
from infra.bench.harness import OUT, Figure, Options, ground, namespace, say
from infra.chaos.waiting import until
from infra.stack import jvm
from infra.stack.local import LocalStack
from producers.emit import Backpressure
from schemas.catalogue import catalogue
from schemas.codec import Encoder
from schemas.publish import publish, subject_of
from schemas.recommendations.definition import Feature
from streams import deploy
from streams.cluster import Cluster
from streams.environment import Job
from streams.folded import followed
from streams.recommendations.engine import Engine
from streams.recommendations.online import Online
from streams.recommendations.plan import Plan, plan
from streams.recommendations.tiles import Found, Packed, evaluate

FIGURES = {f"{what}_differences": Figure("values", 0, 0, higher=False) for what in ("engine", "fast", "paced", "killed")} | {
    "rows": Figure("rows", 0, 0, higher=False),
    "values_compared": Figure("values"),
}
MANY = 10_000
PACED_S = 60.0
KILLED = ("taskmanager", "jobmanager", "kafka")
WITHIN_S = 240.0

Told = list[tuple[dict[str, Any], int]]


class World:
    """A member's events for each window, features of all aggregations over it, and what is asked."""

    def __init__(self, seed: int, many: int) -> None:
        self.of: dict[str, list[Feature]] = {}
        self.told: dict[str, Told] = {}
        for n, window in enumerate(LENGTHS_MS):
            self.of[window] = [one.model_copy(update={"name": f"{one.name}_of"}) for one in feature_worlds.every(window)]
            events = feature_worlds.events(seed + n, many, window)
            self.told[window] = [({**one, "member_id": window, "event_id": f"{window}-{one['event_id']}"}, at) for one, at in events]
        self.plan: Plan = plan([one.model_copy(update={"name": f"{one.name}_{window}"}) for window, of in self.of.items() for one in of])
        self.log = sorted((one for of in self.told.values() for one in of), key=lambda one: one[1])

    def differences(self, window: str, times: list[int], rows: list[Packed]) -> int:
        """Values at `times`, each of the row beside it, that are not what all events that had arrived come to."""
        plain = feature_worlds.log(self.told[window])
        values = [value for value in self.plan.of("member") if value.feature.windows == [window]]
        found = evaluate(self.plan.layouts["member"], values, rows, np.array(times))
        return sum(_unequal(value.feature, window, plain, times, found[value.name]) for value in values)


def _unequal(feature: Feature, window: str, plain: Log, times: list[int], found: Found) -> int:
    told = found.of.tolist()
    expected = (feature_worlds.value(feature, window, plain, at) for at in times)
    return sum(1 for got, wanted in zip(told, expected, strict=True) if (None if got != got else got) != wanted)


def run(options: Options) -> list[dict[str, float]]:
    """One mapping per run; what is random comes from the seed."""
    runs = []
    with namespace("bench"), ground("kafka,registry,flink,topics", OUT / "feature_exact") as stack, environment(jvm.client_environment()):
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # PyFlink sets the root logger to INFO
        for number in range(options.runs):
            runs.append(_once(World(100 * (options.seed + number), options.events or MANY), options.events or MANY, number, stack))
            say(f"run {number + 1}: " + ", ".join(f"{name} {value:,.0f}" for name, value in runs[-1].items()))
    return runs


def _once(world: World, queries: int, number: int, stack: LocalStack) -> dict[str, float]:
    differences = 0
    for window, told in world.told.items():
        times = feature_worlds.queries(number, queries, window, told)
        differences += world.differences(window, times, list(_known(world.plan, told, times)))
    figures = {"engine_differences": float(differences), "values_compared": 4.0 * queries * len(world.plan.values), "rows": 0.0}
    say(f"the engine: {differences} values differ")
    of, each_s = job("features", [value.feature for value in world.plan.values.values()]), PACED_S / len(world.log)
    ways: dict[str, tuple[float, Callable[[int], None]]] = {
        "fast": (0.0, lambda sent: None),
        "paced": (each_s, lambda sent: None),
        "killed": (each_s, lambda sent: _kill(stack, of, sent * (len(KILLED) + 1) / len(world.log))),
    }
    for name, (pause_s, at) in ways.items():
        with namespace(f"bench{name}{number}"):
            rows = _through_the_job(of, world, pause_s, at)
        engine = Engine(world.plan)
        for event, arrived_ms in world.log:
            engine.take(TOPIC, event, arrived_ms)
        figures["rows"] += sum(rows[window] != engine.packed("member", window) for window in world.told)
        wrong = 0
        for window, told in world.told.items():
            dice, end = Random(number), max(arrived for _, arrived in told) + 1
            times = [end + dice.randrange(2 * LENGTHS_MS[window]) for _ in range(queries)]
            wrong += world.differences(window, times, [rows[window]] * queries)
        figures[f"{name}_differences"] = float(wrong)
        say(f"{name}: {wrong} values differ")
    return figures


def _known(made: Plan, told: Told, times: list[int]) -> Iterator[Packed]:
    """The member's row as it was known at each time, in order."""
    engine, n = Engine(made), 0
    row, member = engine.packed("member", ""), str(told[0][0]["member_id"])
    for at in times:
        if n < len(told) and told[n][1] < at:
            while n < len(told) and told[n][1] < at:
                engine.take(TOPIC, *told[n])
                n += 1
            row = engine.packed("member", member)
        yield row


def _kill(stack: LocalStack, of: Job, part: float) -> None:
    """At a quarter, half and three quarters of the log; returns when all is up again, and the job goes on."""
    if not part.is_integer() or not 0 < part <= len(KILLED):
        return
    name = KILLED[int(part) - 1]
    say(f"killing {name}")
    before = _service(stack, name)["restarts"]
    stack.act(name, "kill")
    until(lambda: (now := _service(stack, name))["restarts"] > before and now["state"] == "ready", WITHIN_S, lambda: f"{name} is not back")
    if name == "jobmanager":  # it remembers no job
        until(lambda: Cluster().jobs() is not None, WITHIN_S, lambda: "the cluster does not answer")
        deploy.run(of)


def _service(stack: LocalStack, name: str) -> dict[str, Any]:
    return next(service for service in stack.status()["services"] if service["name"] == name)


def _through_the_job(of: Job, world: World, pause_s: float, at: Callable[[int], None]) -> dict[str, tuple[bytes, bytes]]:
    """The rows of the online table when it has heard of all; of a job that is stopped again."""
    publish(topic for topic in catalogue().topics.values() if topic.name.startswith("recommendations."))
    deploy.run(of)
    online = Online(world.plan)
    with followed([online], RegistryClient().schema):
        _send(world.log, pause_s, at)
        members = list(world.told)
        # An event in several selections counts once, so that a row has taken as many as the member has events.
        until(
            lambda: all(online.table.head("member", one)[1] == len(world.told[one]) for one in members),
            WITHIN_S,
            lambda: f"rows have taken {[online.table.head('member', one)[1] for one in members]}",
        )
        rows = {one: online.table.packed("member", one) for one in members}
    deploy.stop([of])
    return rows


def _send(log: Told, pause_s: float, at: Callable[[int], None]) -> None:
    """Events at a pace of their own; `at` is told how many have been sent before each."""
    declared = catalogue().topic(TOPIC)
    encode = Encoder(declared.event, RegistryClient().lookup(subject_of(declared), declared.event.schema))
    producer, envelope, due = kafka.producer(), {"producer_id": "bench", "epoch": 0, "seq": 0}, time.monotonic()
    for sent, (event, arrived_ms) in enumerate(log):
        at(sent)
        due += pause_s
        time.sleep(max(0.0, due - time.monotonic()))
        producer.produce(settings().topic(TOPIC), encode({**envelope, **event}), key=event["member_id"], timestamp=arrived_ms)
        producer.poll(0)
    if producer.flush(WITHIN_S):
        raise Backpressure("the broker has not taken all events")
