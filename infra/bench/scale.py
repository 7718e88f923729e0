"""What do a hundred times as many experiments cost, and what do they read out as?

The deployed job `statistics_by_unit` over the same members and measurements, each member in as many experiments, once out of few and once
out of many: events/s of measurements, by Flink's metrics as in `jobs`, and rows that came out per thousand of them. First over a tenth of
it out of 20, 200 and 2,000, to warm up and to show how the cost grows. The log is of `infra.bench.scale_log`.

What many came to goes through the loader into the warehouse, and is read out as the board and the commands do: all experiments once, and
single ones, definitions included. Of those without an effect: how many tests find one nevertheless. The peer makes the sums of one
experiment by the usual join of raw exposures and measurements, with the loader's rights, thus on all cores and with no limit but memory.

One run, whatever `--runs` says. `--sessions` is the number of members, `--events` that of measurements, `--world` a file of the rest; the
targets are for the world as it is. Figures are also written as they come, to build/bench/scale-so-far.json.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from clickhouse_connect.driver.client import Client
from confluent_kafka import TopicPartition

from edge import read_outs, recompute
from infra.base import kafka, warehouse
from infra.base.ports import LOOPBACK, free_port
from infra.base.settings import environment, settings
from infra.bench.harness import OUT, Figure, Options, ends, ground, namespace, say
from infra.bench.jobs import rate
from infra.bench.scale_log import CHANGES, EXPOSURES, MEASUREMENTS, World, encoder, exposures, measurements, put, put_each
from infra.stack import jvm
from infra.stack.beside import MARKERS, STILL_S
from infra.stack.health import Unreachable, lags
from infra.stack.local import LocalStack
from schemas.catalogue import catalogue
from schemas.publish import publish
from streams.environment import Job, jobs
from streams.experiments.batch import argument
from streams.experiments.read_outs import WHOLE, Report, Totals, Verdict

FIGURES = {
    "many_of_few": Figure("share", 0.60, 0.40),
    "few_per_s": Figure("events/s"),
    "many_per_s": Figure("events/s"),
    "few_rows_per_1000": Figure("rows"),
    "many_rows_per_1000": Figure("rows"),
    "tenth_20_per_s": Figure("events/s"),
    "tenth_200_per_s": Figure("events/s"),
    "tenth_2000_per_s": Figure("events/s"),
    "tenth_20_rows_per_1000": Figure("rows"),
    "tenth_200_rows_per_1000": Figure("rows"),
    "tenth_2000_rows_per_1000": Figure("rows"),
    "all_read_out_s": Figure("s", 60, 180, higher=False),
    "one_read_out_p50_ms": Figure("ms"),
    "one_read_out_p99_ms": Figure("ms", 300, 1_000, higher=False),
    "definitions_ms": Figure("ms"),
    "kb_per_experiment_day": Figure("kB"),
    "always_false": Figure("share", 0.05, 0.05, higher=False),
    "fixed_false": Figure("share"),
    "adjusted_false": Figure("of experiments"),
    "decided_false": Figure("of experiments"),
    "refused": Figure("share"),
    "peer_ms": Figure("ms"),
    "x_peer": Figure("×", 50, 10),
    "peer_memory_mb": Figure("MB"),
    "one_read_out_memory_mb": Figure("MB"),
    "cells_that_differ": Figure("cells", 0, 0, higher=False),
}
WORLD = Path(__file__).parent / "worlds" / "scale.json"
JOB, STATISTICS = "statistics_by_unit", "experiments.statistic"
FEW = 20
GROWTH = (20, 200, 2_000)
LESS_OFTEN = ("'10 s'", "'60 s'; SET 'execution.checkpointing.timeout' = '10 min'")
"""Checkpoints, as a service with so many experiments sets them: each writes every sum that has changed."""
ROOM = ("'128 mb'", "'1 gb'")
"""Memory of a slot's state, as a service with a million units sets it: about a kilobyte each."""
LEAST_TENTH = 400_000
"""Measurements that pass slowly enough for their rate to be seen."""
STALLED_S = 600.0
"""A checkpoint may hold the job up for as long as it takes to write all sums, a minute and more on a machine with other work."""
READ, JOINED = 200, 3
"""Single read-outs, and joins of the peer."""
LOADED_WITHIN_S = 1_800.0
BYTES_EACH = 1_500
"""What a measurement takes on disk at most: in the topic, the state, its checkpoints and savepoint, the table and while that is merged."""
ALPHA = 0.05
MB = 1e6

