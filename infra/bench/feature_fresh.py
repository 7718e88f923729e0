"""How long after it happened is an event in the values that are served, and how long does a lookup take meanwhile?

A simulated audience does 10,000 things a second (producers/simulator/interactions.py, a process of its own); this process folds the online
table as a service does. Among the audience are probes: members who do one thing each, with titles as popular as everybody's. `served`:
from when a probe's event was due at the broker to when the table has folded a row of the member and one of the title that are as new.
Beside that, each second, fifty values are looked up for a member and a thousand titles. `--world`: a file of another audience.
"""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from infra.base.children import die_with_parent
from infra.base.clock import WallClock
from infra.base.registry import RegistryClient
from infra.base.settings import environment
from infra.bench.harness import OUT, Figure, Options, cpu_seconds, ends, ground, namespace, say
from infra.stack import jvm
from producers.emit import Emitter
from producers.simulator.interactions import Audience, load
from schemas.catalogue import catalogue
from schemas.publish import publish
from streams import deploy
from streams.environment import jobs
from streams.folded import followed
from streams.recommendations.online import Online
from streams.recommendations.table import Table

FIGURES = {
    "served_p50_s": Figure("s"),
    "served_p99_s": Figure("s", 1, 2, higher=False),
    "served_max_s": Figure("s"),
    "lookup_p50_ms": Figure("ms"),
    "lookup_p99_ms": Figure("ms", 10, 25, higher=False),
    "events_per_s": Figure("events/s"),
    "rows_per_s": Figure("rows/s"),
    "folding_cores": Figure("cores"),
}
TOPIC, MEMBER, TITLE = "recommendations.interaction", "member", "title"
PER_SECOND, PROBES_PER_S, SECONDS, WARM_UP_S, SETTLE_S = 10_000, 20, 60.0, 30.0, 20.0
TITLES, MOST_VALUES = 1_000, 50
PROBE = "probe-"


class Sights(Online):
    """A table that notes when rows came: of each probe's, and of each title's."""

    def __init__(self) -> None:
        super().__init__()
        self.members: dict[str, float] = {}
        self.titles: dict[str, list[tuple[int, float]]] = defaultdict(list)
        """Of a title's rows, in their order, the newest event (ms) and when they came (s)."""
        self.rows = 0

    def into(self, table: Table, record: Mapping[str, Any]) -> None:
        super().into(table, record)
        self.rows += 1
        if record["group"] == TITLE:
            self.titles[record["entity"]].append((table.head(TITLE, record["entity"])[0], time.time()))
        elif record["group"] == MEMBER and record["entity"].startswith(PROBE):
            self.members.setdefault(record["entity"], time.time())

    def served_s(self, member: str, cid: str, at_ms: int) -> float:
        """Seconds until a probe's event was in both rows; infinite where it never was."""
        title = next((there for clock, there in self.titles[cid] if clock >= at_ms), np.inf)
        return max(self.members.get(member, np.inf), title) - at_ms / 1000


def run(options: Options) -> list[dict[str, float]]:
    """One mapping per run; the job, the table and the audience go on throughout."""
    seconds, of = options.seconds or SECONDS, load(options.world) if options.world else Audience()
    with namespace("bench"), ground("kafka,registry,flink,topics", OUT / "feature_fresh"), environment(jvm.client_environment()):
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # PyFlink sets the root logger to INFO
        publish(topic for topic in catalogue().topics.values() if topic.name.startswith("recommendations."))
        deploy.run(jobs()["features"])
        sights, runs = Sights(), list[dict[str, float]]()
        lasts_s = WARM_UP_S + options.runs * (seconds + SETTLE_S) + 60
        told = audience(lasts_s, options)
        with followed([sights], RegistryClient().schema), told, Emitter("probes", clock=WallClock()) as emitter:
            say("warming up")
            _stretch(sights, emitter, of, random.Random(options.seed), "w", WARM_UP_S)
            for number in range(options.runs):
                figures = _stretch(sights, emitter, of, random.Random(options.seed + number), str(number), seconds)
                say(f"run {number + 1}: " + ", ".join(f"{name} {value:,.4g}" for name, value in figures.items()))
                runs.append(figures)
    return runs


@contextmanager
def audience(seconds: float, options: Options) -> Iterator[None]:
    """The simulated audience, from now on; raises AssertionError where it has ended before its time."""
    told = ["--seconds", str(seconds), "--per-second", str(PER_SECOND), "--seed", str(options.seed), "--live"]
    told += ["--audience", str(options.world)] if options.world else []
    process = subprocess.Popen(
        [sys.executable, "-m", "producers.simulator.interactions", *told], stdout=subprocess.DEVNULL, preexec_fn=die_with_parent
    )
    try:
        yield
        assert process.poll() is None, "the audience has gone home"
    finally:
        process.terminate()
        process.wait(60)


def _stretch(sights: Sights, emitter: Emitter, of: Audience, dice: random.Random, name: str, seconds: float) -> dict[str, float]:
    """Probes and lookups for so long, and what came of them."""
    weights = [k**-of.exponent for k in range(1, of.titles + 1)]
    titles = [f"{of.prefix}{k:05d}" for k in range(1, of.titles + 1)]
    values = [value.name for value in sights.plan.values.values() if set(value.feature.key) <= {"member", "title"}][:MOST_VALUES]
    probes, took_ms = [], []
    rows, events, spent_s, began = sights.rows, ends([TOPIC])[TOPIC], cpu_seconds(["self"]), time.time()
    for n in range(round(seconds * PROBES_PER_S)):
        due = began + n / PROBES_PER_S
        time.sleep(max(0.0, due - time.time()))
        member, cid, at_ms = f"{PROBE}{name}-{n}", dice.choices(titles, weights)[0], round(due * 1000)
        emitter.send(TOPIC, {"member_id": member, "cid": cid, "kind": "play"}, event_time_ms=at_ms)
        emitter.poll()
        probes.append((member, cid, at_ms))
        if n % PROBES_PER_S == PROBES_PER_S // 2:
            asked = time.perf_counter()
            sights.table.lookup(values, {"member": member, "title": dice.sample(titles, min(TITLES, len(titles)))}, at_ms)
            took_ms.append(1e3 * (time.perf_counter() - asked))
    took_s = time.time() - began
    told = {
        "lookup_p50_ms": float(np.quantile(took_ms, 0.5)),
        "lookup_p99_ms": float(np.quantile(took_ms, 0.99)),
        "events_per_s": (ends([TOPIC])[TOPIC] - events) / took_s,
        "rows_per_s": (sights.rows - rows) / took_s,
        "folding_cores": (cpu_seconds(["self"]) - spent_s) / took_s,
    }
    deadline = time.time() + SETTLE_S
    while not all(np.isfinite(sights.served_s(*probe)) for probe in probes[-100:]) and time.time() < deadline:
        time.sleep(0.5)
    served_s = [sights.served_s(*probe) for probe in probes]
    return {f"served_p{round(100 * p)}_s": float(np.quantile(served_s, p)) for p in (0.5, 0.99)} | {"served_max_s": max(served_s)} | told
