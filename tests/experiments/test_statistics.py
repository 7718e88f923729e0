"""The operator against the plain function, without Flink: the same sums whatever comes late, twice, out of order or corrected."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from random import Random

import pytest

from streams.experiments import batch
from streams.experiments.batch import Cell
from tests import jvm
from tests.experiments import worlds
from tests.experiments.worlds import METRICS, MOST_A_DAY, Event

CASES = 400
Sums = dict[Cell, dict[str, int]]


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs Replay.java."""
    return jvm.command(tmp_path_factory.mktemp("replay"), "experiments", "Replay")


def told(random: Random, exposures: Iterable[Event], measurements: Iterable[Event]) -> Iterator[str]:
    """The lines of a case; of each topic in its order. Now and then an older version was the one that kept everything so far."""
    yield f"C\t{batch.argument(METRICS, MOST_A_DAY)}"
    waiting = [[exposed(one) for one in exposures], [measured(one) for one in measurements]]
    while some := [lines for lines in waiting if lines]:
        yield random.choice(some).pop(0)
        if random.random() < 0.2:
            yield "F"
        if random.random() < 0.02:
            yield "O"
    yield "F"


def exposed(one: Event) -> str:
    segment = ";".join(f"{name}={value}" for name, value in sorted(one["segments"].items()))
    return "\t".join(["E", one["unit"], str(one["event_time"]), one["event_id"], segment, pairs(one["variations"])])


def measured(one: Event) -> str:
    identity = [one["source"], one["measurement_id"], str(one["version"])]
    return "\t".join(["M", one["unit"], str(one["event_time"]), *identity, pairs(one["measured"])])


def pairs(of: dict[str, object]) -> str:
    return ";".join(f"{name}={value}" for name, value in of.items())


def row(line: str) -> Event:
    """As of experiments.statistic."""
    _, experiment, variation, segment, day, metric, value_bucket, *sums = line.split("\t")
    name, _, phase = experiment.rpartition(".")
    segments = dict(pair.split("=") for pair in segment.split(";") if pair)
    where = {"experiment": name, "phase": int(phase), "variation": variation, "segment": segments, "day": int(day), "metric": metric}
    return where | {"value_bucket": int(value_bucket)} | dict(zip(batch.SUMS, map(int, sums), strict=True))


def run(command: list[str], lines: list[str]) -> list[Sums]:
    """What each case comes to."""
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cases: list[list[Event]] = []
    for line in done.stdout.splitlines():
        if line == "C":
            cases.append([])
        else:
            cases[-1].append(row(line))
    return [batch.added_up(rows) for rows in cases]


def test_the_stream_comes_to_what_the_batch_comes_to(replay: list[str]) -> None:
    cases = []
    lines: list[str] = []
    for seed in range(CASES):
        random = Random(seed)
        exposures, measurements = worlds.world(random, days=2.5 if seed % 2 else 50)
        cases.append((exposures, measurements))
        lines += told(random, exposures, measurements)
    found = run(replay, lines)
    assert len(found) == CASES
    left_out = {"sum_x": 0, "sum_y": 0}
    for seed, ((exposures, measurements), streamed) in enumerate(zip(cases, found, strict=True)):
        expected = batch.statistics(exposures, measurements, METRICS, MOST_A_DAY)
        assert streamed == expected, f"seed {seed}"
        for name in left_out:
            left_out[name] += sum(sums.get(name, 0) for cell, sums in expected.items() if not cell.metric)
    assert min(left_out.values()) > 10, f"nobody was left out: {left_out}"
