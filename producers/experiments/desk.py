"""What is done to definitions: publish, withdraw, start, stop, ship, roll back; each gives the events that say so. Pure.

Definitions as they are now, those of everybody together, are what a change is held against: it is refused, with a line for each reason,
where the definitions would not go together after it, where a metric could not be measured, or where something that runs would change
silently (`schemas.allocation.definition`).

A file says how an experiment begins. From then on its `state` is what commands made of it, whatever the file says, until its `phase` rises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from schemas.allocation.definition import (
    KINDS,
    LIVE,
    AnyDefinition,
    DefinitionError,
    Experiment,
    changes,
    dump,
    load,
    problems,
)
from schemas.allocation.measurable import unmeasurable
from schemas.catalogue import Catalogue

Action = Literal["PUBLISH", "START", "STOP", "SHIP", "ROLL_BACK", "WITHDRAW"]
Change = dict[str, Any]
"""An `experiments.definition` without envelope; `experiments.change` is the same."""


class Refused(ValueError):
    """What was asked is not done; `reasons` has a line each."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = tuple(reasons)


@dataclass(frozen=True)
class Desk:
    """Definitions as they are, and who changes them.

    `standing` is the newest event of each item, `history` every change in order. Every method raises Refused.
    """

    standing: Mapping[str, Change]
    history: Sequence[Change]
    catalogue: Catalogue
    author: str
    reason: str = ""

    @property
    def defined(self) -> dict[str, AnyDefinition]:
        """By item; without what is withdrawn. Raises Refused where the topic holds what no definition is."""
        try:
            return {item: load(change["document"], item) for item, change in sorted(self.standing.items()) if change["document"]}
        except DefinitionError as error:
            raise Refused([f"on experiments.definition: {problem}" for problem in error.problems]) from None

    def publish(self, definitions: Iterable[AnyDefinition]) -> list[Change]:
        """What differs from what is there. Definitions of others stay as they are."""
        before = self.defined
        news = {_item(one): _kept(before.get(_item(one)), one) for one in definitions}
        return self._changed("PUBLISH", {item: one for item, one in news.items() if item not in before or dump(before[item]) != dump(one)})

    def withdraw(self, item: str) -> list[Change]:
        """The item is no longer there."""
        if self._one(item).kind == "experiment":
            one = self._experiment(item)
            if one.state in ("running", "shipped"):
                raise Refused([f"experiment {one.key} is {one.state}: stop it before it is withdrawn"])
        return self._changed("WITHDRAW", {item: None})

    def start(self, key: str) -> list[Change]:
        """It deals from now on."""
        one = self._in_state(key, "started", "draft", "stopped")
        return self._changed("START", {_item(one): _with_state(one, "running")})

    def stop(self, key: str) -> list[Change]:
        """Everybody gets the default from now on; what was measured stays."""
        one = self._in_state(key, "stopped", "running", "shipped")
        return self._changed("STOP", {_item(one): _with_state(one, "stopped")})

    def ship(self, key: str, variation: str) -> list[Change]:
        """Everybody whom the experiment means gets `variation`."""
        one = self._in_state(key, "shipped", "running", "stopped", "shipped")
        return self._changed("SHIP", {_item(one): _with_state(one, "shipped", variation)})

    def roll_back(self, item: str) -> list[Change]:
        """The item is what it was before its last change, and before the ones that were rolled back already.

        What has dealt to units cannot become a draft again: before its start it is stopped.
        """
        now = self._one(item)
        by_version = {change["version"]: change for change in self.history if change["item"] == item}
        last = self.standing[item]["version"]
        while (told := by_version.get(last)) is not None and told["undoes"] is not None:
            last = told["undoes"]
        earlier = max((version for version in by_version if version < last), default=None)
        if earlier is None or not by_version[earlier]["document"]:
            raise Refused([f"{item} was nothing before version {last}: withdraw it" if earlier is None else f"{item} was withdrawn before"])
        was = load(by_version[earlier]["document"], item)
        if isinstance(was, Experiment) and isinstance(now, Experiment) and was.state == "draft" and now.state in LIVE:
            was = _with_state(was, "stopped")
        return self._changed("ROLL_BACK", {item: was}, undoes=earlier)

    def audit(self, item: str) -> list[tuple[Change, list[str]]]:
        """Each change of the item, oldest first, and what it changed, as `field: before → after`."""
        found: list[tuple[Change, list[str]]] = []
        before: dict[str, Any] = {}
        for change in (change for change in self.history if change["item"] == item):
            after = load(change["document"], item).model_dump(mode="json", by_alias=True) if change["document"] else {}
            names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
            told = [f"{name}: {before.get(name)!r} → {after.get(name)!r}" for name in names] if before and after else []
            found.append((change, told))
            before = after
        if not found:
            raise Refused([f"nothing was ever done to {item}"])
        return found

    def _one(self, item: str) -> AnyDefinition:
        defined = self.defined
        if item not in defined:
            kind, _, key = item.partition("/")
            there = ", ".join(other.partition("/")[2] for other in defined if other.startswith(f"{kind}/")) or "none"
            raise Refused([f"there is no {kind} {key}; there are: {there}"])
        return defined[item]

    def _experiment(self, item: str) -> Experiment:
        one = self._one(item)
        assert isinstance(one, Experiment)  # by its item
        return one

    def _in_state(self, key: str, to: str, *states: str) -> Experiment:
        one = self._experiment(f"experiment/{key}")
        if one.state not in states:
            raise Refused([f"experiment {key} is {one.state}; {' or '.join(states)} is what can be {to}"])
        return one

    def _changed(self, action: Action, news: Mapping[str, AnyDefinition | None], undoes: int | None = None) -> list[Change]:
        """The events of a change that nothing speaks against, each kind after those that it is made of."""
        before = self.defined
        after = [one for item, one in {**before, **news}.items() if one is not None]
        again = [one for item in news if item not in before and (one := self._last(item)) is not None]
        if wrong := [*problems(after), *unmeasurable(after, self.catalogue), *changes([*before.values(), *again], after)]:
            raise Refused(wrong)
        return [self._event(action, item, one, undoes) for item, one in sorted(news.items(), key=_built)]

    def _last(self, item: str) -> AnyDefinition | None:
        """What a withdrawn item was: its units were told, so it may come again only as it was, or dealt anew."""
        told = next((change["document"] for change in reversed(self.history) if change["item"] == item and change["document"]), None)
        return load(told, item) if told is not None else None

    def _event(self, action: Action, item: str, one: AnyDefinition | None, undoes: int | None) -> Change:
        kind, _, key = item.partition("/")
        told = [change["version"] for change in (*self.history, *self.standing.values()) if change["item"] == item]
        return {
            "item": item, "kind": kind, "key": key, "version": max(told, default=0) + 1, "action": action,
            "document": "" if one is None else dump(one), "author": self.author, "reason": self.reason, "undoes": undoes,
        }  # fmt: skip


def _item(one: AnyDefinition) -> str:
    return f"{one.kind}/{one.key}"


def _built(new: tuple[str, AnyDefinition | None]) -> tuple[int, str]:
    """Order of telling: who folds event by event meets a kind after those that it is made of; what goes, goes the other way round."""
    place = KINDS.index(new[0].partition("/")[0])
    return (place if new[1] is not None else -place), new[0]


def _kept(before: AnyDefinition | None, now: AnyDefinition) -> AnyDefinition:
    """`now`, in the state that commands gave it, unless it is dealt anew."""
    if not (isinstance(before, Experiment) and isinstance(now, Experiment)) or now.phase > before.phase:
        return now
    alike = (now.state, now.shipped) == (before.state, before.shipped)
    return now if alike else _with_state(now, before.state, before.shipped)


def _with_state(one: Experiment, state: str, shipped: str | None = None) -> Experiment:
    """As a file that says so would define it."""
    written = one.model_dump(mode="json", by_alias=True, exclude_unset=True) | {"state": state}
    written.pop("shipped", None)
    return Experiment.model_validate(written | ({"shipped": shipped} if shipped is not None else {}))
