"""A live load at a known rate onto a world that runs, and a probe that sees when its rows can be queried.

The load is a recorded log of simulated sessions that begin a few minutes from now, replayed in step with the clock: to make 20,000 reports
a second up while they are measured would take one of two cores from what is measured. A probe asks the warehouse every `PROBE_S` how far
each partition of a table can be seen; a row became visible at the end of the first question that saw it or a later one of its partition. So
nothing is taken from `ingested_at`, which is stamped before an insert is committed, and figures err to the long side, by the probe's step
at most.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.base import warehouse
from infra.base.clock import WallClock
from infra.bench.harness import OUT, Options, ground, namespace, record, say
from sinks.archive import RecordedLog

SERVICES = "kafka,registry,flink,topics,warehouse,tables,loader"
PER_SECOND = 20_000
FILLING_S = 120.0
"""Before the measured time: a world fills with sessions in half a minute, and a JVM compiles its jobs in two."""
LONGEST_FILLING_S = 240.0
"""A world that has not filled after this never will."""
EMPTYING_S = 90.0
"""After the measured time: what is left of the log when the last session begins goes on for minutes, ever thinner."""
RECORDED_PER_S = 40_000
"""Reports a second that are recorded at least. If fewer are, the replay begins late and makes up for it before measuring."""
STARTING_S = 90.0
SETTLING_S = 60.0
"""After the measured time, how long the last of its rows may take to be visible before they count as lost."""
PROBE_S = 0.2
RECENT_MS = 10_000
BEHIND_MS = 10_000
KEPT_UP = 0.97
"""The share of the rate asked for below which a measurement is none."""
CLOCK = WallClock()
HEADRACE = str(Path(sys.executable).with_name("headrace"))
REPORTS = "playback_report"

Times = npt.NDArray[np.float64]
Offsets = npt.NDArray[np.int64]


@contextmanager
def world(name: str, options: Options, seconds: float, jobs: Sequence[str], tables: Sequence[str]) -> Iterator[World]:
    """A world with these jobs at `per_second` reports a second, filled; `tables` are watched besides that of the reports.

    The log lasts for `options.runs` stretches of `seconds`.
    """
    per_second = round(options.events / seconds) if options.events else PER_SECOND
    events = round(per_second * (FILLING_S + options.runs * seconds + EMPTYING_S))
    start_ms = CLOCK.now_ms() + round(1000 * (events / RECORDED_PER_S + STARTING_S))
    with namespace("bench"), ground(SERVICES, OUT / name) as stack:
        log = record(stack.state_dir / "log", events, options, "--per-second", str(per_second), "--start", str(start_ms))
        subprocess.run([HEADRACE, "jobs", "deploy", *jobs], check=True, stdin=subprocess.DEVNULL)
        begin_ms = min(segment.from_ms for segment in RecordedLog.open(log).segments)
        with _load(log, begin_ms) as load, Probe((REPORTS, *tables)) as probe:
            world = World(per_second, probe, load)
            world.wait_until_full(begin_ms)
            yield world


class World:
    """What runs: the rate that was asked for, the probe, the load."""

    def __init__(self, per_second: int, probe: Probe, load: subprocess.Popen[bytes]) -> None:
        self.per_second = per_second
        self.sights = probe.sights
        self._probe = probe
        self._load = load

    def stretches(self, runs: int, seconds: float) -> list[tuple[int, int]]:
        """Let so many stretches of time pass, one right after the other; their begins and ends in ms. Blocks. Raises AssertionError."""
        found = []
        for _ in range(runs):
            from_ms = CLOCK.now_ms()
            self.go_on(seconds)
            found.append((from_ms, CLOCK.now_ms()))
        return found

    def settle(self, to_ms: int, unseen: Callable[[], int | str]) -> None:
        """Block until all reports that arrived before `to_ms` can be seen, and `unseen` finds nothing missing. Raises AssertionError."""
        deadline = time.monotonic() + SETTLING_S
        missing: int | str = "all reports"
        while missing:
            if time.monotonic() > deadline:
                raise AssertionError(f"{SETTLING_S:.0f} s after it ended, the measured time is not visible: {missing} missing")
            self.go_on(5.0)
            if self.sights[REPORTS].complete_to_ms > to_ms:
                missing = unseen()

    def judge(self, runs: Sequence[Mapping[str, float]]) -> None:
        """Say what each run came to, of which `events_per_s` is a part. Raises AssertionError where the load was not kept up."""
        for number, figures in enumerate(runs):
            say(f"run {number + 1} of {len(runs)}: {', '.join(f'{name} {value:,.4g}' for name, value in figures.items())}")
            if figures["events_per_s"] < KEPT_UP * self.per_second:
                raise AssertionError(f"{figures['events_per_s']:,.0f} events came a second, not {self.per_second:,}")

    def wait_until_full(self, begin_ms: int) -> None:
        """Block until rows come at the rate that was asked for and soon after they are due. Raises AssertionError."""
        while (left_ms := begin_ms - CLOCK.now_ms()) > 0:
            say(f"the first session begins in {left_ms / 1000:.0f} s")
            self.go_on(min(10.0, left_ms / 1000))
        rate, behind_ms = 0.0, 0
        while rate < KEPT_UP * self.per_second or behind_ms > BEHIND_MS or CLOCK.now_ms() < begin_ms + 1000 * FILLING_S:
            if CLOCK.now_ms() > begin_ms + 1000 * LONGEST_FILLING_S:
                raise AssertionError(
                    f"after {LONGEST_FILLING_S:.0f} s {rate:,.0f} rows come a second, {behind_ms / 1000:.0f} s late, "
                    f"and not {self.per_second:,} at once: the machine is too slow, or does something else"
                )
            before, began = self.sights[REPORTS].reached(), time.monotonic()
            self.go_on(5.0)
            rate = (self.sights[REPORTS].reached() - before) / (time.monotonic() - began)
            behind_ms = CLOCK.now_ms() - self.sights[REPORTS].complete_to_ms
            say(f"the world fills: {rate:,.0f} rows a second")

    def go_on(self, seconds: float) -> None:
        """Let time pass while everything runs. Raises AssertionError as soon as something does not."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._probe.failure:
                raise AssertionError(self._probe.failure)
            if self._load.poll() is not None:
                raise AssertionError(f"the load ended with code {self._load.returncode}")
            time.sleep(min(1.0, left))


