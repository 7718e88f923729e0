"""A store, a group and a topic in memory, for driving a lane: everything a crash can leave behind, and nothing that a crash takes away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sinks.loader.lane import (
    Answer,
    Bury,
    Done,
    Effect,
    Fetch,
    Highest,
    Insert,
    Intend,
    Lane,
    Limits,
    Mend,
    Protocol,
    Refusal,
    Screen,
    Stored,
)  # fmt: skip
from sinks.loader.ranges import Committed, Range, intent_text, read_intent
from sinks.loader.recovery import Found


class Crash(Exception):
    """The loader was killed here."""


class Fenced(Exception):
    """The group has given the partition to another."""


@dataclass
class World:
    """One partition: its messages, what the group has committed, the table and a view target with their deduplication logs."""

    messages: Sequence[int]
    unreadable: frozenset[int] = frozenset()
    unstorable: frozenset[int] = frozenset()
    part_of: int = 1_000_000
    """Offsets of one `part_of`-long stretch share a table part: an insert is atomic and deduplicated per part, not as a whole."""
    offset: int = 0
    metadata: str = ""
    generation: int = 0
    rows: list[int] = field(default_factory=list)
    target: list[int] = field(default_factory=list)
    log: set[tuple[str, str, int]] = field(default_factory=set)
    letters: dict[int, Refusal] = field(default_factory=dict)

    def insert(self, offsets: Iterable[int], token: str, forget: bool = False, parts: int | None = None) -> None:
        """As ClickHouse does it: each part is logged, then written; `forget` leaves the log entry without the rows, `parts` ends early."""
        by_part: dict[int, list[int]] = {}
        for offset in offsets:
            by_part.setdefault(offset // self.part_of, []).append(offset)
        for number, (part, held) in enumerate(by_part.items()):
            if parts is not None and number >= parts:
                return
            for name, table in (("table", self.rows), ("target", self.target)):
                if (name, token, part) not in self.log:
                    self.log.add((name, token, part))
                    if not forget:
                        table += held


@dataclass
class Loader:
    """One incarnation: drives a lane against the world. `dies_at` counts effects; `dies_after` says whether the effect still happened."""

    world: World
    block_rows: int = 3
    dies_at: int | None = None
    dies_after: bool = False
    mishap: str = ""
    limits: Limits = field(default_factory=lambda: Limits(max_ratio=1.0, max_consecutive=1_000))
    recovering: bool = False
    effects: int = 0
    position: int = 0
    generation: int = 0
    lane: Lane | None = None
    trace: list[str] = field(default_factory=list)

    def start(self) -> Loader:
        """Join the group: what was committed is where we begin, and whoever had the partition before is stale."""
        self.world.generation += 1
        self.generation = self.world.generation
        self.position = self.world.offset
        protocol = Protocol("t", 0, self.limits, self.recovering)
        self.lane = protocol.run(Committed(self.world.offset, read_intent(self.world.metadata)))
        self.result: Any = None
        return self

    def run(self) -> None:
        """Until nothing is left to fetch. Raises Crash, Fenced."""
        while self.step():
            pass

    def step(self) -> bool:
        """One effect; False when the topic has nothing more."""
        assert self.lane is not None
        effect = self.lane.send(self.result)
        self.trace.append(type(effect).__name__)
        dying = self.dies_at == self.effects
        self.effects += 1
        if dying and not self.dies_after and not self.mishap:
            raise Crash
        if isinstance(effect, Fetch) and effect.through is None and not self._coming():
            return False
        self.result = self._perform(effect, self.mishap if dying else "")
        if dying:
            raise Crash
        return True

    def _coming(self) -> list[int]:
        return [m for m in self.world.messages if m >= self.position]

    def _perform(self, effect: Effect, mishap: str) -> Any:
        world = self.world
        match effect:
            case Highest():
                return max(world.rows, default=None)
            case Fetch(through):
                coming = self._coming()
                block = coming[: self.block_rows] if through is None else [m for m in coming if m <= through]
                self.position = block[-1] + 1 if block else self.position
                return block
            case Intend(stored):
                if self.generation != world.generation:
                    raise Fenced
                world.offset, world.metadata = stored.first, intent_text(stored)
            case Insert(offsets, token):
                return self._insert(offsets, token, mishap)
            case Stored(among):
                return self._stored(among)
            case Mend(_, offsets, _):
                world.target += offsets
            case Screen(offsets):
                return {o: Refusal("decode", "cut off") for o in offsets if o in world.unreadable}
            case Bury(letters):
                world.letters |= letters
            case Done(stored):
                if self.generation == world.generation:
                    world.offset, world.metadata = stored.last + 1, ""
        return None

    def _insert(self, offsets: Sequence[int], token: str, mishap: str) -> Answer | Refusal:
        if self.generation != self.world.generation:
            return Answer.STALE
        if refused := [o for o in offsets if o in self.world.unreadable | self.world.unstorable]:
            return Refusal("rejected_by_store", f"offset {refused[0]}")
        self.world.insert(offsets, token, forget=mishap == "forgets", parts=1 if mishap == "partly" else None)
        return Answer.UNKNOWN if mishap == "unclear" else Answer.STORED

    def _stored(self, among: Range) -> Found:
        rows = [o for o in self.world.rows if among.first <= o <= among.last]
        return Found(rows, {"target": sorted(set(rows) - set(self.world.target))})