PEER = f"""WITH (kind, total, many) -> multiIf(
  kind = 'count', toInt64(many), kind = 'proportion', toInt64(total > 0),
  kind = 'mean', toInt64(roundBankers(total / greatest(many, 1))), total) AS value_of,
CAST({{kinds:Array(Tuple(String, String))}}, 'Map(String, String)') AS of_kind,
exposed AS (
  SELECT
    unit, min(event_time) AS at, argMin(variations[{{name:String}}], (event_time, event_id)) AS variation,
    argMin(segments, (event_time, event_id)) AS segment
  FROM experiments_exposure
  WHERE mapContains(variations, {{name:String}}) AND NOT marker
  GROUP BY unit
), of_units AS (
  SELECT
    variation, segment, unit, splitByChar('/', name)[1] AS metric, of_kind[metric] AS kind,
    countIf((name = metric AS is_above) AND event_time >= at) AS afters, countIf(is_above AND event_time < at) AS befores,
    sumIf(value, is_above AND event_time >= at) AS total_x, sumIf(value, is_above AND event_time < at) AS total_u,
    sumIf(value, NOT is_above AND event_time >= at) AS y, sumIf(value, NOT is_above AND event_time < at) AS v,
    value_of(kind, total_x, afters) AS x,
    value_of(kind, total_u, befores) AS u
  FROM experiments_measurement
  INNER JOIN exposed USING (unit)
  ARRAY JOIN mapKeys(measured) AS name, mapValues(measured) AS value
  WHERE NOT marker AND event_time < at + toIntervalSecond({{window_s:Int64}}) AND event_time >= at - toIntervalSecond({{window_s:Int64}})
  GROUP BY variation, segment, unit, metric
)
SELECT
  variation, 'device_type=' || segment['device_type'] AS segments, metric, -1, count(), countIf(afters > 0),
  {", ".join(f"sum({' * '.join(name)})" for name in Totals._fields)}
FROM of_units
WHERE afters > 0 OR kind NOT IN ('mean', 'ratio')
GROUP BY variation, segments, metric
FORMAT TabSeparated"""
SIZE = "SELECT sum(data_compressed_bytes) FROM system.parts WHERE active AND database = currentDatabase() AND table = {table:String}"


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures."""
    world = World(**json.loads((options.world or WORLD).read_text(encoding="utf-8")))
    world = replace(world, members=options.sessions or world.members, measurements=options.events or world.measurements)
    OUT.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(OUT).free) < (needed := BYTES_EACH * world.measurements):
        raise AssertionError(f"{needed / 1e9:.0f} GB are needed in {OUT}, {free / 1e9:.0f} are free: make room, or take fewer --events")
    found = Figures()
    with ground("kafka,registry,flink,topics,warehouse", OUT / "scale") as stack, environment(jvm.client_environment()):
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # PyFlink sets the root logger to INFO
        with namespace("growth"):
            _grow(found, stack, _tenth(world), options.seed)
        with namespace("scale"):
            _log(world, options.seed)
            for name, of in (("few", replace(world, experiments=FEW)), ("many", world)):
                _measure(found, stack, name, of, options.seed)
            found.add({"many_of_few": found.all["many_per_s"] / found.all["few_per_s"]})
            put_each(CHANGES, list(world.definitions()), "item")
            with _loaded(world):
                read(found, world)
                join(found, world)
    return [found.all]


class Figures:
    """Figures as they come: told, and kept in a file, since the last of them comes after three quarters of an hour."""

    def __init__(self) -> None:
        self.all: dict[str, float] = {}

    def add(self, more: dict[str, float]) -> None:
        """Tell and keep some."""
        say(", ".join(f"{figure} {value:,.4g}" for figure, value in more.items()))
        self.all |= more
        (OUT / "scale-so-far.json").write_text(json.dumps(self.all, indent=1) + "\n")


def _tenth(world: World) -> World:
    measured = max(world.measurements // 10, LEAST_TENTH)
    return replace(world, members=measured * world.members // world.measurements, measurements=measured)


def _grow(found: Figures, stack: LocalStack, world: World, seed: int) -> None:
    """The rate out of few, more and many experiments; the first round lets the JVM compile and is not counted."""
    _log(world, seed)
    for number in (GROWTH[-1], *GROWTH):
        _measure(found, stack, f"tenth_{number}", replace(world, experiments=number), seed)


def _log(world: World, seed: int) -> None:
    publish(catalogue().topics.values())
    say(f"writing {world.measurements:,} measurements of {world.members:,} members")
    put(MEASUREMENTS, measurements(world, seed, encoder(MEASUREMENTS)))


def _measure(found: Figures, stack: LocalStack, name: str, world: World, seed: int) -> None:
    """Expose the members to a world's experiments, and run the job over all that was measured."""
    _empty(EXPOSURES)
    _empty(STATISTICS)
    put(EXPOSURES, exposures(world, seed, encoder(EXPOSURES)))
    say(f"{name}: {world.measurements:,} measurements, out of {world.experiments:,} experiments")
    text = jobs()[JOB].text.replace("${streams.experiments.counted.ARGUMENT}", argument(world.counted))
    text = text.replace(*LESS_OFTEN).replace(*ROOM)
    before = ends([STATISTICS])[STATISTICS]
    per_s = rate(Job(JOB, text, "infra/bench/scale.py"), {}, world.measurements, MEASUREMENTS, STALLED_S)
    rows = ends([STATISTICS])[STATISTICS] - before
    found.add({f"{name}_per_s": per_s, f"{name}_rows_per_1000": 1000 * rows / world.measurements})
    for place in ("checkpoints", "savepoints"):  # each as large as the log
        shutil.rmtree(stack.state_dir / place, ignore_errors=True)


