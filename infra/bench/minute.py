"""What does quality by the minute cost, how soon is a minute there, and how true are its quantiles?

`qoe_minute_of_decode`: the deployed job, duplicates falling out and both sinks exactly once, against decoding alone, as in `jobs`.
`after_watermark_*_s`: at a live load, from when the watermark passes the end of a minute to when its rows can be queried. The watermark is
taken from the reports in the warehouse: it passes when the last partition gets a report, or a time marker, that is later by its delay.
`quantile_error`: the largest relative error of quantiles of startup time, time to first byte and throughput, as the histograms have them,
against those of the reported values. Both must be of as many observations: a report that is lost or counted twice is a failure.
"""

from __future__ import annotations

import numpy as np

from infra.base import warehouse
from infra.bench import jobs, live
from infra.bench.harness import Figure, Options, say
from infra.bench.live import REPORTS, Times, quantile
from schemas.catalogue import catalogue
from streams.playback.minute import RELATIVE_ERROR

FIGURES = {
    "qoe_minute_of_decode": Figure("share", 0.50, 0.35),
    "qoe_minute_per_s": Figure("events/s"),
    "decode_per_s": Figure("events/s"),
    "after_watermark_p50_s": Figure("s"),
    "after_watermark_p99_s": Figure("s", 5, 8, higher=False),
    "quantile_error": Figure("share", RELATIVE_ERROR, RELATIVE_ERROR, higher=False),
}
JOB = "qoe_minute"
MINUTES = "playback_qoe_minute"
MINUTE_MS = 60_000
SECONDS = 180.0
"""Three minutes come to their end in a run."""
WATERMARK_MS = round(1000 * (catalogue().topic("playback.report").watermark_s or 0))
QUANTILES = "quantilesExactWeighted(0.5, 0.9, 0.95, 0.99)"
FETCHED = "e = 'rr' AND (rc IS NULL OR rc BETWEEN 200 AND 299)"
REPORTED = {
    "startup_ms": ("msd_ms", "msd_ms >= 0"),
    "ttfb_ms": ("ttfb_ms", f"{FETCHED} AND ttfb_ms IS NOT NULL"),
    "throughput_kbps": ("intDiv(bytes * 8, ttlb_ms)", f"{FETCHED} AND ot = 'v' AND ttlb_ms > 0 AND bytes > 0"),
}
"""Metric → what a report says of it, and which reports do."""


def run(options: Options) -> list[dict[str, float]]:
    """One mapping of figures per run."""
    rates = jobs.against_decode(JOB, "minute-rate", options)
    return [rate | wait for rate, wait in zip(rates, at_a_live_load(options), strict=True)]


def at_a_live_load(options: Options) -> list[dict[str, float]]:
    """Figures of waits and quantiles; runs are stretches of time of one world, one right after the other."""
    seconds = options.seconds or SECONDS
    with live.world("minute", options, seconds, [JOB], [MINUTES]) as world:
        stretches = world.stretches(options.runs, seconds)
        first_ms, last_ms = stretches[0][0], stretches[-1][1]
        world.settle(last_ms, lambda: int(np.isinf(_waits_s(world, first_ms, last_ms)).sum()))
        runs = [_waits(world, from_ms, to_ms) for from_ms, to_ms in stretches]
    world.judge(runs)
    return runs


def _waits(world: live.World, from_ms: int, to_ms: int) -> dict[str, float]:
    """Figures of a stretch at a live load."""
    waits_s = _waits_s(world, from_ms, to_ms)
    return {
        "after_watermark_p50_s": quantile(waits_s, 0.5),
        "after_watermark_p99_s": quantile(waits_s, 0.99),
        "after_watermark_max_s": float(waits_s.max()),
        "quantile_error": _quantile_error(from_ms, to_ms),
        "events_per_s": len(live.raw_s(world.sights[REPORTS], from_ms, to_ms)) / ((to_ms - from_ms) / 1000),
        "minute_rows": float(len(waits_s)),
    }


def _waits_s(world: live.World, from_ms: int, to_ms: int) -> Times:
    """Seconds from the watermark's passing the end of a minute to visible, of each row of it that came out then; infinity where none did.

    Of the minutes that ended in the stretch. What comes a minute later corrects, and is not counted.
    """
    minutes, partitions, offsets = live.columns(f"SELECT toUnixTimestamp64Milli(minute), topic_partition, topic_offset FROM {MINUTES}")
    visible_at = world.sights[MINUTES].visible_at(partitions, offsets)
    waits_s = []
    for end_ms in _ends(from_ms, to_ms):
        of_minute = visible_at[minutes == end_ms - MINUTE_MS] - _passed_at(end_ms)
        came_out = of_minute[of_minute < MINUTE_MS / 1000]
        waits_s.append(came_out if len(came_out) else np.array([np.inf]))
    return np.concatenate(waits_s)


def _ends(from_ms: int, to_ms: int) -> range:
    """Ends of minutes that the watermark passed in the stretch. Raises AssertionError where there is none."""
    ends = range(-(-from_ms // MINUTE_MS) * MINUTE_MS, to_ms - WATERMARK_MS, MINUTE_MS)
    if not ends:
        raise AssertionError(f"no minute came to its end in {(to_ms - from_ms) / 1000:.0f} s: take more --seconds")
    return ends


def _passed_at(end_ms: int) -> float:
    """When the watermark passed a time, unix seconds."""
    beyond = f"event_time >= fromUnixTimestamp64Milli({end_ms + WATERMARK_MS})"
    first = f"SELECT min(topic_time) AS at FROM {REPORTS} WHERE {beyond} GROUP BY topic_partition"
    ((arrived_ms,),) = live.columns(f"SELECT toUnixTimestamp64Milli(max(at)) FROM ({first})")
    return float(arrived_ms) / 1000


def _quantile_error(from_ms: int, to_ms: int) -> float:
    """The largest relative error, over the minute that ended first in the stretch: by now it has been corrected, too."""
    end_ms = _ends(from_ms, to_ms)[0]
    begin, end = (f"fromUnixTimestamp64Milli({ms})" for ms in (end_ms - MINUTE_MS, end_ms))
    once = f"(SELECT * FROM {REPORTS} WHERE NOT marker AND event_time >= {begin} AND event_time < {end} LIMIT 1 BY event_id)"
    worst = 0.0
    with warehouse.reader() as client:
        for metric, (value, condition) in REPORTED.items():
            exact = f"SELECT count(), {QUANTILES}({value}, 1) FROM {once} WHERE {condition}"
            read = f"SELECT sum(observations), {QUANTILES}(value, observations) FROM qoe_minute_values"
            (of_reports, true), (of_buckets, found) = (
                client.query(sql).result_rows[0] for sql in (exact, f"{read} WHERE metric = '{metric}' AND minute = {begin}")
            )
            if of_reports != of_buckets:
                raise AssertionError(f"{metric}: {of_buckets:,} observations in the histograms of a minute that has {of_reports:,}")
            errors = np.abs(np.array(found) - np.array(true)) / np.array(true)
            say(f"{metric}: {of_reports:,} observations, errors of quantiles {', '.join(f'{error:.4f}' for error in errors)}")
            worst = max(worst, float(errors.max()))
    return worst
