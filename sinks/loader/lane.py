"""The protocol of one partition, as a generator of effects.

    Highest → Fetch → Intend → Insert → Done → Fetch → …            the way things go
    Intend → Insert(no answer) → Stored → Insert(missing) → …        until everything wanted is counted in the table
    Insert(refused) → Screen → Bury …                                what cannot be read or stored goes to the dead letters

A lane performs nothing itself. It yields an effect and is sent the result; an effect that has to wait for an outage to end
(store, registry, broker) waits, it never answers "refused". A lane that is closed at any yield, and begun anew from what the
group has committed, ends with every message stored once or buried: tests close it at each of them.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeAlias

from sinks.loader.ranges import Committed, Range, token
from sinks.loader.recovery import Found, judge

JUDGED_FROM = 100
"""A share of dead letters says something about a block of at least this many messages."""


@dataclass(frozen=True)
class Highest:
    """→ int | None: the highest offset of this partition in the landing table."""


@dataclass(frozen=True)
class Fetch:
    """→ Sequence[int]: the offsets of the next block, in order; with `through`, everything up to that offset that the topic still holds."""

    through: int | None = None


@dataclass(frozen=True)
class Intend:
    """→ None once the group's commit says that `stored` comes next. A lane whose partition has gone to another is closed here."""

    stored: Range


@dataclass(frozen=True)
class Insert:
    """→ Answer | Refusal. Store the messages at `offsets` under `token`."""

    offsets: Sequence[int]
    token: str


@dataclass(frozen=True)
class Stored:
    """→ Found: what of `among` is stored, once no insert of this partition is under way any more."""

    among: Range


@dataclass(frozen=True)
class Mend:
    """→ None. Bring the rows at `offsets` from the landing table through its view into `target`."""

    target: str
    offsets: Sequence[int]
    token: str


@dataclass(frozen=True)
class Screen:
    """→ Mapping[int, Refusal]: which of these messages cannot be read, by framing, schema id and decoding."""

    offsets: Sequence[int]


@dataclass(frozen=True)
class Bury:
    """→ None once the dead letters are acknowledged. Burying again is harmless: a letter is known by topic, partition and offset."""

    letters: Mapping[int, Refusal]


@dataclass(frozen=True)
class Done:
    """→ None. `stored` is finished; a later commit may move past it."""

    stored: Range


Effect: TypeAlias = Highest | Fetch | Intend | Insert | Stored | Mend | Screen | Bury | Done
Lane: TypeAlias = Generator[Effect, Any, None]


class Answer(Enum):
    """What came of an insert that was not refused."""

    STORED = "stored"
    UNKNOWN = "no answer, or one that does not say"
    STALE = "not sent: the intent is too old to be acted on without asking the group again"


@dataclass(frozen=True)
class Refusal:
    """Why a message is a dead letter: `reason` is one of the symbols of observability.dead_letter, `detail` says it in words."""

    reason: str
    detail: str


class Stopped(Exception):
    """The lane cannot go on by itself; the message says what to do."""


@dataclass
class Limits:
    """How many dead letters a partition may have before it stops instead of emptying the topic."""

    max_ratio: float
    max_consecutive: int
    consecutive: int = 0

    def note(self, offsets: Sequence[int], dead: Mapping[int, Refusal]) -> None:
        """Take notice of a block and its dead letters. Raises Stopped."""
        if not dead:
            self.consecutive = 0
            return
        first = min(dead)
        words = f"first offset {first}, {dead[first].reason}: {dead[first].detail}; mend the cause and start the loader again"
        if len(offsets) >= JUDGED_FROM and len(dead) > self.max_ratio * len(offsets):
            raise Stopped(f"{len(dead)} of {len(offsets)} messages cannot be stored, {words}")
        for offset in offsets:
            self.consecutive = self.consecutive + 1 if offset in dead else 0
            if self.consecutive > self.max_consecutive:
                raise Stopped(f"more than {self.max_consecutive} messages in a row cannot be stored, {words}")


