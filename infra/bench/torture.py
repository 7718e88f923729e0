"""`python -m infra.bench.torture [--seconds S] [--seed N]`: everything at once, while everything breaks; then the audit.

On a stack of its own: simulated sessions, viewers who report over HTTP and a foreign producer behind the guard's door, beside poison;
SIGKILL and SIGSTOP at random of producers, collector, guard, loader, TaskManager, JobManager, broker, registry and warehouse, a
registry outage, loaders killed at each step of their protocol, zombie loaders, a savepoint upgrade in the middle. Then calm, and judgement:
ledgers against tables, what was answered 202 against tables, poison against dead letters, qoe_sessions, routes and the sums of experiments
against a batch recomputation. Exit code 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Message

from infra.base import kafka, log, warehouse
from infra.base.children import die_with_parent
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from infra.bench import harness
from infra.bench.harness import Figure
from infra.chaos import loaders
from infra.chaos.doomed import POINTS, SLEEPS
from infra.chaos.inject import Injector, Processes, freeze
from infra.chaos.plan import Fault, Kind, Menu, plan
from infra.chaos.poison import Poison, poisons, within_reach
from infra.chaos.recompute import Recomputed, recompute, recompute_experiments, recompute_routes
from infra.chaos.viewers import Viewers
from infra.chaos.waiting import until
from infra.stack.beside import MARKERS
from infra.stack.health import Unreachable, loader_tables
from producers.emit import Emitter
from schemas.catalogue import Topic, catalogue
from schemas.cmcd import report_id
from schemas.codec import Encoder
from schemas.envelope import marker
from sinks import audit
from streams.cluster import Cluster, ClusterError
from streams.environment import jobs

FIGURES = {
    "events": Figure("events"),
    "faults": Figure("faults"),
    "poison": Figure("messages"),
    "lost": Figure("events", 0, 0, higher=False),
    "duplicated": Figure("events", 0, 0, higher=False),
    "qoe_mismatches": Figure("sessions", 0, 0, higher=False),
    "route_mismatches": Figure("events", 0, 0, higher=False),
    "experiment_mismatches": Figure("cells", 0, 0, higher=False),
    "experiment_cells": Figure("cells"),
    "poison_unaccounted": Figure("messages", 0, 0, higher=False),
    "unacknowledged": Figure("events"),
    "sessions": Figure("sessions"),
    "crash_points": Figure("points"),
}
NAMESPACE = "torture"
SERVICES = "kafka,registry,flink,topics,warehouse,tables,jobs,loader,guard,collector,experiments"
REPORTS = "playback.report"
SECONDS = 20 * 60.0
EVENTS = 2_000_000
SIMULATORS = 2
VIEWERS = 12
NAMED = 20
"""So many problems of a kind are named."""
CLOSING_MS = 86_400_000
PROCESSES = ("producer", "collector", "guard", "loader", "taskmanager", "jobmanager", "kafka", "registry", "warehouse")
FREEZE_S = {"kafka": (1.0, 6.0), "loader": (2.0, 25.0)}
MENU = (
    *(Menu(name, Kind.KILL) for name in PROCESSES),
    *(Menu(name, Kind.FREEZE, FREEZE_S.get(name, (1.0, 12.0))) for name in PROCESSES),
    Menu("registry", Kind.OUTAGE, (10.0, 30.0)),
    Menu("loader", Kind.REPLACE, (5.0, 15.0)),
    Menu("jobs", Kind.UPGRADE, once=True),
)
GAP_S = (4.0, 16.0)
CRASHES = (
    *(Menu(f"loader {point}", Kind.CRASH) for point in POINTS),
    *(Menu(f"loader {point}", Kind.WAKE) for point in SLEEPS),
)
CRASH_GAP_S = (22.0, 28.0)
"""The group gives a killed member up after ten seconds, and the next one takes some to join and to come to its step."""
GOOD_PER_POISON = 3
"""A topic that brings more poison than events stops the loader, as it should."""
FOREIGN_TURN_S = 0.2


class Simulators:
    """Simulator processes, each started again with new sessions when it ends, until `end`."""

    def __init__(self, count: int, per_second: int, seed: int) -> None:
        self._per_second, self._seed = per_second // count, seed
        self._running: list[subprocess.Popen[bytes] | None] = [None] * count
        self._starts = 0
        self._ending = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._keeper.start()

    def end(self) -> None:
        """End them as an operator would."""
        self._ending.set()
        self._keeper.join()

    def strike(self, fault: Fault) -> None:
        """A fault of the target `producer` meets one of them."""
        alive = [process for process in self._running if process is not None and process.poll() is None]
        if not alive:
            raise ProcessLookupError("no simulator runs")
        victim = random.Random(f"{self._seed}/{fault.at_s}").choice(alive)
        if fault.kind is Kind.KILL:
            os.killpg(victim.pid, signal.SIGKILL)
        else:
            freeze(victim.pid, fault.for_s)

    def _keep(self) -> None:
        """From first to last on one thread: the kernel kills the simulators when the thread that forked them ends."""
        while not self._ending.wait(0.5):
            for number, process in enumerate(self._running):
                if process is None or process.poll() is not None:
                    self._starts += 1
                    self._running[number] = self._process(number)
        running = [process for process in self._running if process is not None]
        for process in running:
            process.terminate()
        for process in running:
            process.wait(60)

    def _process(self, number: int) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "producers.simulator", "--live", "--events", "1000000000",
            "--per-second", str(self._per_second), "--seed", str(self._seed * 100_000 + self._starts), "--late", "0.01",
            "--producer-id", f"simulator-{number}", "--experiments", "backbone",
        ]  # fmt: skip
        with (settings().state_dir / "logs" / f"simulator-{number}.log").open("ab") as out:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, preexec_fn=die_with_parent
            )


@dataclass
class Foreigner:
    """A producer that is not ours: good events and poison through the guard's door, and past it, straight onto landed topics.

    What Kafka has acknowledged is remembered, so that each message can be looked for afterwards.
    """

    seed: int
    good: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Identities of good events, by topic."""
    poisoned: dict[tuple[str, int, int], str] = field(default_factory=dict)
    """What was wrong with the message, by the declared topic, partition and offset that it was written to."""
    refused: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._producer = kafka.producer()
        self._sent = 0
        with RegistryClient() as registry:
            self._ids = {
                topic.name: registry.lookup(settings().topic(topic.subject), topic.event.schema) for topic in catalogue().topics.values()
            }

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Stop, and wait for Kafka's last answers."""
        self._stop.set()
        self._thread.join()
        while self._producer.flush(5.0):
            continue

    def _run(self) -> None:
        rng = random.Random(f"{self.seed}/foreign")
        topics = [catalogue().topic(REPORTS), *within_reach(catalogue().landed())]
        streams = {topic.name: poisons(self.seed, partial(self._good, topic), self._another_id(topic)) for topic in topics}
        while not self._stop.wait(FOREIGN_TURN_S):
            topic = rng.choice(topics)
            partition = rng.randrange(topic.partitions)
            for _ in range(GOOD_PER_POISON):
                self._send_good(topic, partition)
            self._send_poison(topic, partition, next(streams[topic.name]))
            self._producer.poll(0)

    def _send_good(self, topic: Topic, partition: int) -> None:
        identity, payload = self._event(topic)
        self._send(topic, partition, payload, lambda _: self.good[topic.name].add(identity))

    def _send_poison(self, topic: Topic, partition: int, poison: Poison) -> None:
        def taken(message: Message) -> None:
            declared = message.topic().removeprefix(f"{NAMESPACE}.")
            self.poisoned[declared, message.partition(), message.offset()] = poison.name

        self._send(topic, partition, poison.payload, taken)

    def _send(self, topic: Topic, partition: int, payload: bytes, taken: Callable[[Message], None]) -> None:
        def delivered(error: Any, message: Message) -> None:
            if error is None:
                taken(message)
            else:
                self.refused[str(error)] += 1

        name = settings().topic(topic.door_name if topic.door else topic.name)
        self._producer.produce(name, payload, key=b"foreign", partition=partition, on_delivery=delivered)

    def _event(self, topic: Topic) -> tuple[str, bytes]:
        """A new event's identity, and its bytes."""
        self._sent += 1
        identity = f"foreign-{self._sent}"
        envelope = {"event_id": identity, "event_time": time.time_ns() // 1_000_000, "producer_id": "foreign", "epoch": 0, "seq": -1}
        own = {"marker": False, **({"sid": identity, "e": "t"} if topic.name == REPORTS else {})}
        return identity, Encoder(topic.event, self._ids[topic.name])({**marker(topic.event), **envelope, **own})

    def _good(self, topic: Topic) -> bytes:
        return self._event(topic)[1]

    def _another_id(self, topic: Topic) -> int:
        return next(number for name, number in self._ids.items() if catalogue().topic(name).event is not topic.event)


UPGRADE_PATIENCE_S = 1_200.0
"""All four jobs take two minutes, in which a fault hits the cluster more often than not; in the calm nothing does."""
UPGRADE = "from streams import deploy, environment; [deploy.upgrade(job) for job in environment.jobs().values()]"


def upgrade(fault: Fault) -> None:
    """Stop every job with a savepoint and start it from there; again where the cluster is killed meanwhile, as whoever upgrades would."""
    last_words = ""

    def done() -> bool:
        nonlocal last_words
        tried = subprocess.run([sys.executable, "-c", UPGRADE], capture_output=True, text=True, check=False, timeout=1_200)
        last_words = f"the upgrade ended with code {tried.returncode}: {tried.stderr.strip()[-1_000:]}"
        return tried.returncode == 0

    until(done, UPGRADE_PATIENCE_S, lambda: last_words, every_s=5.0)


@dataclass
class Verdict:
    """What judgement found; `problems` are words, empty when all is well."""

    figures: dict[str, float]
    problems: list[str]


def torture(seconds: float, seed: int, events: int) -> Verdict:
    """Faults for `seconds`, load for as long or until `events` are stored, then calm and judgement."""
    processes = Processes()
    simulators = Simulators(SIMULATORS, round(events / seconds * 1.2), seed)
    viewers, foreigner = Viewers(VIEWERS, seed), Foreigner(seed)
    acts = {
        ("producer", Kind.KILL): simulators.strike,
        ("producer", Kind.FREEZE): simulators.strike,
        ("loader", Kind.REPLACE): loaders.replace(processes),
        ("jobs", Kind.UPGRADE): upgrade,
        **{(f"loader {point}", Kind.CRASH): loaders.crash(point) for point in POINTS},
        **{(f"loader {point}", Kind.WAKE): loaders.wake(point) for point in SLEEPS},
    }
    injector = Injector(processes, acts)
    for source in (simulators, viewers, foreigner):
        source.start()
    faults = sorted([*plan(seed, seconds, MENU, GAP_S), *plan(seed, seconds, CRASHES, CRASH_GAP_S)], key=lambda fault: fault.at_s)
    harness.say(f"{len(faults)} faults over {seconds:.0f} s, seed {seed}")
    began = time.monotonic()
    injector.run(faults, threading.Event())
    time.sleep(max(0.0, seconds - (time.monotonic() - began)))
    until(lambda: _reports() >= events, seconds, lambda: f"{_reports():,} reports are stored of the {events:,} asked for", every_s=1.0)
    simulators.end()
    harness.say("calm: waiting for the last faults and for every service")
    injector.join()
    until(lambda: not processes.waiting(), 600, lambda: f"not ready: {', '.join(processes.waiting())}", every_s=1.0)
    viewers.end()
    foreigner.end()
    _close()
    harness.say("calm: waiting for tables to stand still")
    _until_still()
    return judge(viewers, foreigner, injector)


def judge(viewers: Viewers, foreigner: Foreigner, injector: Injector) -> Verdict:
    """Everything that was promised, against the tables."""
    client = warehouse.reader()
    harness.say("judging: ledgers against tables")
    audits = audit.run(settle_s=120)
    problems = [f"{found.topic}: {words}" for found in audits for words in found.problems]
    lost, duplicated = sum(found.lost for found in audits), sum(found.duplicated for found in audits)

    taken = {report_id(sid, "event:torture", sn) for sid, sn in viewers.taken}
    missing_reports = taken - _event_ids(client, "playback_report", "sid LIKE 'viewer-%'")
    problems += [f"answered 202 and not stored: report {identity}" for identity in sorted(missing_reports)[:NAMED]]
    problems += viewers.refused
    missing_foreign, twice = _look_for(foreigner, client)
    problems += [f"acknowledged to the foreign producer and not stored: {topic} {identity}" for topic, identity in missing_foreign[:NAMED]]
    problems += [f"stored twice: {topic} {identity} of the foreign producer" for topic, identity in twice[:NAMED]]

    letters = {
        (t, p, o)
        for t, p, o in client.query("SELECT DISTINCT topic, source_partition, source_offset FROM observability_dead_letter").result_rows
    }
    unaccounted = {at: name for at, name in foreigner.poisoned.items() if at not in letters}
    problems += [f"poison without a dead letter: {name} at {at}" for at, name in list(unaccounted.items())[:NAMED]]

    harness.say("judging: batch recomputation")
    quality: Recomputed = recompute(client)
    routed: Recomputed = recompute_routes(client)
    summed: Recomputed = recompute_experiments(client)
    problems += [*quality.named, *routed.named, *summed.named, *_stopped()]
    if not summed.compared:
        problems.append("nobody was in an experiment")
    problems += [f"fault not carried out: {fault}: {reason}" for fault, reason in injector.failed]
    figures = {
        "events": float(sum(found.acknowledged for found in audits) + sum(map(len, foreigner.good.values()))),
        "faults": float(len(injector.done)),
        "poison": float(len(foreigner.poisoned)),
        "lost": float(lost + len(missing_reports) + len(missing_foreign)),
        "duplicated": float(duplicated + len(twice)),
        "qoe_mismatches": float(quality.mismatches),
        "route_mismatches": float(routed.mismatches),
        "experiment_mismatches": float(summed.mismatches),
        "experiment_cells": float(summed.compared),
        "poison_unaccounted": float(len(unaccounted)),
        "unacknowledged": float(sum(found.unacknowledged for found in audits)),
        "sessions": float(quality.compared),
        "crash_points": float(len({(fault.kind, fault.target) for fault in injector.done if fault.kind in (Kind.CRASH, Kind.WAKE)})),
    }
    return Verdict(figures, problems)


def _event_ids(client: Any, table: str, condition: str) -> set[str]:
    return {identity for (identity,) in client.query(f"SELECT DISTINCT event_id FROM {table} WHERE {condition}").result_rows}


def _look_for(foreigner: Foreigner, client: Any) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(topic, identity) of the foreign producer's events that are missing, and of those that are stored twice."""
    missing, twice = [], []
    for topic, identities in foreigner.good.items():
        sql = f"SELECT event_id, count() FROM {catalogue().topic(topic).table} WHERE producer_id = 'foreign' GROUP BY event_id"
        found = dict(client.query(sql).result_rows)
        missing += [(topic, identity) for identity in sorted(identities - found.keys())]
        twice += [(topic, identity) for identity, count in sorted(found.items()) if count > 1]
    return missing, twice


def _stopped() -> list[str]:
    """Partitions that the loader has given up, in words."""
    return [f"{entry['table']}, partition {p}: {why}" for entry in loader_tables() for p, why in entry["stopped"].items()]


def _close() -> None:
    """A time marker far ahead on every partition, so that sessions that nobody closed fall silent."""
    with Emitter("torture") as emitter:
        emitter.mark(REPORTS, event_time_ms=time.time_ns() // 1_000_000 + CLOSING_MS)


def _reports() -> int:
    """Reports that are stored; 0 while the warehouse is away."""
    try:
        with warehouse.reader() as client:
            return int(client.query("SELECT count() FROM playback_report WHERE NOT marker").result_rows[0][0])
    except ClickHouseError:
        return 0


def _until_still(for_s: float = 30.0, within_s: float = 900.0) -> None:
    """Until for a while every job has run, the loader has kept up, and no table has got a row that is no marker: the collector marks on."""
    client = warehouse.reader()
    deadline, still_since, before = time.monotonic() + within_s, time.monotonic(), None
    while time.monotonic() - still_since < for_s:
        rows = client.query("SELECT _table, count() FROM landed WHERE NOT marker GROUP BY _table ORDER BY _table").result_rows
        moving = _moving()
        if rows != before or moving:
            before, still_since = rows, time.monotonic()
        if time.monotonic() > deadline:
            raise TimeoutError(f"not still after {within_s:.0f} s: {', '.join(moving)}; {dict(rows)}")
        time.sleep(1.0)


def _moving() -> list[str]:
    """Jobs that do not run, and tables that have something to load."""
    try:
        running = {name for name, job in Cluster().jobs().items() if job.state == "RUNNING"}
        idle = {job.flink_name for job in jobs().values()} - running
        return sorted(idle) + [f"{entry['table']} by {entry['lag']}" for entry in loader_tables() if entry["lag"] > MARKERS]
    except (ClusterError, Unreachable) as error:
        return [str(error)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and write build/bench/torture.json; 0 when nothing was lost, doubled, altered or computed wrong."""
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=None, help=f"default: {EVENTS:,} over {SECONDS:.0f} s, in proportion")
    given = parser.parse_args(arguments)
    log.configure("torture")
    events = given.events or round(EVENTS * given.seconds / SECONDS)
    state_dir = Path("build/torture/state")
    with harness.namespace(NAMESPACE), harness.ground(SERVICES, state_dir):
        verdict = torture(given.seconds, given.seed, events)
    result = harness.report(
        "torture",
        FIGURES,
        [{**verdict.figures, "problems": verdict.problems}],
        harness.Options(seed=given.seed, runs=1, seconds=given.seconds),
    )
    fine = harness.show([result], {"torture": FIGURES})
    for problem in verdict.problems:
        sys.stdout.write(f"{problem}\n")
    return 0 if fine and not verdict.problems else 1


if __name__ == "__main__":
    sys.exit(main())
