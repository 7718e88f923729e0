"""`python -m infra.stack.sampler`: what the parts of the pipeline say of themselves, as events on observability.sample.

asks      Kafka how far each consumer group is behind, Flink which checkpoints have ended, the loader what it has stored; now and then
          it audits, and computes again what was served of features; what of that the log does not allow goes on
          recommendations.feature_skew besides
measures  nothing: a part that is silent has no sample, so a gap in a panel is a gap in what was told
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from clickhouse_connect.driver.exceptions import ClickHouseError

from edge import skew
from infra.base import log, warehouse
from infra.base.clock import Clock, WallClock, WorkClock
from infra.stack.health import TIMEOUT_S, Unreachable, lags, loader_tables
from producers.emit import Backpressure, Emitter
from schemas.recommendations.definition import FeatureError
from sinks import audit
from streams.cluster import Cluster, ClusterError

EVERY_S = 5.0
AUDIT_EVERY_S = 60.0
SKEW_EVERY_S = 20.0
REST = 20
"""An audit reads every row's position: it rests for so many times what it worked, its waits left out."""
T = TypeVar("T")
COUNTED = ("blocks", "rows", "uncertain", "recoveries")
"""What the loader counts up for each table from its start."""
SKEW = "recommendations.feature_skew"
AUDITED = ("acknowledged", "stored", "lost", "duplicated")


@dataclass(frozen=True)
class Sample:
    """One figure, as the contract `observability.sample` has it; `event_id` where what it is about has an identity of its own."""

    component: str
    metric: str
    measured: int
    about: str = ""
    at_ms: int | None = None
    event_id: str | None = None


