"""What to do about a range of which all, nothing or some is stored: after a crash, and after an answer that never came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


class StoredTwice(Exception):
    """Positions are in the table more than once: nothing the loader does can lead there, so it stops rather than guess."""


@dataclass(frozen=True)
class Found:
    """What is stored of a range: offsets in the landing table, repeats included; and what view targets lack of what their views yield."""

    offsets: Sequence[int]
    lacking: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What remains to be done. `missing` go into the landing table; `nothing_stored` tells a first try from a repair."""

    missing: Sequence[int]
    nothing_stored: bool
    lacking: Mapping[str, Sequence[int]]

    @property
    def complete(self) -> bool:
        """Whether nothing remains."""
        return not self.missing and not self.lacking


def judge(wanted: Iterable[int], found: Found) -> Verdict:
    """Compare what should be stored with what is. Raises StoredTwice."""
    stored = set(found.offsets)
    if len(stored) < len(found.offsets):
        twice = sorted(offset for offset, count in Counter(found.offsets).items() if count > 1)
        raise StoredTwice(f"{len(twice)} offsets are stored more than once, first {twice[0]}")
    missing = [offset for offset in wanted if offset not in stored]
    return Verdict(missing, nothing_stored=not stored, lacking={t: o for t, o in found.lacking.items() if o})
