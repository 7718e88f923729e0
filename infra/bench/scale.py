"""What do a hundred times as many experiments cost?

The deployed job `statistics_by_unit` over the same members and measurements, each member in as many experiments, once out of few and once
out of many: events/s of measurements, by Flink's metrics as in `jobs`, and rows that came out per thousand of them. `--sessions` is the
number of members, `--events` that of measurements, `--world` a file of the rest; the target is for the world as it is.

With each checkpoint come as many rows as sums have changed: of many experiments 240,000 a day and a subtask. A trial with so few
measurements that they do not change most sums several times between checkpoints measures the writing of rows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from infra.base import kafka
from infra.base.registry import RegistryClient
from infra.base.settings import environment, settings
from infra.bench.harness import OUT, Figure, Options, ends, ground, namespace, say
from infra.bench.jobs import rate
from infra.stack import jvm
from schemas.catalogue import catalogue
from schemas.codec import Encoder
from schemas.publish import publish, subject_of
from streams.environment import Job, jobs
from streams.experiments.batch import DAY_MS, Counted, argument

FIGURES = {
    "many_of_few": Figure("share", 0.60, 0.40),
    "few_per_s": Figure("events/s"),
    "many_per_s": Figure("events/s"),
    "few_rows_per_1000": Figure("rows"),
    "many_rows_per_1000": Figure("rows"),
}
WORLD = Path(__file__).parent / "worlds" / "scale.json"
START_MS = 20_700 * DAY_MS
JOB = "statistics_by_unit"
EXPOSURES, MEASUREMENTS, STATISTICS = "experiments.exposure", "experiments.measurement", "experiments.statistic"
KINDS = ("sum", "count", "mean", "proportion", "ratio")
SEGMENTS = ("tv", "phone", "web")
FEW = 20
LESS_OFTEN = ("'10 s'", "'60 s'")
"""Checkpoints, as a service with so many experiments sets them: each writes every sum that has changed."""

Event = dict[str, Any]


@dataclass(frozen=True)
class World:
    """How much of everything. `of_a_member`: experiments that each is in; the first `without_effect` are A/A, the others add `lift`."""

    members: int
    measurements: int
    experiments: int
    of_a_member: int
    without_effect: int
    lift: float
    metrics: int
    days: int

    @classmethod
    def read(cls, options: Options) -> World:
        """The world of a file, with what was asked for otherwise."""
        world = cls(**json.loads((options.world or WORLD).read_text(encoding="utf-8")))
        return replace(world, members=options.sessions or world.members, measurements=options.events or world.measurements)

    @property
    def counted(self) -> list[Counted]:
        """Its metrics, of all kinds in turn."""
        span = self.days * DAY_MS
        return [Counted(f"metric_{n}", KINDS[n % len(KINDS)], span, span) for n in range(self.metrics)]  # type: ignore[arg-type]


def exposures(world: World, seed: int) -> Iterator[Event]:
    """One a member, on the first day, to all its experiments."""
    for member in range(world.members):
        yield _event(member, "e", START_MS + member % DAY_MS) | {
            "variations": {f"experiment_{one}.1": ("control", "treatment")[arm] for one, arm in _met(world, seed, member)},
            "segments": {"device_type": SEGMENTS[member % len(SEGMENTS)]},
        }


def _met(world: World, seed: int, member: int) -> list[tuple[int, int]]:
    """(experiment, 0 or 1) of a member."""
    chance = np.random.default_rng((seed, member))
    chosen = chance.choice(world.experiments, min(world.of_a_member, world.experiments), replace=False)
    return list(zip(chosen.tolist(), chance.integers(0, 2, len(chosen)).tolist(), strict=True))


def measurements(world: World, seed: int) -> Iterator[Event]:
    """In rounds over all members from the second day on; values are about a level of the member, higher by its experiments' effects."""
    chance = np.random.default_rng((seed, world.members))
    treated = [sum(arm for one, arm in _met(world, seed, member) if one >= world.without_effect) for member in range(world.members)]
    levels = chance.lognormal(6, 1, world.members) * (1 + world.lift) ** np.array(treated)
    rounds = -(-world.measurements // world.members)
    names = [name for metric in world.counted for name in (metric.key, *([f"{metric.key}/below"] if metric.aggregation == "ratio" else []))]
    for number in range(rounds):
        at_ms = START_MS + DAY_MS + (world.days - 1) * DAY_MS * number // rounds
        for member in range(min(world.members, world.measurements - number * world.members)):
            values = (levels[member] * chance.lognormal(0, 0.5, len(names))).astype(np.int64)
            yield _event(member, f"m{number}", at_ms + member * 60_000 // world.members) | {
                "source": "playback.qoe_session", "measurement_id": f"{member}-{number}", "version": 1,
                "measured": dict(zip(names, values.tolist(), strict=True)),
            }  # fmt: skip


def _event(member: int, name: str, at_ms: int) -> Event:
    envelope = {"event_id": f"{member}-{name}", "event_time": at_ms, "producer_id": "scale", "epoch": 0, "seq": 0}
    return envelope | {"unit": f"member-{member}", "unit_name": "member_id"}


def put(topic: str, events: Iterator[Event]) -> int:
    """Write events; returns how many. Blocks until they are stored."""
    declared = catalogue().topic(topic)
    encode = Encoder(declared.event, RegistryClient().lookup(subject_of(declared), declared.event.schema))
    producer = kafka.producer()
    count = 0
    while batch := list(islice(events, 20_000)):
        for event in batch:
            producer.produce(settings().topic(topic), encode(event), key=event["unit"].encode(), timestamp=event["event_time"])
        if left := producer.flush(60):
            raise AssertionError(f"{left} events of {topic} were not stored")
        count += len(batch)
    return count


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures per run."""
    world = World.read(options)
    text = jobs()[JOB].text.replace("${streams.experiments.counted.ARGUMENT}", argument(world.counted)).replace(*LESS_OFTEN)
    runs = []
    with ground("kafka,registry,flink,topics", OUT / "scale"), environment(jvm.client_environment()):
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # PyFlink sets the root logger to INFO
        for number in range(-1, options.runs):
            few = _figures("few", number, replace(world, experiments=FEW), text, options.seed)
            many = _figures("many", number, world, text, options.seed)
            figures = few | many | {"many_of_few": many["many_per_s"] / few["few_per_s"]}
            name = "to warm up" if number < 0 else f"run {number + 1}"
            say(f"{name}: {', '.join(f'{figure} {value:,.4g}' for figure, value in figures.items())}")
            runs.append(figures)
    return runs[1:]


def _figures(name: str, number: int, world: World, text: str, seed: int) -> dict[str, float]:
    with namespace(f"{name}{number + 1}"):
        publish(catalogue().topics.values())
        put(EXPOSURES, exposures(world, seed))
        measured = put(MEASUREMENTS, measurements(world, seed))
        per_s = rate(Job(JOB, text, "infra/bench/scale.py"), {}, measured, of=MEASUREMENTS)
        return {f"{name}_per_s": per_s, f"{name}_rows_per_1000": 1000 * ends([STATISTICS])[STATISTICS] / measured}
