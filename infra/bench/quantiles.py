"""How far are the quantiles that histograms tell from those of what players reported?

Of startup time, time to first byte and throughput, over whole minutes: exact quantiles of the reported values, each report counted
once, against those of the view `qoe_minute_values`. Both must be of as many observations: a report that is lost or counted twice is a
failure.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from clickhouse_connect.driver.client import Client

from infra.bench.harness import say
from infra.bench.live import REPORTS

MINUTE_MS = 60_000
QUANTILES = (0.5, 0.9, 0.95, 0.99)
FETCHED = "e = 'rr' AND (rc IS NULL OR rc BETWEEN 200 AND 299)"
REPORTED = {
    "startup_ms": ("msd_ms", "msd_ms >= 0"),
    "ttfb_ms": ("ttfb_ms", f"{FETCHED} AND ttfb_ms IS NOT NULL"),
    "throughput_kbps": ("intDiv(bytes * 8, ttlb_ms)", f"{FETCHED} AND ot = 'v' AND ttlb_ms > 0 AND bytes > 0"),
}
"""Metric → what a report says of it, and which reports do."""


def worst_error(client: Client, minutes_ms: range) -> float:
    """The largest relative error over the minutes that begin then. Raises AssertionError where the observations are not as many."""
    reported: dict[str, Counter[float]] = {metric: Counter() for metric in REPORTED}
    told: dict[str, Counter[float]] = {metric: Counter() for metric in REPORTED}
    for minute_ms in minutes_ms:
        begin, end = (f"fromUnixTimestamp64Milli({ms})" for ms in (minute_ms, minute_ms + MINUTE_MS))
        once = f"(SELECT * FROM {REPORTS} WHERE NOT marker AND event_time >= {begin} AND event_time < {end} LIMIT 1 BY event_id)"
        for metric, (value, condition) in REPORTED.items():
            exact = f"SELECT {value}, count() FROM {once} WHERE {condition} GROUP BY 1"
            read = f"SELECT value, sum(observations) FROM qoe_minute_values WHERE metric = '{metric}' AND minute = {begin} GROUP BY 1"
            for found, sql in ((reported, exact), (told, read)):
                found[metric].update({float(number): int(count) for number, count in client.query(sql).result_rows})
    worst = 0.0
    for metric in REPORTED:
        if reported[metric].total() != told[metric].total():
            many, of = told[metric].total(), reported[metric].total()
            raise AssertionError(f"{metric}: {many:,} observations in the histograms of {len(minutes_ms)} minutes that have {of:,}")
        true = np.array([quantile(reported[metric], share) for share in QUANTILES])
        errors = np.abs(np.array([quantile(told[metric], share) for share in QUANTILES]) - true) / np.maximum(true, 1)
        say(f"{metric}: {reported[metric].total():,} observations, errors of quantiles {', '.join(f'{error:.4f}' for error in errors)}")
        worst = max(worst, float(errors.max()))
    return worst


def quantile(counts: Counter[float], share: float) -> float:
    """The smallest value that at least this share of the observations does not exceed."""
    values = np.array(sorted(counts))
    upto = np.cumsum([counts[value] for value in values])
    return float(values[np.searchsorted(upto, share * upto[-1])])