def _empty(topic: str) -> None:
    """Delete a topic's records."""
    parts = [TopicPartition(settings().topic(topic), part, -1) for part in range(catalogue().topic(topic).partitions)]
    admin = kafka.admin()  # its futures end only while it lives
    for future in admin.delete_records(parts).values():
        future.result(30)


@contextmanager
def _loaded(world: World) -> Iterator[None]:
    """Everything of the namespace is in the warehouse. Raises AssertionError where it does not get there."""
    subprocess.run([sys.executable, "-m", "sinks.migrate"], check=True, stdout=subprocess.DEVNULL)
    more = {**os.environ, "HEADRACE_LOADER__STATUS_URL": f"http://{LOOPBACK}:{free_port()}"}
    process = subprocess.Popen([sys.executable, "-m", "sinks.loader"], env=more, stderr=subprocess.DEVNULL)
    began = changed = told = time.monotonic()
    wanted, before = {EXPOSURES: world.members, MEASUREMENTS: world.measurements}, dict[str, int]()
    try:
        with warehouse.writer() as client:
            while not wanted.items() <= before.items() or time.monotonic() < changed + (STILL_S if _is_read() else 4 * STILL_S):
                rows = {topic: _rows(client, topic) for topic in (*wanted, STATISTICS, CHANGES)}
                now = time.monotonic()
                if rows != before:
                    before, changed = rows, now
                if process.poll() is not None or now > began + LOADED_WITHIN_S:
                    raise AssertionError(f"the loader ended, or took too long; there are {before}")
                if now > told + 30:
                    told = now
                    say(f"loading: {', '.join(f'{count:,} of {topic}' for topic, count in rows.items())}")
                time.sleep(1.0)
    finally:
        process.terminate()
        process.wait(60)
    say(f"loaded {before[STATISTICS]:,} rows of {STATISTICS}, and all others, in {changed - began:.0f} s")
    yield


def _is_read() -> bool:
    """Whether nothing waits for the loader any more."""
    try:
        return max((left for (group, _), left in lags().items() if group == "loader"), default=MARKERS + 1) <= MARKERS
    except Unreachable:
        return False


def _rows(client: Client, topic: str) -> int:
    return int(_number(client, f"SELECT count() FROM {catalogue().topic(topic).table}"))


def _number(client: Client, sql: str) -> float:
    return float(client.query(sql).result_rows[0][0])


