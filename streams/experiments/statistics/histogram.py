"""Quantiles that merge: values counted in buckets, those of `streams.playback.minute`, exact up to 63 and within 1.6 % from there.

Merging counts is exact in any order, so a stream's quantile is the batch's. A unit may bring many values: then what matters is how units
differ in their share below the quantile, and that share, once the quantile is known, is a `Ratio` which merges like any other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from streams.experiments.statistics.distributions import Undefined
from streams.experiments.statistics.sufficient import ClusteredQuantile, Quantile, Ratio, ranks
from streams.playback.minute import bucket, middle


@dataclass(frozen=True)
class Histogram:
    """How many values lie in each bucket. Raises ValueError when a count is negative."""

    counts: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(count < 0 for count in self.counts.values()):
            raise ValueError("more values were taken away than there were")

    @classmethod
    def of(cls, values: Iterable[int]) -> Histogram:
        """From whole values, from 0 on."""
        counts: dict[int, int] = {}
        for value in values:
            if value < 0:
                raise ValueError(f"a value is {value!r}: buckets begin at 0")
            where = bucket(value)
            counts[where] = counts.get(where, 0) + 1
        return cls(counts)

    def __add__(self, other: Histogram) -> Histogram:
        return self._with(other, 1)

    def __sub__(self, other: Histogram) -> Histogram:
        return self._with(other, -1)

    def _with(self, other: Histogram, sign: int) -> Histogram:
        merged = {at: self.counts.get(at, 0) + sign * other.counts.get(at, 0) for at in self.counts.keys() | other.counts.keys()}
        return Histogram({at: count for at, count in merged.items() if count})

    @property
    def n(self) -> int:
        """How many values there are."""
        return sum(self.counts.values())

    def order(self, *wanted: int) -> list[float]:
        """The values of these ranks, 1 to n; a rank beyond is the nearest. Raises Undefined when there is no value."""
        if not self.counts:
            raise Undefined("a variation has no data")
        ordered = sorted(self.counts)
        upto = list(accumulate(self.counts[at] for at in ordered))
        return [middle(ordered[min(bisect_left(upto, rank), len(ordered) - 1)]) for rank in wanted]

    def at_most(self, value: float) -> int:
        """How many values lie at or below."""
        return sum(count for at, count in self.counts.items() if middle(at) <= value)

    def quantile(self, level: float) -> Quantile:
        """The quantile and where its interval lies."""
        return Quantile(*self._quantile(level))

    def clustered(self, level: float, below: Ratio) -> ClusteredQuantile:
        """The same where units bring many values each: `below` is `shares_below` of the units, at this quantile's estimate."""
        return ClusteredQuantile(*self._quantile(level), below)

    def _quantile(self, level: float) -> tuple[int, float, float, float, float, int]:
        estimate, low, high = self.order(*ranks(self.n, level))
        return self.n, level, estimate, low, high, self.n


def shares_below(units: Iterable[Histogram], value: float) -> Ratio:
    """Σ of how many of a unit's values lie at or below, over Σ of how many it has."""
    total = Ratio(0, 0, 0, 0, 0, 0)
    for unit in units:
        below, values = unit.at_most(value), unit.n
        total += Ratio(1, below, below * below, values, values * values, below * values)
    return total
