"""Events made from a seed, and what features come to of them, computed the plain way: from all events that had arrived, with nothing kept,
by the words of the definition.
"""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import Any

import numpy as np

from schemas.recommendations.definition import Feature

TOPIC = "recommendations.interaction"
FROM_MS = 1_772_323_200_000
"""2026-03-01."""
FIELDS: dict[str, dict[str, Any]] = {
    "count": {}, "sum": {"field": "watched_ms"}, "mean": {"field": "watched_ms"}, "distinct": {"field": "cid"}, "last": {"field": "cid"},
    "last_number": {"aggregation": "last", "field": "watched_ms"}, "top_k": {"field": "cid", "k": 5}, "decayed": {"field": "watched_ms"},
}  # fmt: skip
DEFAULTS: dict[str, Any] = {"mean": None, "last": None, "top_k": [], "decayed": None}
HALF_LIVES = {"1h": "1h", "1d": "7h", "7d": "37h", "30d": "100h"}

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
HOPS_MS = {"1h": 300_000, "1d": HOUR_MS, "7d": DAY_MS, "30d": DAY_MS}
LENGTHS_MS = {"1h": HOUR_MS, "1d": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS}


WEIGHTS = np.array([round(2 ** (65 + Fraction(step, 1024)) / 2**49) for step in range(1024)], np.int64)
"""2^(step / 1024) in 65,536ths."""


class Log:
    """Events of one key. `at`, `arrived` in ms; `numbers` and `texts`: fields of theirs."""

    def __init__(self, at: list[int], arrived: list[int], numbers: list[int], texts: list[str]) -> None:
        order = np.argsort(np.minimum(at, arrived), kind="stable")
        self.at = np.minimum(at, arrived)[order]
        self.arrived = np.array(arrived)[order]
        self.numbers = np.array(numbers)[order]
        self.names, self.texts = np.unique(np.array(texts)[order], return_inverse=True)

    def known(self, begin: int, asked: int) -> np.ndarray[Any, Any]:
        """Places of the events at or after `begin` that arrived before `asked`."""
        first, last = np.searchsorted(self.at, [begin, asked])
        return np.asarray(first + np.flatnonzero(self.arrived[first:last] < asked))


def value(feature: Feature, window: str, log: Log, asked: int) -> Any:
    """One value at a time."""
    hop = HOPS_MS[window]
    begin = (asked - LENGTHS_MS[window]) // hop * hop
    known = log.known(begin, asked)
    if not len(known):
        return feature.default
    match feature.aggregation:
        case "count":
            return len(known)
        case "sum":
            return int(log.numbers[known].sum())
        case "mean":
            return int(log.numbers[known].sum()) / len(known)
        case "last":
            newest = known[log.at[known] == log.at[known].max()]
            return str(log.names[log.texts[newest].max()]) if feature.field == "cid" else int(log.numbers[newest].max())
        case "distinct":
            return int(np.count_nonzero(np.bincount(log.texts[known])))
        case "top_k":
            often = np.bincount(log.texts[known], minlength=len(log.names))
            best = np.lexsort((np.arange(len(often)), -often))[: feature.k]
            return [(str(log.names[n]), int(often[n])) for n in best if often[n]]
        case _:
            return decayed(feature, hop, log, known, asked)


def decayed(feature: Feature, hop: int, log: Log, known: np.ndarray[Any, Any], asked: int) -> float:
    """Each event by its own weight, whole tiles as whole numbers, from the oldest tile on."""
    half_life = feature.half_life_ms
    steps, tiles = log.at[known] * 1024 // half_life, log.at[known] // hop
    begins_in = tiles * hop * 1024 // half_life // 1024
    weighed = log.numbers[known] * WEIGHTS[steps % 1024] * 2 ** (steps // 1024 - begins_in)
    firsts = np.flatnonzero(np.diff(tiles, prepend=tiles[0] - 1))
    now, total = asked * 1024 // half_life, 0.0
    for whole, half_lives in zip(np.add.reduceat(weighed, firsts).tolist(), begins_in[firsts].tolist(), strict=True):
        total += whole * 2.0 ** (half_lives - now // 1024)
    return total / int(WEIGHTS[now % 1024])


def every(window: str, **said: Any) -> list[Feature]:
    """One feature of each aggregation over one window."""
    plain = {"owner": "recommendations", "doc": "Each aggregation once.", "sources": [TOPIC], "key": ["member"], "windows": [window]}
    found = []
    for name, told in FIELDS.items():
        more = {"aggregation": name, **told, **said} | ({"half_life": HALF_LIVES[window]} if name == "decayed" else {})
        found.append(Feature.model_validate({**plain, "name": f"a_{name}", "default": DEFAULTS.get(str(more["aggregation"]), 0), **more}))
    return found


def events(seed: int, many: int, window: str, members: int = 1) -> list[tuple[dict[str, Any], int]]:
    """(event, when it arrived), by arrival, over three windows: many close to a hop's edge, some late, by up to two windows, some ahead."""
    random, length = Random(seed), LENGTHS_MS[window]
    made = []
    for n in range(many):
        at = FROM_MS + random.randrange(3 * length)
        if random.random() < 0.2:
            at = at // 300_000 * 300_000 + random.choice([-1, 0, 1])
        late = random.choice([0, random.randrange(-1_000, 1), *(random.randrange(most) for most in (2_000, 60_000, 2 * length))])
        more = {"watched_ms": random.randrange(7_200_000), "cid": f"t-{int(40 * random.random() ** 2)}", "region": f"r-{n % 3}"}
        told = {"member_id": f"m-{random.randrange(members)}", "genres": random.sample(["Drama", "Comedy", "Crime"], n % 3)}
        event = {"event_id": f"e-{n}", "event_time": at, "kind": random.choice(["play", "completion", "skip"]), **told, **more}
        made.append((event, max(at + late, at + random.choice([-500, 0]))))
    return sorted(made, key=lambda one: one[1])


def log(told: list[tuple[dict[str, Any], int]]) -> Log:
    """The same for what is computed the plain way."""
    at, arrived = [event["event_time"] for event, _ in told], [arrived for _, arrived in told]
    return Log(at, arrived, [event["watched_ms"] for event, _ in told], [event["cid"] for event, _ in told])


def queries(seed: int, many: int, window: str, told: list[tuple[dict[str, Any], int]]) -> list[int]:
    """Times to ask at, in order: anywhere, at edges of hops, and just as an event comes, leaves or is about to."""
    random, length = Random(seed), LENGTHS_MS[window]
    asked = []
    for _ in range(many):
        event, arrived = random.choice(told)
        anywhere = FROM_MS + random.randrange(4 * length)
        edge = (anywhere // 300_000 if random.random() < 0.5 else anywhere // DAY_MS * 288) * 300_000 + random.choice([-1, 0, 1])
        hop = 300_000 if window == "1h" else 3_600_000 if window == "1d" else DAY_MS
        leaving = event["event_time"] // hop * hop + length + hop + random.choice([-1, 0, 1])
        asked.append(random.choice([anywhere, edge, arrived + random.choice([0, 1]), event["event_time"], leaving]))
    return sorted(asked)
