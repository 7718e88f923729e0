"""What does the quality of every session cost, compared with reading its reports at all?

The deployed job `qoe_sessions`, duplicates falling out and both sinks exactly once, against a job that decodes the same topic
through the same table and throws it away. Same parallelism, checkpoints, process and log; one after the other, after two unmeasured
rounds that let the JVM compile. A job's rate is the slope of what its sources have read, from Flink's metrics, over the part of the
log in which neither the start nor the end shows.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2 as httpx
import numpy as np

from infra.base.settings import environment, settings
from infra.bench.harness import OUT, Figure, Options, ends, ground, namespace, record, say
from infra.stack import jvm
from schemas.catalogue import catalogue
from schemas.project import flink_table
from sinks.replay import replay
from streams.cluster import Cluster
from streams.environment import Flink, Job, jobs

FIGURES = {
    "qoe_sessions_of_decode": Figure("share", 0.40, 0.30),
    "qoe_sessions_per_s": Figure("events/s"),
    "decode_per_s": Figure("events/s"),
}
EVENTS = 3_000_000
DISORDER = ("--late", "0.01", "--out-of-order", "0.1", "--duplicates", "0.05")
STEADY = (0.25, 0.9)
"""Shares of the log between which the rate is taken."""
FEWEST_SAMPLES = 4
WARM_UP = 2
"""Rounds that are not counted: in the second, broker and TaskManager still compile a tenth of their time."""
SAMPLE_S = 0.5
STALLED_S = 60.0
TOLD_EVERY_S = 60.0
STOPPED_WITHIN_S = 600.0
"""A savepoint holds all of a job's state."""
SOURCE = re.compile(r"Source__.*\.numRecordsIn")
REPORTS = catalogue().topic("playback.report")
DISCARDED = "playback.failure"
"""Carries the same event: what decode-only inserts into, replaced by a table that keeps nothing."""
DECODE_ONLY = Job("decode_only", f"INSERT INTO `{DISCARDED}` SELECT ${{{REPORTS.name}}} FROM `{REPORTS.name}`", "infra/bench/jobs.py")
NOTHING_KEPT = {DISCARDED: flink_table(catalogue().topic(DISCARDED), {"connector": "blackhole"}, watermark=False)}


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures per run."""
    return against_decode("qoe_sessions", "jobs", options)


def against_decode(job: str, state: str, options: Options) -> list[dict[str, float]]:
    """Rates of a deployed job and of decode-only, and their ratio, one mapping per run; all runs read one topic.

    `state`: the directory below build/bench for the services.
    """
    runs = []
    with namespace("bench"), ground("kafka,registry,flink,topics", OUT / state) as stack, environment(jvm.client_environment()):
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # PyFlink sets the root logger to INFO
        log = record(stack.state_dir / "log", options.events or EVENTS, options, *DISORDER)
        events = replay(log, namespace=settings().namespace).records
        for number in range(-WARM_UP, options.runs):
            decode_per_s = rate(DECODE_ONLY, NOTHING_KEPT, events)
            job_per_s = rate(jobs()[job], {}, events)
            figures = {
                f"{job}_of_decode": job_per_s / decode_per_s,
                f"{job}_per_s": job_per_s,
                "decode_per_s": decode_per_s,
                "events": float(events),
            }
            name = "to warm up" if number < 0 else f"run {number + 1}"
            say(f"{name}: {', '.join(f'{figure} {value:,.4g}' for figure, value in figures.items())}")
            runs.append(figures)
    return runs[WARM_UP:]


def rate(job: Job, tables: Mapping[str, str], events: int, of: str = "", stalled_s: float = STALLED_S) -> float:
    """Events a second that `job` takes from its topic (`of`: this one of several), from its first to its last; it is stopped afterwards.

    Raises AssertionError where it takes none for `stalled_s`.
    """
    flink, cluster = Flink(job), Cluster()
    written = ends(job.writes)
    job_id = flink.submit(flink.prepare(tables))
    cluster.wait_until_running(job_id)
    samples = [(time.monotonic(), 0)]
    told = samples[0][0]
    with httpx.Client(base_url=cluster.url, timeout=30) as rest:
        counters: list[tuple[str, str]] = []  # the cluster knows of none until it has looked at its TaskManagers
        while (so_far := samples[-1])[1] < events:
            counters = counters or _counters(rest, job_id, of)
            passed = _passed(rest, job_id, counters)
            if passed > so_far[1]:
                samples.append((time.monotonic(), passed))
            elif time.monotonic() > so_far[0] + stalled_s:
                why = cluster.why_failed(job_id) or "no reason given"
                raise AssertionError(f"{job.name} stands still at {so_far[1]:,} of {events:,} events: {why}")
            if time.monotonic() > told + TOLD_EVERY_S:
                told = time.monotonic()
                say(f"{job.name}: {passed:,} of {events:,}")
            time.sleep(SAMPLE_S)
    cluster.stop(job_id, within_s=STOPPED_WITHIN_S)
    if not tables and ends(job.writes) == written:
        raise AssertionError(f"{job.name} read {events:,} events and wrote nothing")
    return steady_rate(samples, events)


def steady_rate(samples: Sequence[tuple[float, int]], events: int) -> float:
    """Slope, per second, through the samples (seconds, events so far) in the STEADY part of all `events`.

    Raises ValueError where that part went by between too few samples.
    """
    first, last = (share * events for share in STEADY)
    steady = [sample for sample in samples if first <= sample[1] <= last]
    if len(steady) < FEWEST_SAMPLES:
        raise ValueError(f"{events:,} events passed too quickly to be measured: {len(steady)} samples; take more --events")
    times, counts = np.array(steady).T
    return float(np.polyfit(times - times[0], counts, 1)[0])


def _counters(rest: httpx.Client, job_id: str, of: str) -> list[tuple[str, str]]:
    """(vertex, metric) of each source's count of records read, over all its subtasks; `of`: of this topic's."""
    found = []
    for vertex in _get(rest, f"/jobs/{job_id}")["vertices"]:
        names = [metric["id"] for metric in _get(rest, f"/jobs/{job_id}/vertices/{vertex['id']}/subtasks/metrics")]
        found += [(str(vertex["id"]), name) for name in names if SOURCE.fullmatch(name) and of.replace(".", "_") in name]
    return found


def _passed(rest: httpx.Client, job_id: str, counters: Sequence[tuple[str, str]]) -> int:
    """Events that every source of the job has read."""
    sums = [
        int(float(answer[0]["sum"]))
        for vertex, metric in counters
        if (answer := _get(rest, f"/jobs/{job_id}/vertices/{vertex}/subtasks/metrics?get={metric}&agg=sum"))
    ]
    return min(sums, default=0)


def _get(rest: httpx.Client, path: str) -> Any:
    answer = rest.get(path)
    answer.raise_for_status()
    return answer.json()
