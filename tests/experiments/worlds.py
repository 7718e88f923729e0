"""Small worlds of exposures and measurements in which much goes wrong, at the edges of windows and days."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from streams.experiments.batch import DAY_MS, LARGEST, LATEST_MS, Counted

HOUR_MS = 3_600_000
START_MS = 20_500 * DAY_MS
WINDOW_MS = 30 * HOUR_MS
COVARIATE_MS = 20 * HOUR_MS
METRICS = (
    Counted("played", "sum", WINDOW_MS, COVARIATE_MS),
    Counted("starts", "count", 10 * HOUR_MS, COVARIATE_MS),
    Counted("startup", "mean", WINDOW_MS, COVARIATE_MS),
    Counted("failed", "proportion", 26 * HOUR_MS, 5 * HOUR_MS),
    Counted("stalled", "ratio", WINDOW_MS, COVARIATE_MS),
    Counted("slowest", "quantile", WINDOW_MS),
    Counted("returned", "time_to_event", 12 * HOUR_MS, interval_ms=HOUR_MS),
)
MOST_A_DAY = 6

Event = dict[str, Any]


def world(
    random: Random, metrics: Sequence[Counted] = METRICS, days: float = 2.5, measurements: int = 30
) -> tuple[list[Event], list[Event]]:
    """Exposures and measurements, in the order in which they are told: late, twice, corrected, to two variations; nothing too late."""
    names = [
        *(metric.key for metric in metrics),
        *(f"{metric.key}/below" for metric in metrics if metric.aggregation == "ratio"),
        "uncounted",
    ]
    span = round(days * DAY_MS)
    moments = [START_MS + random.randrange(span) for _ in range(3)]
    edges = [at + side + off for at in moments for side in (0, WINDOW_MS, -COVARIATE_MS, 10 * HOUR_MS, 12 * HOUR_MS) for off in (-1, 0, 1)]
    edges += [START_MS + day * DAY_MS + off for day in (0, 1, 2) for off in (-1, 0)]
    near = [edge for edge in edges if START_MS - 3 * HOUR_MS <= edge < START_MS + span]

    def at() -> int:
        return random.choice(near) if random.random() < 0.7 else START_MS + random.randrange(span)

    units = [f"unit {n}" for n in range(random.randint(1, 3))]
    exposures = [exposure(random, random.choice(units), random.choice(moments) if random.random() < 0.8 else at(), n) for n in range(5)]
    measured = [measurement(random, names, random.choice(units), at(), n, n) for n in range(random.randrange(measurements))]
    corrected = [measurement(random, names, one["unit"], _near(random, one["event_time"], at()), one["seq"], 99) for one in measured]
    told = [*measured, *random.sample(corrected, len(corrected) // 3)]
    return _disordered(random, exposures), _disordered(random, told)


def exposure(random: Random, unit: str, at: int, number: int) -> Event:
    met = {f"experiment.{n}": random.choices("ab", (9, 1))[0] for n in random.sample(range(4), random.randint(1, 4))}
    segments = {"device_type": random.choice(["tv", "phone"])} if random.random() < 0.8 else {}
    return _event(unit, at, f"exposure {number}") | {"variations": met, "segments": segments}


def measurement(random: Random, names: Sequence[str], unit: str, at: int, number: int, version: int) -> Event:
    """`number` is its identity; what of several versions of one number is alike is alike in all."""
    values = {name: _value(random) for name in random.sample(names, random.randrange(len(names)))}
    event = _event(unit, at, f"measurement {number} {version}") | {"seq": number}
    return event | {"source": "playback.qoe_session", "measurement_id": f"session {number}", "version": version, "measured": values}


def _value(random: Random) -> int:
    return random.choice([0, 1, -1, random.randrange(100), random.randrange(10**5), -random.randrange(10**9), LARGEST, LARGEST + 1])


def _near(random: Random, at: int, elsewhere: int) -> int:
    """When a correction says that it happened: at a time near enough to count."""
    return elsewhere if random.random() < 0.4 and abs(elsewhere - at) < LATEST_MS else at


def _event(unit: str, at: int, name: str) -> Event:
    return {"event_id": name, "event_time": at, "unit": unit, "unit_name": "member_id"}


def _disordered(random: Random, events: list[Event]) -> list[Event]:
    told = [*events, *(one for one in events if random.random() < 0.3)]
    return sorted(told, key=lambda one: one["event_time"] + random.random() * 0.99 * LATEST_MS)
