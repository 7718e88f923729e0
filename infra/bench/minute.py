"""What does quality by the minute cost, how soon is a minute there, and how true are its quantiles?

`qoe_minute_of_decode`: the deployed job, duplicates falling out and both sinks exactly once, against decoding alone, as in `jobs`.
`after_watermark_*_s`: at a live load, from when the watermark passes the end of a minute to when its rows can be queried. The watermark is
taken from the reports in the warehouse: it passes when the last partition gets a report, or a time marker, that is later by its delay.
`quantile_error`: the largest relative error of quantiles that histograms tell (`infra.bench.quantiles`), of the minute that ended first.
"""

from __future__ import annotations

import numpy as np

from infra.base import warehouse
from infra.bench import jobs, live
from infra.bench.harness import Figure, Options
from infra.bench.live import REPORTS, Times, quantile
from infra.bench.quantiles import MINUTE_MS, worst_error
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
SECONDS = 180.0
"""Three minutes come to their end in a run."""
WATERMARK_MS = round(1000 * (catalogue().topic("playback.report").watermark_s or 0))


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
        "quantile_error": _quantile_error(_ends(from_ms, to_ms)[0]),
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


def _quantile_error(end_ms: int) -> float:
    """Of one minute, which by now has been corrected, too."""
    with warehouse.reader() as client:
        return worst_error(client, range(end_ms - MINUTE_MS, end_ms, MINUTE_MS))
