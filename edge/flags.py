"""What a member's flags give at the press of play: `experiments.definition` folded into one table, decided in memory, exposures told.

A member's flags depend on the definitions, his pseudonym and what his player says of itself, on nothing that is drawn or remembered: he
keeps his variation for as long as the experiment deals as it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.outbox import Outbox
from schemas.allocation.definition import (
    HOLDOUT,
    KINDS,
    AnyDefinition,
    DefinitionError,
    load,
    problems,
)
from schemas.allocation.engine import Context
from schemas.allocation.play import Allocation
from streams.folded import Folded, Unfit

TOPIC = "experiments.exposure"
New = AnyDefinition | None
"""What a definition is from now on; None: withdrawn."""


class Defined:
    """Definitions that go together, what follows from them, and those that wait for others to make sense."""

    def __init__(self) -> None:
        self.accepted: dict[str, AnyDefinition] = {}
        self.allocation = Allocation.of([])
        self.waiting: dict[str, New] = {}
        self.new: set[str] = set()
        """Items of those that came since it was last settled."""

    def __len__(self) -> int:
        return len(self.accepted)


class Definitions(Folded[Defined]):
    """Flags, experiments and what they are made of, as they are now. What does not go with the rest is left out until it does."""

    topic = "experiments.definition"

    def new(self) -> Defined:
        """Nothing is defined."""
        return Defined()

    def into(self, table: Defined, record: Mapping[str, Any]) -> None:
        """Take one `experiments.definition`. Raises Unfit."""
        item, document = record["item"], record["document"]
        new: New = None
        if item.partition("/")[0] not in KINDS:
            raise Unfit(f"experiments.definition {item!r}: kinds are {', '.join(KINDS)}")
        if document:
            try:
                new = load(document, f"experiments.definition {item!r}")
            except DefinitionError as error:
                raise Unfit(f"{error}; it stays as it was") from None
            if item != f"{new.kind}/{new.key}":
                raise Unfit(f"experiments.definition {item!r}: its document defines {new.kind}/{new.key}; both stay as they were")
        table.waiting[item] = new
        table.new.add(item)

    def settle(self, table: Defined) -> None:
        """Accept what waits, as much of it as goes together with what is accepted."""
        if not table.new:
            return
        # Each kind after those that it is made of; of one kind, who came first comes first.
        table.waiting = dict(sorted(table.waiting.items(), key=lambda new: KINDS.index(new[0].partition("/")[0])))
        before = len(table.waiting) + 1
        while table.waiting and len(table.waiting) < before:  # what was left out may go with what was accepted after it
            before = len(table.waiting)
            table.accepted, table.waiting = _joined(table.accepted, table.waiting)
        table.allocation = Allocation.of(list(table.accepted.values()), checked=True)
        for item in sorted(table.new & table.waiting.keys()):
            self.refused += 1
            wrong = problems(_with(table.accepted, {item: table.waiting[item]}).values())
            self._log.error("a definition is left out until it goes with the others", item=item, reason="; ".join(wrong))
        table.new = set()


@dataclass
class Flags:
    """Decides for members and tells what they are exposed to; waits for nothing."""

    definitions: Definitions
    outbox: Outbox

    def give(self, attributes: Mapping[str, Any], sid: str, at_ms: int, correlation_id: str, experiments: bool = True) -> dict[str, Any]:
        """The value of each flag for who presses play, who is thereby exposed; of none while the definitions have not been read.

        `attributes` has his pseudonym as `member_id`. Without `experiments` he is in none. Holdouts are our own business and not among the
        flags.
        """
        if not self.definitions.caught_up:
            return {}
        allocation = self.definitions.table.allocation
        decided = allocation.table.decide_all(Context(attributes, at_ms, experiments=experiments), allocation.flags)
        for exposure in allocation.exposures(decided.values(), attributes):
            self.outbox.put({**exposure, "sid": sid}, at_ms, correlation_id)
        return {flag: decision.value for flag, decision in decided.items() if not flag.startswith(HOLDOUT)}


def _joined(accepted: dict[str, AnyDefinition], news: dict[str, New]) -> tuple[dict[str, AnyDefinition], dict[str, New]]:
    """What is accepted with as many of `news` as go with it, taken all at once or else by halves, and those that do not."""
    together = _with(accepted, news)
    if not problems(together.values()):
        return together, {}
    if len(news) == 1:
        return accepted, news
    items = list(news)
    left: dict[str, New] = {}
    for half in (items[: len(items) // 2], items[len(items) // 2 :]):
        accepted, waiting = _joined(accepted, {item: news[item] for item in half})
        left |= waiting
    return accepted, left


def _with(accepted: Mapping[str, AnyDefinition], news: Mapping[str, New]) -> dict[str, AnyDefinition]:
    return {item: one for item, one in {**accepted, **news}.items() if one is not None}
