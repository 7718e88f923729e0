"""What is to be stored: a range of one partition, its deduplication token, and how the intent to store it is written down."""

from __future__ import annotations

import re
from dataclasses import dataclass

INTENT = re.compile(r"headrace-loader/1 (\d+)-(\d+)")


class UnreadableIntent(Exception):
    """The metadata of an offset commit was not written by this loader."""


@dataclass(frozen=True)
class Range:
    """The messages of a partition from offset `first` to `last`, both included. Transactions leave gaps in between."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True)
class Committed:
    """What the group knows of a partition: the next offset to read, and the range that was about to be stored from there."""

    offset: int
    intent: Range | None


def token(topic: str, partition: int, stored: Range, attempt: int = 0) -> str:
    """The deduplication token of an insert: the same messages under the same token are stored once, however often they are sent.

    `attempt` > 0 is for a range whose token the store remembers though its rows are gone.
    """
    return f"{topic}:{partition}:{stored}" + (f"#{attempt}" if attempt else "")


def intent_text(intended: Range | None) -> str:
    """The commit metadata that says what is about to be stored; empty when nothing is."""
    return f"headrace-loader/1 {intended}" if intended else ""


def read_intent(metadata: str | None) -> Range | None:
    """The inverse of `intent_text`. Raises UnreadableIntent."""
    if not metadata:
        return None
    match = INTENT.fullmatch(metadata)
    if match is None:
        raise UnreadableIntent(f"commit metadata {metadata!r} was written by something else: give that consumer a group of its own")
    return Range(int(match[1]), int(match[2]))
