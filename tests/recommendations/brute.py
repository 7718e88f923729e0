"""What features come to, computed the plain way: from all events that had arrived, with nothing kept, by the words of the definition."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from schemas.recommendations.definition import Feature

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
        return first + np.flatnonzero(self.arrived[first:last] < asked)


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