@dataclass
class Protocol:
    """One partition of one topic. `recovering` declares that offsets at or below the highest stored may come again."""

    topic: str
    partition: int
    limits: Limits
    recovering: bool = False
    _dead: dict[int, Refusal] = field(default_factory=dict)

    def run(self, committed: Committed) -> Lane:
        """The lane from what the group has committed on, for ever. Raises Stopped, StoredTwice."""
        stored: int | None = yield Highest()
        highest = -1 if stored is None else stored
        known = committed.intent.last if committed.intent else committed.offset - 1
        if highest > known and not self.recovering:
            raise Stopped(
                f"offset {known + 1} comes next, but rows up to {highest} are stored: the group's offsets were lost or the topic was "
                f"made anew. `python -m sinks.loader --recover {self.topic}` loads what is missing; a new topic wants a new namespace"
            )
        if committed.intent is not None:
            offsets: Sequence[int] = yield Fetch(committed.intent.last)
            if offsets:
                yield from self._settle(committed.intent, offsets)
            yield Done(committed.intent)
        while True:
            offsets = yield Fetch()
            block = Range(offsets[0], offsets[-1])
            yield Intend(block)
            if block.first <= highest:
                yield from self._settle(block, offsets)
            else:
                yield from self._store(block, offsets)
            yield Done(block)

    def _store(self, block: Range, offsets: Sequence[int]) -> Lane:
        """A block whose token was never used before: one insert, and no counting if the answer is clear."""
        answer = yield from self._insert(block, offsets, token(self.topic, self.partition, block))
        if answer is Answer.STORED:
            self.limits.note(offsets, {})
        else:
            yield from self._settle(block, offsets, refused=isinstance(answer, Refusal))

    def _settle(self, block: Range, offsets: Sequence[int], refused: bool = False) -> Lane:
        """Count and insert until each message is stored or known to be dead, then bury the dead.

        The block's own token is offered only while nothing is stored. If nothing is there after that either, the store remembers
        the token without the rows, and each further attempt has a token of its own.
        """
        self._dead = {}
        attempt = 0
        while True:
            if refused:
                yield from self._find_dead(block, offsets)
            found: Found = yield Stored(block)
            verdict = judge((o for o in offsets if o not in self._dead), found)
            if verdict.complete:
                break
            if verdict.missing:
                attempt = max(attempt, 0 if verdict.nothing_stored and not self._dead else 1)
                answer = yield from self._insert(block, verdict.missing, token(self.topic, self.partition, block, attempt))
                refused = isinstance(answer, Refusal)
            for target, lacking in verdict.lacking.items():
                yield Mend(target, lacking, f"{token(self.topic, self.partition, block, attempt)}>{target}")
            attempt += 1
        self.limits.note(offsets, self._dead)
        if self._dead:
            yield Bury(dict(self._dead))

    def _find_dead(self, block: Range, offsets: Sequence[int]) -> Lane:
        """Name the messages that were refused: those that nobody could read, or, by halving, what the store alone refuses."""
        doubtful = [o for o in offsets if o not in self._dead]
        unread: Mapping[int, Refusal] = yield Screen(doubtful)
        self._dead |= unread
        if unread:
            replace(self.limits).note(offsets, self._dead)
            return
        in_a_row = self.limits.consecutive
        parts = [doubtful]
        while parts:
            part = parts.pop()
            answer = yield from self._insert(block, part, token(self.topic, self.partition, Range(part[0], part[-1])))
            if isinstance(answer, Refusal) and len(part) > 1:
                half = len(part) // 2
                parts += [part[half:], part[:half]]
            elif isinstance(answer, Refusal):
                self._dead[part[0]] = answer
                in_a_row += 1
                if in_a_row > self.limits.max_consecutive:
                    raise Stopped(f"more than {self.limits.max_consecutive} messages in a row are refused by the store: {answer.detail}")
            elif answer is Answer.STORED:
                in_a_row = 0
            else:
                return

    def _insert(self, block: Range, offsets: Sequence[int], name: str) -> Generator[Effect, Any, Answer | Refusal]:
        """Insert, asking the group again as often as the intent has become too old."""
        answer: Answer | Refusal = yield Insert(offsets, name)
        while answer is Answer.STALE:
            yield Intend(block)
            answer = yield Insert(offsets, name)
        return answer
