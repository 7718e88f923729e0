"""`python -m infra.bench.torture [--seconds S] [--seed N]`: everything at once, while everything breaks; then the audit.

On a stack of its own: simulated sessions, viewers who report over HTTP and a foreign producer behind the guard's door, beside poison;
SIGKILL and SIGSTOP at random of producers, collector, guard, loader, TaskManager, JobManager, broker, registry and warehouse, a
registry outage, a zombie loader, a savepoint upgrade in the middle. Then calm, and judgement: ledgers against tables, what was answered
202 against tables, poison against dead letters, and qoe_sessions against a batch recomputation. Exit code 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import Message

from infra.base import kafka, log, warehouse
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from infra.bench import harness
from infra.bench.harness import Figure
from infra.chaos.inject import Injector, Processes, freeze
from infra.chaos.plan import Fault, Kind, Menu, plan
from infra.chaos.poison import Poison, poisons
from infra.chaos.recompute import Recomputed, recompute
from infra.chaos.viewers import Viewers
from infra.stack.processes import die_with_parent
from producers.emit import Emitter
from schemas.catalogue import Topic, catalogue
from schemas.cmcd import report_id
from schemas.codec import Encoder
from schemas.envelope import marker
from sinks import audit

FIGURES = {
    "events": Figure("events"),
    "faults": Figure("faults"),
    "poison": Figure("messages"),
    "lost": Figure("events", 0, 0, higher=False),
    "duplicated": Figure("events", 0, 0, higher=False),
    "qoe_mismatches": Figure("sessions", 0, 0, higher=False),
    "poison_unaccounted": Figure("messages", 0, 0, higher=False),
    "unacknowledged": Figure("events"),
    "sessions": Figure("sessions"),
}
NAMESPACE = "torture"
SERVICES = "kafka,registry,flink,topics,warehouse,tables,jobs,loader,guard,collector"
REPORTS = "playback.report"
SECONDS = 20 * 60.0
EVENTS = 2_000_000
SIMULATORS = 2
VIEWERS = 12
CLOSING_MS = 86_400_000
PROCESSES = ("producer", "collector", "guard", "loader", "taskmanager", "jobmanager", "kafka", "registry", "warehouse")
FREEZE_S = {"kafka": (1.0, 6.0), "loader": (2.0, 25.0)}
MENU = (
    *(Menu(name, Kind.KILL) for name in PROCESSES),
    *(Menu(name, Kind.FREEZE, FREEZE_S.get(name, (1.0, 12.0))) for name in PROCESSES),
    Menu("registry", Kind.OUTAGE, (10.0, 30.0)),
    Menu("loader", Kind.REPLACE, (20.0, 30.0)),
    Menu("jobs", Kind.UPGRADE, once=True),
)
GAP_S = (4.0, 16.0)


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
            sys.executable, "-m", "producers.simulator", "--live", "--events", "1000000000", "--pool", "200",
            "--per-second", str(self._per_second), "--seed", str(self._seed * 100_000 + self._starts), "--late", "0.01",
            "--producer-id", f"simulator-{number}",
        ]  # fmt: skip
        with (settings().state_dir / "logs" / f"simulator-{number}.log").open("ab") as out:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, preexec_fn=die_with_parent
            )


@dataclass
class Foreigner:
    """A producer that is not ours: good reports and poison through the guard's door, and poison past it, straight onto landed topics.

    Everything it sends is remembered until Kafka has answered, so that each message can be looked for afterwards.
    """

    seed: int
    good: set[str] = field(default_factory=set)
    poisoned: dict[tuple[str, int, int], str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._producer = kafka.producer()
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
        number = 0
        past_the_guard = [topic for topic in catalogue().landed() if topic.consumers == ("sinks.loader",) and not from_jobs(topic)]
        reports = catalogue().topic(REPORTS)
        streams = [(topic, self._poisons(topic)) for topic in [reports, *past_the_guard]]
        while not self._stop.wait(0.2):
            identity = f"foreign-{number}"
            self._send(reports.door_name, self._event(reports, identity), partial(self._took, identity))
            topic, stream = streams[number % len(streams)]
            poison = next(stream)
            self._send(topic.door_name if topic.door else topic.name, poison.payload, self._remember(poison.name))
            self._producer.poll(0)
            number += 1

    def _poisons(self, topic: Topic) -> Iterator[Poison]:
        return poisons(self.seed, lambda: self._event(topic, secrets.token_hex(8)), self._another_id(topic))

    def _took(self, identity: str, _: Message) -> None:
        self.good.add(identity)

    def _remember(self, name: str) -> Callable[[Message], None]:
        def remember(message: Message) -> None:
            topic = message.topic().removeprefix(f"{NAMESPACE}.")
            self.poisoned[topic, message.partition(), message.offset()] = name

        return remember

    def _send(self, topic: str, payload: bytes, taken: Callable[[Message], None]) -> None:
        def delivered(error: Any, message: Message) -> None:
            if error is None:
                taken(message)
            else:
                self.refused.append(str(error))

        self._producer.produce(settings().topic(topic), payload, key=b"foreign", on_delivery=delivered)

    def _event(self, topic: Topic, identity: str) -> bytes:
        now_ms = time.time_ns() // 1_000_000
        envelope = {"event_id": identity, "event_time": now_ms, "producer_id": "foreign", "epoch": 0, "seq": -1}
        own = {"marker": False, **({"sid": identity, "e": "t"} if topic.name == REPORTS else {})}
        return Encoder(topic.event, self._ids[topic.name])({**marker(topic.event), **envelope, **own})

    def _another_id(self, topic: Topic) -> int:
        return next(number for name, number in self._ids.items() if catalogue().topic(name).event is not topic.event)


def from_jobs(topic: Topic) -> bool:
    """Whether jobs write a topic: what they write is checked by recomputation."""
    return any(producer.startswith("streams.") for producer in topic.producers)


def replace_loader(processes: Processes) -> Callable[[Fault], None]:
    """Freeze the loader until a second one has its partitions, then let it go on: a zombie that must not write."""

    def act(fault: Fault) -> None:
        with _free_port() as port:
            environment = {**os.environ, "HEADRACE_LOADER__STATUS_URL": f"http://127.0.0.1:{port}"}
        pid = processes.pid("loader")
        if pid is None:
            raise ProcessLookupError("the loader does not run")
        with (settings().state_dir / "logs" / "loader-second.log").open("ab") as out:
            second = subprocess.Popen(
                [sys.executable, "-m", "sinks.loader"], env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        try:
            freeze(pid, fault.for_s)
            time.sleep(fault.for_s / 2)
        finally:
            second.terminate()
            second.wait(60)

    return act


UPGRADE = "from streams import deploy, environment; [deploy.upgrade(job) for job in environment.jobs().values()]"


def upgrade(fault: Fault) -> None:
    """Stop every job with a savepoint and start it from there. A cluster that is down just now is given a minute to come back."""
    for attempt in range(4):
        done = subprocess.run([sys.executable, "-c", UPGRADE], capture_output=True, text=True, check=False, timeout=600)
        if not done.returncode:
            return
        time.sleep(5.0 * (attempt + 1))
    raise RuntimeError(f"the upgrade ended with code {done.returncode}: {done.stderr.strip()[-1_000:]}")


@contextmanager
def _free_port() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


@dataclass
class Verdict:
    """What judgement found; `problems` are words, empty when all is well."""

    figures: dict[str, float]
    problems: list[str]


def torture(seconds: float, seed: int, events: int) -> Verdict:
    """Load and faults for `seconds`, then calm and judgement."""
    processes = Processes()
    simulators = Simulators(SIMULATORS, round(events / seconds * 1.15), seed)
    viewers, foreigner = Viewers(VIEWERS, seed), Foreigner(seed)
    acts = {
        ("producer", Kind.KILL): simulators.strike,
        ("producer", Kind.FREEZE): simulators.strike,
        ("loader", Kind.REPLACE): replace_loader(processes),
        ("jobs", Kind.UPGRADE): upgrade,
    }
    injector = Injector(processes, acts)
    for source in (simulators, viewers, foreigner):
        source.start()
    faults = plan(seed, seconds, MENU, GAP_S)
    harness.say(f"{len(faults)} faults over {seconds:.0f} s, seed {seed}")
    began = time.monotonic()
    injector.run(faults, threading.Event())
    time.sleep(max(0.0, seconds - (time.monotonic() - began)))
    simulators.end()
    harness.say("calm: waiting for the last faults and for every service")
    injector.join()
    _until(lambda: not processes.waiting(), 600, lambda: f"not ready: {', '.join(processes.waiting())}")
    viewers.end()
    foreigner.end()
    _close()
    harness.say("calm: waiting for tables to stand still")
    _until_still()
    return judge(viewers, foreigner, injector)


def judge(viewers: Viewers, foreigner: Foreigner, injector: Injector) -> Verdict:
    """Everything that was promised, against the tables."""
    client = warehouse.reader()
    audits = audit.run(settle_s=120)
    problems = [f"{found.topic}: {words}" for found in audits for words in found.problems]
    lost, duplicated = sum(found.lost for found in audits), sum(found.duplicated for found in audits)

    taken = {report_id(sid, "event:torture", sn) for sid, sn in viewers.taken}
    missing_reports = taken - _event_ids(client, "sid LIKE 'viewer-%'")
    missing_foreign = foreigner.good - _event_ids(client, "producer_id = 'foreign'")
    twice = client.query("SELECT count() - uniqExact(event_id) FROM playback_report WHERE producer_id = 'foreign'").result_rows[0][0]
    problems += [f"answered 202 and not stored: report {identity}" for identity in sorted(missing_reports)[:20]]
    problems += [f"acknowledged at the door and not stored: {identity}" for identity in sorted(missing_foreign)[:20]]
    problems += [f"forwarded twice by the guard: {twice} messages"] if twice else []

    letters = {
        (t, p, o)
        for t, p, o in client.query("SELECT DISTINCT topic, source_partition, source_offset FROM observability_dead_letter").result_rows
    }
    unaccounted = {at: name for at, name in foreigner.poisoned.items() if at not in letters}
    problems += [f"poison without a dead letter: {name} at {at}" for at, name in list(unaccounted.items())[:20]]

    quality: Recomputed = recompute(client)
    problems += quality.named
    problems += [f"fault not carried out: {fault}: {reason}" for fault, reason in injector.failed]
    figures = {
        "events": float(sum(found.acknowledged for found in audits) + len(foreigner.good)),
        "faults": float(len(injector.done)),
        "poison": float(len(foreigner.poisoned)),
        "lost": float(lost + len(missing_reports) + len(missing_foreign)),
        "duplicated": float(duplicated + twice),
        "qoe_mismatches": float(quality.mismatches),
        "poison_unaccounted": float(len(unaccounted)),
        "unacknowledged": float(sum(found.unacknowledged for found in audits)),
        "sessions": float(quality.sessions),
    }
    return Verdict(figures, problems)


def _event_ids(client: Any, condition: str) -> set[str]:
    return {identity for (identity,) in client.query(f"SELECT DISTINCT event_id FROM playback_report WHERE {condition}").result_rows}


def _close() -> None:
    """A time marker far ahead on every partition, so that sessions that nobody closed fall silent."""
    with Emitter("torture") as emitter:
        emitter.mark(REPORTS, event_time_ms=time.time_ns() // 1_000_000 + CLOSING_MS)


def _until(probe: Callable[[], bool], within_s: float, words: Callable[[], str]) -> None:
    deadline = time.monotonic() + within_s
    while not probe():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {within_s:.0f} s: {words()}")
        time.sleep(1.0)


def _until_still(for_s: float = 30.0, within_s: float = 600.0) -> None:
    """Until no landing table has grown and no topic that is landed has moved for a while."""
    client = warehouse.reader()
    deadline, still_since, before = time.monotonic() + within_s, time.monotonic(), None
    while time.monotonic() - still_since < for_s:
        rows = client.query("SELECT name, total_rows FROM system.tables WHERE database = currentDatabase() ORDER BY name").result_rows
        if rows != before:
            before, still_since = rows, time.monotonic()
        if time.monotonic() > deadline:
            raise TimeoutError(f"tables still grow after {within_s:.0f} s: {dict(rows)}")
        time.sleep(1.0)


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
    result = harness.report("torture", FIGURES, [verdict.figures], harness.Options(seed=given.seed, runs=1, seconds=given.seconds))
    fine = harness.show([result], {"torture": FIGURES})
    for problem in verdict.problems:
        sys.stdout.write(f"{problem}\n")
    return 0 if fine and not verdict.problems else 1


if __name__ == "__main__":
    sys.exit(main())