class Sight:
    """How far each partition of one table could be seen, and when. Written by the probe's thread; `visible_at` reads what is there."""

    def __init__(self) -> None:
        self._seen: dict[int, list[tuple[float, int]]] = {}
        self._newest_ms: dict[int, int] = {}

    def see(self, at: float, partition: int, offset: int, time_ms: int) -> None:
        """At `at` (unix seconds) a question saw `offset` as the last of `partition`, and `time_ms` as its newest time of arrival."""
        seen = self._seen.setdefault(partition, [])
        if not seen or offset > seen[-1][1]:
            seen.append((at, offset))
            self._newest_ms[partition] = time_ms

    @property
    def complete_to_ms(self) -> int:
        """What arrived before this can be seen on every partition that has been seen; 0 before the first sight."""
        return min(self._newest_ms.values(), default=0)

    def reached(self) -> int:
        """The sum of all partitions' last offsets."""
        return sum(seen[-1][1] for seen in self._seen.values())

    def visible_at(self, partitions: Offsets, offsets: Offsets) -> Times:
        """When each row became visible, unix seconds; infinity where it has not. Rows of a partition appear in order of offset."""
        found = np.full(len(offsets), np.inf)
        for partition, seen in self._seen.items():
            times, lasts = (np.array(column) for column in zip(*seen, strict=True))
            mine = partitions == partition
            found[mine] = np.append(times, np.inf)[np.searchsorted(lasts, offsets[mine])]
        return found


class Probe:
    """Asks the warehouse how far it can be seen, every PROBE_S, in a thread of its own, while it is open."""

    def __init__(self, tables: Sequence[str]) -> None:
        self.sights = {table: Sight() for table in tables}
        self.failure = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        try:
            with warehouse.reader() as client:
                while not self._stop.wait(PROBE_S):
                    self._look(client)
        except Exception as error:  # of any kind: whoever waits for the probe must not wait for ever
            self.failure = f"the probe ended: {error}"

    def _look(self, client: Any) -> None:
        # Parts know the times they span: those without new rows are not read again.
        looks = [
            f"SELECT '{table}', topic_partition, max(topic_offset), toUnixTimestamp64Milli(max(topic_time)) FROM {table} "
            f"WHERE topic_time >= fromUnixTimestamp64Milli({max(0, sight.complete_to_ms - RECENT_MS)}) GROUP BY topic_partition"
            for table, sight in self.sights.items()
        ]
        rows = client.query(" UNION ALL ".join(looks)).result_rows
        now = time.time()
        for table, partition, offset, time_ms in rows:
            self.sights[table].see(now, partition, offset, time_ms)


@contextmanager
def _load(log: Path, begin_ms: int) -> Iterator[subprocess.Popen[bytes]]:
    """The replay of `log` onto the namespace's own topics, in step with the clock, until the block ends."""
    begin = datetime.fromtimestamp(begin_ms / 1000, UTC).isoformat()
    command = [HEADRACE, "replay", str(log), "--same-topics", "--speed", "1", "--begin", begin]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def raw_s(sight: Sight, from_ms: int, to_ms: int) -> Times:
    """Seconds from arrival to visible, of every report that arrived in the stretch."""
    sql = f"SELECT topic_partition, topic_offset, toUnixTimestamp64Milli(topic_time) FROM {REPORTS} WHERE {between(from_ms, to_ms)}"
    partitions, offsets, times_ms = columns(sql)
    return sight.visible_at(partitions, offsets) - times_ms / 1000


def columns(sql: str) -> Sequence[Offsets]:
    """The columns of a result, as integers."""
    with warehouse.reader() as client:
        table = client.query_arrow(sql)
    return [column.to_numpy().astype(np.int64) for column in table.columns]


def between(from_ms: int, to_ms: int) -> str:
    """A condition on the time of arrival."""
    return f"topic_time BETWEEN fromUnixTimestamp64Milli({from_ms}) AND fromUnixTimestamp64Milli({to_ms})"


def quantile(seconds: Times, share: float) -> float:
    """The smallest value that at least `share` of all do not exceed: no interpolation across a gap, and infinity stays infinity."""
    return float(np.quantile(seconds, share, method="inverted_cdf"))
