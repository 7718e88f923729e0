"""What a minute of qoe_minute counts, and how its histograms are read.

A histogram counts whole numbers by bucket. Buckets are exact up to 63; from there on each power of two is divided into 32 equal ones, as in
HdrHistogram (G. Tene). A bucket stands for its middle, so a value read back is within `RELATIVE_ERROR` of the one that was counted.
Everything is integers: histograms of parts add up to that of the whole, whichever way they are added.
"""

from __future__ import annotations

LATEST_MIN = 3
"""A report that took longer to arrive is not in the minutes (it is in its session, and on playback.report_late)."""

BITS = 6
"""Significant bits that a bucket tells."""

RELATIVE_ERROR = 1 / 2**BITS


def bucket(value: int) -> int:
    """The bucket of a value from 0 on."""
    shift = max(0, value.bit_length() - BITS)
    return (shift << BITS - 1) + (value >> shift)


def middle(bucket: int) -> float:
    """The value that a bucket stands for."""
    shift = _shift(bucket)
    return ((bucket - (shift << BITS - 1)) << shift) + ((1 << shift) - 1) / 2


def width(bucket: int) -> int:
    """How many values share the bucket."""
    return 1 << _shift(bucket)


def _shift(bucket: int) -> int:
    return max(0, (bucket >> BITS - 1) - 1)