def read(found: Figures, world: World) -> None:
    """All experiments, single ones, and what those without an effect come to."""
    with warehouse.writer() as client:
        ((stored,),) = client.query(SIZE, {"table": catalogue().topic(STATISTICS).table}).result_rows
        found.add({"kb_per_experiment_day": stored / world.experiments / world.days / 1e3})
    with warehouse.reader() as client:
        began = time.perf_counter()
        every = {report.experiment: report for report in read_outs.every(client)}
        found.add({"all_read_out_s": time.perf_counter() - began})
        if not {world.key(number) for number in range(world.experiments)} <= every.keys():
            raise AssertionError(f"only {len(every):,} of {world.experiments:,} experiments were read out")
        found.add(false([every[world.key(number)] for number in range(min(world.without_effect, world.experiments))]))
        keys = map(world.key, np.random.default_rng(1).integers(0, world.experiments, READ).tolist())
        took_ms = [_ms(read_outs.one, client, key) for key in keys]
        definitions_ms = [_ms(read_outs.known, client) for _ in range(10)]
    found.add({
        "one_read_out_p50_ms": float(np.quantile(took_ms, 0.5)),
        "one_read_out_p99_ms": float(np.quantile(took_ms, 0.99)),
        "definitions_ms": statistics.median(definitions_ms),
    })  # fmt: skip


def false(reports: list[Report]) -> dict[str, float]:
    """Of experiments without an effect: shares of tests over all units that find one at ALPHA, and of experiments in which any test over
    metrics and segments does once that is adjusted for their number, or which come to be better or worse. `refused`: questions unanswered.
    """
    answers = [answer for report in reports for answer in report.answers if answer.segment == WHOLE]
    read = [(answer.read.always_valid, answer.read.fixed) for answer in answers if answer.read.always_valid and answer.read.fixed]
    found = [any((one.adjusted_p or 1) < ALPHA for one in report.answers) for report in reports]
    return {
        "always_false": _share([always.p < ALPHA for always, _ in read]),
        "fixed_false": _share([fixed.p < ALPHA for _, fixed in read]),
        "adjusted_false": _share(found),
        "decided_false": _share([report.verdict in (Verdict.SHIP, Verdict.STOP, Verdict.HARM) for report in reports]),
        "refused": 1 - len(read) / len(answers),
    }


def _share(those: list[bool]) -> float:
    """How many are true; of none NaN, which reaches no bar."""
    return sum(those) / len(those) if those else nan


def join(found: Figures, world: World) -> None:
    """The sums of experiments once more, by the usual join."""
    span_ms = world.counted[0].window_ms
    kinds = [(one.key, str(one.aggregation)) for one in world.counted]
    took_ms, memory, differ = [], 0.0, 0
    with warehouse.writer() as client, warehouse.reader() as reader:
        for number in range(JOINED):
            key = world.key(number * (world.experiments - 1) // (JOINED - 1))
            with _memory() as most:
                began = time.perf_counter()
                answer = client.raw_query(PEER, {"name": f"{key}.1", "kinds": kinds, "window_s": span_ms // 1000})
                took_ms.append(1e3 * (time.perf_counter() - began))
            memory = max(memory, most())
            joined = recompute.sums(answer)
            ours = recompute.sums(reader.raw_query(recompute.STORED, {"experiment": key, "phase": 1, "until": recompute.FOR_EVER}))
            ours = {cell: sums for cell, sums in ours.items() if cell[2]}
            differ += sum(ours.get(cell) != joined.get(cell) for cell in ours.keys() | joined.keys())
            say(f"{key}: {len(ours)} cells of ours, {len(joined)} joined, {took_ms[-1]:,.0f} ms")
        of = read_outs.known(reader)
        client.set_client_setting("max_untracked_memory", 1)  # 4 MB by default, which is more than it takes
        with _memory() as most:
            for number in range(READ):
                read_outs.one(client, world.key(number % world.experiments), of)
        ours_memory = most()
    peer_ms = statistics.median(took_ms)
    found.add({
        "peer_ms": peer_ms, "x_peer": peer_ms / found.all["one_read_out_p50_ms"], "peer_memory_mb": memory / MB,
        "one_read_out_memory_mb": ours_memory / MB, "cells_that_differ": float(differ),
    })  # fmt: skip


def _ms(work: Callable[..., Any], *arguments: Any) -> float:
    began = time.perf_counter()
    work(*arguments)
    return 1e3 * (time.perf_counter() - began)


@contextmanager
def _memory() -> Iterator[Callable[[], float]]:
    """The most bytes that one statement takes meanwhile, as ClickHouse counts them: looked at over and over, because the embedded engine
    keeps no log of statements.
    """
    most, done = 0.0, threading.Event()

    def look() -> None:
        nonlocal most
        sql = "SELECT max(peak_memory_usage) FROM system.processes WHERE query NOT LIKE '%system.processes%'"
        with warehouse.writer() as client:
            while not done.is_set():
                most = max(most, _number(client, sql))
                done.wait(0.005)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield lambda: most
    finally:
        done.set()
        looking.join()
