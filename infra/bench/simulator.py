"""How many simulated reports a second does one process encode and get acknowledged by a real broker, while a second one draws them?

`python -m producers.simulator` as anybody starts it, onto an empty topic that nobody reads, idempotent and acknowledged by all replicas,
with a share of duplicates and disorder. The time is the simulator's own, from the first draw to the last acknowledgement; that there are
as many acknowledgements in its ledger and records on the topic as it says is checked, or the run fails.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time

from infra.base import kafka
from infra.base.settings import settings
from infra.bench.harness import OUT, Figure, Options, cpu_seconds, ends, ground, namespace, say, world_argument
from producers.ledger import folder
from schemas.catalogue import catalogue
from sinks.audit.ledgers import Ledgers

FIGURES = {
    "events_per_s": Figure("events/s", 150_000, 80_000),
    "cpu_us_per_event": Figure("µs", higher=False),
}
EVENTS = 6_000_000
PER_SECOND = 20_000
"""Reports in a second of simulated time: those of one second are encoded together."""
DISORDER = ("--out-of-order", "0.1", "--duplicates", "0.05")
TOPIC = catalogue().topic("playback.report")
SAID = re.compile(r"(\d+) reports of (\d+) sessions in ([\d.]+) s")


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures per run, each into a namespace of its own."""
    runs = []
    with ground("kafka,registry", OUT / "simulator"):
        for number in range(options.runs):
            with namespace(f"speed_{number}"):
                runs.append(_measure(options))
            say(f"run {number + 1} of {options.runs}: {', '.join(f'{name} {value:,.4g}' for name, value in runs[-1].items())}")
    return runs


def _measure(options: Options) -> dict[str, float]:
    amount = ("--sessions", str(options.sessions)) if options.sessions else ("--events", str(options.events or EVENTS))
    command = [sys.executable, "-m", "producers.simulator", *amount, "--seed", str(options.seed), "--per-second", str(PER_SECOND)]
    began, cpu_before = time.monotonic(), cpu_seconds(["self"])
    done = subprocess.run([*command, *world_argument(options.world), *DISORDER], check=True, capture_output=True, text=True)
    wall_s, cpu_s = time.monotonic() - began, cpu_seconds(["self"]) - cpu_before
    if (said := SAID.search(done.stdout)) is None:
        raise AssertionError(f"the simulator does not say how much it did: {done.stdout}{done.stderr}")
    reports, sessions, seconds = int(said[1]), int(said[2]), float(said[3])
    stored, acknowledged = ends([TOPIC.name])[TOPIC.name], _acknowledged()
    if not stored == acknowledged > reports:
        raise AssertionError(f"{reports:,} reports and some markers were sent, {acknowledged:,} acknowledged, {stored:,} are on the topic")
    client = kafka.admin()  # its futures end only while it lives
    client.delete_topics([settings().topic(TOPIC.name)])[settings().topic(TOPIC.name)].result(60)
    return {
        "events_per_s": reports / seconds,
        "cpu_us_per_event": 1e6 * cpu_s / reports,
        "events": float(reports),
        "sessions": float(sessions),
        "seconds": seconds,
        "process_seconds": wall_s,
    }


def _acknowledged() -> int:
    """Acknowledgements in the ledger, which must have been closed in order."""
    ledgers = Ledgers([folder()])
    ledgers.read()
    (sends,) = ledgers.sends[TOPIC.name].values()
    if not sends.closed or sends.failed or ledgers.unreadable:
        raise AssertionError(f"the ledger was not closed in order: {len(sends.failed)} sends given up, {ledgers.unreadable[:3]}")
    return len(sends.acknowledged)
