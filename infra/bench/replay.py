"""How fast is a recorded log put back, and do the same tables come out of it, however fast it was?

`events_per_s`: a log of `EVENTS` reports into an empty topic, as fast as it goes, from the first record read to the last acknowledged.
`tables_equal`: a world of its own, with the real jobs and loader, has late, disordered and repeated reports of members who are in the
product's own experiments, over more than a day. It is recorded, and replayed at each of two speeds into worlds that know nothing of it. 1
when everything derived equals the first, row for row. `read_outs_equal`: 1 when so does every number of every experiment's read-out, over
time and to the last digit. `recomputed_differences`: cells of sums that are not in all worlds those of the raw tables.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge import read_outs
from edge.recompute import recompute
from infra.base import kafka, warehouse
from infra.base.clock import WallClock
from infra.base.settings import settings
from infra.bench.harness import OUT, Figure, Options, ground, namespace, record, say, world_argument
from infra.stack import beside
from sinks import archive
from sinks.archive.layout import RecordedLog
from sinks.replay import compare, replay
from sinks.replay.compare import FINAL_VIEWS

FIGURES = {
    "events_per_s": Figure("events/s", 250_000, 120_000),
    "tables_equal": Figure("0 or 1", 1, 1),
    "read_outs_equal": Figure("0 or 1", 1, 1),
    "recomputed_differences": Figure("cells", 0, 0, higher=False),
}
EVENTS = 2_000_000
EQUALITY_EVENTS = 100_000
"""Enough sessions to differ in every way; three worlds read them, with Flink, one after another."""
DISORDER = ("--late", "0.02", "--out-of-order", "0.1", "--duplicates", "0.05", "--per-second", "1")
"""One a second of simulated time: more than a day."""
BEGAN_MS = 36 * 3_600_000
"""So long ago: definitions are published now, and a log is as long as what is on it."""
SLOWLY_S = 30.0
"""The slower of the two speeds takes so long for the whole log."""
JOBS = ("qoe_sessions", "qoe_corrections", "qoe_minute", "route", "measurements", "statistics_by_unit")
DERIVED = (*FINAL_VIEWS, "qoe_minute", "playback_failure", "playback_report_late")


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures per run; the first world, which the others are compared with, is made once."""
    events = options.events or EVENTS
    with ground("kafka,registry,flink,warehouse", OUT / "replay") as stack:
        whole = record(stack.state_dir / "log", events, options)
        runs = [_speed(whole, number) for number in range(options.runs)]
        with _derived("first"):
            _live("first", min(events, EQUALITY_EVENTS), options)
        disordered = stack.state_dir / "log-disordered"
        with namespace("first"):
            archive.record(disordered)
        slow = _seconds(RecordedLog.open(disordered)) / SLOWLY_S
        for number, figures in enumerate(runs):
            equal, same, wrong = True, True, _recomputed("first")
            for name, speed in ((f"fast_{number}", None), (f"slow_{number}", slow)):
                with _derived(name) as world:
                    say("replaying " + ("as fast as it goes" if speed is None else f"at {speed:.3g} times its own speed"))
                    replay(disordered, namespace=name, speed=speed, read=world.wait_until_still)
                compared = compare(_database("first"), _database(name), DERIVED)
                say(f"run {number + 1} of {options.runs}: {compared}")
                equal &= compared.equal and all(table.rows_a for table in compared.tables if table.table in FINAL_VIEWS)
                figures |= {f"{table.table}_rows": float(table.rows_a) for table in compared.tables}
                read, apart = read_outs.compare(*(warehouse.reader(_database(one)) for one in ("first", name)))
                say(f"{read} read-outs, {len(apart)} of them apart{''.join(f'; {words}' for words in apart)}")
                same &= read > 0 and not apart
                wrong += _recomputed(name)
            figures |= {"tables_equal": float(equal), "read_outs_equal": float(same), "recomputed_differences": float(wrong)}
            figures |= {"equality_events": float(min(events, EQUALITY_EVENTS)), "slow_speed": slow}
    return runs


def _speed(log: Path, number: int) -> dict[str, float]:
    """Replay into a fresh namespace with nobody reading, then give the disk back."""
    namespace = f"speed_{number}"
    done = replay(log, namespace=namespace)
    say(f"{done.records:,} records in {done.seconds:.1f} s, {done.events_per_s:,.0f} a second")
    names = [f"{namespace}.{topic}" for topic in done.topics]
    client = kafka.admin()  # its futures end only while it lives
    for future in client.delete_topics(names).values():
        future.result(60)
    return {"events_per_s": done.events_per_s, "events": float(done.records), "seconds": done.seconds}


@contextmanager
def _derived(name: str) -> Iterator[beside.World]:
    """A world of its own that makes tables of what comes into it, to the last row."""
    say(f"world {name}")
    with beside.world(name, say, JOBS) as world:
        yield world
        world.wait_until_still()


def _live(name: str, events: int, options: Options) -> None:
    """Definitions, and members who are in their experiments, as they stand on the backbone."""
    simulator = ["producers.simulator", "--events", str(events), "--seed", str(options.seed), "--experiments", "backbone", *DISORDER]
    simulator += ["--start", str(WallClock().now_ms() - BEGAN_MS)]
    with namespace(name):
        for module in (["producers.experiments"], [*simulator, *world_argument(options.world)]):
            subprocess.run([sys.executable, "-m", *module], check=True)


def _recomputed(name: str) -> int:
    """Cells of sums in a world that differ from its raw tables."""
    client = warehouse.reader(_database(name))
    known = read_outs.known(client)
    return sum(len(recompute(client, key, known).differences) for key in known.experiments)


def _database(namespace: str) -> str:
    return settings().within(namespace).database


def _seconds(log: RecordedLog) -> float:
    """How long the recording took."""
    stamps = [(segment.from_ms, segment.to_ms) for segment in log.segments]
    return (max(to for _, to in stamps) - min(begin for begin, _ in stamps)) / 1000
