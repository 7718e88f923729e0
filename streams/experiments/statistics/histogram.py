"""Quantiles that merge: values counted in buckets, those of `streams.playback.minute`, exact up to 63 and within 1.6 % from there.

Merging counts is exact in any order, so a stream's quantile is the batch's. A unit may bring many values: then what matters is how units
differ in their share below the quantile, and that share, once the quantile is known, is a `Ratio` which merges like any other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from math import floor

from streams.experiments.statistics.distributions import Undefined
from streams.experiments.statistics.sufficient import ClusteredQuantile, Quantile, Ratio, ranks
from streams.playback.minute import bucket, middle, width


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

    @cached_property
    def _passed(self) -> tuple[list[int], list[int]]:
        """Buckets in order, and how many values lie up to the end of each."""
        ordered = sorted(self.counts)
        return ordered, list(accumulate(self.counts[at] for at in ordered))

    def order(self, rank: int) -> float:
        """The value of this rank, 1 to n; a rank beyond is the nearest. Raises Undefined when there is no value.

        The values of a bucket are taken to lie evenly in it: by its middle alone, two quantiles of one bucket would be the same, and how
        sure they are a matter of where buckets end.
        """
        if not self.counts:
            raise Undefined("a variation has no data")
        ordered, passed = self._passed
        place = min(bisect_left(passed, rank), len(ordered) - 1)
        at, count = ordered[place], self.counts[ordered[place]]
        within = min(max(rank - (passed[place] - count), 1), count)
        return middle(at) + width(at) * ((within - 0.5) / count - 0.5) if width(at) > 1 else middle(at)

    def at_most(self, value: float) -> int:
        """How many values lie in the buckets up to that of this value."""
        last = bucket(max(0, floor(value + 0.5)))
        return sum(count for at, count in self.counts.items() if at <= last)

    def quantile(self, level: float) -> Quantile:
        """The quantile and where its interval lies."""
        return Quantile(*self._quantile(level))

    def clustered(self, level: float, below: Ratio) -> ClusteredQuantile:
        """The same where units bring many values each: `below` is `shares_below` of the units, at this quantile's estimate."""
        return ClusteredQuantile(*self._quantile(level), below)

    def _quantile(self, level: float) -> tuple[int, float, float, float, float, int]:
        estimate, low, high = (self.order(rank) for rank in ranks(self.n, level))
        return self.n, level, estimate, low, high, self.n


def shares_below(units: Iterable[Histogram], value: float) -> Ratio:
    """Σ of how many of a unit's values lie at or below, over Σ of how many it has."""
    total = Ratio(0, 0, 0, 0, 0, 0)
    for unit in units:
        below, values = unit.at_most(value), unit.n
        total += Ratio(1, below, below * below, values, values * values, below * values)
    return total