class Counters:
    """Turns counters that grow from the start of a process into what came since the last look."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, int]] = {}

    def samples(self, tables: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """What the loader's status says of its tables; nothing of one seen for the first time, for since when is not known.

        A counter that has fallen belongs to a new process and counts from 0.
        """
        for table in tables:
            now = {name: int(table[name]) for name in COUNTED}
            before = self._known.get(table["topic"])
            self._known[table["topic"]] = now
            if before is not None:
                restarted = any(now[name] < before[name] for name in COUNTED)
                for name in COUNTED:
                    if grown := now[name] - (0 if restarted else before[name]):
                        yield Sample("loader", name, grown, table["topic"])


class Checkpoints:
    """Each checkpoint once, from the moment this process began to look."""

    def __init__(self, cluster: Cluster, since_ms: int) -> None:
        self._cluster = cluster
        self._since_ms = since_ms
        self._told: dict[str, int] = {}

    def samples(self) -> Iterator[Sample]:
        """Those that ended since the last look. Raises ClusterError."""
        for name, job in self._cluster.alive().items():
            for found in self._cluster.checkpoints(job.job_id):
                if found.ended_ms < self._since_ms or found.number <= self._told.get(job.job_id, -1):
                    continue
                self._told[job.job_id] = found.number
                figures = [("checkpoint_ms", found.took_ms), ("checkpoint_bytes", found.size_bytes)]
                for metric, measured in figures if found.complete else [("checkpoint_failed_ms", found.took_ms)]:
                    yield Sample(name, metric, measured, at_ms=found.ended_ms, event_id=f"{job.job_id}:{found.number}:{metric}")


class Beside(Generic[T]):
    """Work that takes long, now and then, on a thread of its own, so that figures keep their pace; a daemon, so that an end need not wait.

    Between the end of one and the begin of the next there are `every_s`, or so many times what it worked, its waits left out.
    """

    def __init__(self, name: str, clock: Clock, run: Callable[[Clock], T], every_s: float) -> None:
        self._name, self._clock, self._run, self._every_ms = name, clock, run, round(every_s * 1000)
        self._running: Future[T] | None = None
        self._due_ms = clock.now_ms()
        self._worked_ms = 0

    def ended(self) -> T | None:
        """What has come of it since the last look, if it has ended. Raises what it raised."""
        if self._running is None and self._clock.now_ms() >= self._due_ms:
            self._running = Future()
            threading.Thread(target=self._work, args=(self._running,), name=self._name, daemon=True).start()
        if self._running is None or not self._running.done():
            return None
        ended, self._running = self._running, None
        self._due_ms = self._clock.now_ms() + max(self._every_ms, REST * self._worked_ms)
        return ended.result()

    def _work(self, running: Future[T]) -> None:
        clock = WorkClock(self._clock)
        try:
            found = self._run(clock)
        except Exception as error:  # whoever asks for the result is told
            self._worked_ms = clock.worked_ms
            running.set_exception(error)
        else:
            self._worked_ms = clock.worked_ms
            running.set_result(found)


class Audits:
    """Audits, beside the other figures."""

    def __init__(self, clock: Clock, run: Callable[[Clock], list[audit.TopicAudit]]) -> None:
        self._beside = Beside("audit", clock, run, AUDIT_EVERY_S)

    def samples(self) -> Iterator[Sample]:
        """The figures of an audit that has ended since the last look. Raises CannotAudit."""
        for found in self._beside.ended() or ():
            if found.acknowledged or found.stored:
                yield from (Sample("audit", name, getattr(found, name), found.topic) for name in AUDITED)


class Skew:
    """The consistency watch of features, beside the other figures. `tell` takes `recommendations.feature_skew` and its event_time."""

    def __init__(self, clock: Clock, run: Callable[[Clock], list[skew.Verdict]], tell: Callable[[dict[str, Any], int], None]) -> None:
        self._beside, self._tell = Beside("skew", clock, run, SKEW_EVERY_S), tell

    def samples(self) -> Iterator[Sample]:
        """What was compared in a round that has ended since the last look. Raises ClickHouseError."""
        verdicts = self._beside.ended() or []
        for one in verdicts:
            for record in skew.events(one):
                self._tell(record, one.served.at_ms)
        for group, counts in sorted(skew.totals(verdicts).items()):
            yield from (Sample("features", name, counts[name], group) for name in skew.COUNTED)


def lag_samples() -> Iterator[Sample]:
    """How far every consumer group is behind on every topic it has committed offsets of. Raises Unreachable."""
    yield from (Sample(group, "lag", lag, topic) for (group, topic), lag in sorted(lags().items()))


class Sampler:
    """Asks every part in turn. A part that does not answer is complained of once, until it answers again."""

    def __init__(self, emitter: Emitter, parts: dict[str, Callable[[], Iterable[Sample]]]) -> None:
        self._emitter = emitter
        self._parts = parts
        self._complaints: dict[str, str] = {}
        self._log = log.get(__name__)

    def round(self, at_ms: int) -> None:
        """One look at every part; figures without a time of their own are of `at_ms`."""
        for name, part in self._parts.items():
            try:
                for sample in part():
                    self._send(sample, at_ms)
                self._complaints.pop(name, None)
            except (Unreachable, ClusterError, audit.CannotAudit, ClickHouseError, FeatureError, Backpressure) as error:
                if self._complaints.get(name) != str(error):
                    self._complaints[name] = str(error)
                    self._log.warning("no sample", part=name, reason=str(error))

    def _send(self, sample: Sample, at_ms: int) -> None:
        record = {"component": sample.component, "metric": sample.metric, "about": sample.about, "measured": sample.measured}
        moment = at_ms if sample.at_ms is None else sample.at_ms
        self._emitter.send("observability.sample", record, event_time_ms=moment, event_id=sample.event_id)


def main() -> None:
    """Sample until SIGTERM or SIGINT."""
    log.configure("sampler")
    clock = WallClock()
    counters, checkpoints = Counters(), Checkpoints(Cluster(timeout_s=TIMEOUT_S), clock.now_ms())
    audits = Audits(clock, lambda worked: audit.run(content="none", clock=worked))
    watch = skew.Watch(warehouse.reader, clock.now_ms)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Emitter("sampler", background=True) as emitter:
        emitter.bind("observability.sample", SKEW)
        watched = Skew(clock, lambda _: watch.round(), lambda record, at_ms: emitter.send(SKEW, record, event_time_ms=at_ms))
        parts: dict[str, Callable[[], Iterable[Sample]]] = {
            "kafka": lag_samples,
            "flink": checkpoints.samples,
            "loader": lambda: counters.samples(loader_tables()),
            "audit": audits.samples,
            "features": watched.samples,
        }
        sampler = Sampler(emitter, parts)
        while not stop.wait(EVERY_S):
            sampler.round(clock.now_ms())
            if emitter.broken:
                raise SystemExit(f"sampler: {emitter.broken}")


if __name__ == "__main__":
    main()
