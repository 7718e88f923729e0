"""How fast is a recorded log put back, and do the same tables come out of it, however fast it was?

`events_per_s`: a log of `EVENTS` reports into an empty topic, as fast as it goes, from the first record read to the last acknowledged.
`tables_equal`: a log with late, disordered and repeated reports is played into a world of its own with the real jobs and loader; then
again at each of two speeds, into worlds that know nothing of the first. 1 when everything derived equals the first, row for row.
"""

from __future__ import annotations

from pathlib import Path

from infra.base import kafka
from infra.base.settings import settings
from infra.bench.harness import OUT, Figure, Options, ground, record, say
from infra.stack import beside
from sinks.archive.layout import RecordedLog
from sinks.replay import compare, replay
from sinks.replay.compare import FINAL_VIEWS

FIGURES = {
    "events_per_s": Figure("events/s", 250_000, 120_000),
    "tables_equal": Figure("0 or 1", 1, 1),
}
EVENTS = 2_000_000
EQUALITY_EVENTS = 100_000
"""Enough sessions to differ in every way; three worlds read them, with Flink, one after another."""
DISORDER = ("--late", "0.02", "--out-of-order", "0.1", "--duplicates", "0.05")
SLOWLY_S = 30.0
"""The slower of the two speeds takes so long for the whole log."""
JOBS = ("qoe_sessions", "qoe_corrections", "qoe_minute", "route")
DERIVED = (*FINAL_VIEWS, "qoe_minute", "playback_failure", "playback_report_late")


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures per run; the first world, which the others are compared with, is made once."""
    events = options.events or EVENTS
    with ground("kafka,registry,flink,warehouse", OUT / "replay") as stack:
        whole = record(stack.state_dir / "log", events, options)
        disordered = record(stack.state_dir / "log-disordered", min(events, EQUALITY_EVENTS), options, *DISORDER)
        runs = [_speed(whole, number) for number in range(options.runs)]
        _derive(disordered, "first", None)
        slow = _seconds(RecordedLog.open(disordered)) / SLOWLY_S
        for number, figures in enumerate(runs):
            equal = True
            for name, speed in ((f"fast_{number}", None), (f"slow_{number}", slow)):
                _derive(disordered, name, speed)
                compared = compare(_database("first"), _database(name), DERIVED)
                say(f"run {number + 1} of {options.runs}: {compared}")
                equal &= compared.equal and all(table.rows_a for table in compared.tables if table.table in FINAL_VIEWS)
                figures |= {f"{table.table}_rows": float(table.rows_a) for table in compared.tables}
            figures |= {"tables_equal": float(equal), "equality_events": float(min(events, EQUALITY_EVENTS)), "slow_speed": slow}
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


def _derive(log: Path, namespace: str, speed: float | None) -> None:
    """Let a world of its own make tables of the log, to the last row."""
    say(f"world {namespace}: {'as fast as it goes' if speed is None else f'at {speed:.3g} times its own speed'}")
    with beside.world(namespace, say, JOBS) as world:
        replay(log, namespace=namespace, speed=speed)
        world.wait_until_still()


def _database(namespace: str) -> str:
    return settings().within(namespace).database


def _seconds(log: RecordedLog) -> float:
    """How long the recording took."""
    stamps = [(segment.from_ms, segment.to_ms) for segment in log.segments]
    return (max(to for _, to in stamps) - min(begin for begin, _ in stamps)) / 1000
