"""The one engine: a table of flags, and what a unit gets from it.

A table is plain JSON, the same for this engine, for `edge/board/static/flags.js` and on the wire:

    {"groups": {name: [value, …]},
     "flags": {key: {"default": value, "rules": [rule, …]}}}

A rule is tried when the ones before it have not decided:

    requires    [{"flag", "condition", "gate"}]  prerequisites: what other flags must give, asked of {"value": …}; a failed gate turns the
                                                 flag off (null), any other failure skips the rule
    filters     [split, …]                       the unit must lie in every one: holdouts
    entry       {"filters", "condition", "requires"}  the same, but only for who is not in the experiment already (sticky)
    value       what the flag gives; with a `split`, to the units in it: a rollout. Without value and experiment a rule is only a gate
    experiment  name; with `variations` [{"key", "value", "name", "passthrough"}] and a `split` of one range per variation: an experiment.
                `forced` {unit: variation's index}, `force` index, `active` false, `stopped` true,
                `sticky` {"version", "oldest", "units": [attribute, …]}, found again by the variations' own keys; `passthrough`: the unit
                is counted and goes on to the next rule
    id          a name for what decided

A split says where a unit lies: `hash` (see `hashing.position`), `salt`, `units` (attributes, the first that is there), `scale`, `ranges`
[[from, below], …]; `ramp` [[from_ms, ranges], …] replaces them by time; `strata` [{"condition", "ranges", "label"}] by whom (the first
that is met), which is how a contextual bandit gives each context its own weights.

A range grows at its end only: who was in stays in, in the same variation (`ranges`). Layers, which never share a unit's fate, are splits
with different salts: D. Tang, A. Agarwal, D. O'Brien, M. Meyer, "Overlapping Experiment Infrastructure", KDD 2010.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from schemas.allocation import hashing
from schemas.allocation import javascript as js
from schemas.allocation.conditions import Attributes, Condition, compile_condition

Reason = Literal["default", "unknown", "prerequisite", "cycle", "rollout", "experiment"]
Range = tuple[float, float]
Ranges = Sequence[Range]


@dataclass(frozen=True, slots=True)
class Context:
    """Who asks, and what is known about them.

    `at_ms` is the time for ramps, in milliseconds since 1970. `forced` gives an experiment's variation by its index, whatever the rules
    say. `assignments` are the sticky ones, `attribute||unit` → `experiment__version` → variation's key; None where nobody keeps them.
    `experiments` false takes the unit out of every experiment, `only_forced` out of every one that is not forced (quality assurance).
    """

    attributes: Attributes
    at_ms: int = 0
    forced: Mapping[str, int] = field(default_factory=dict)
    assignments: Mapping[str, Mapping[str, str]] | None = None
    experiments: bool = True
    only_forced: bool = False


class Exposure(NamedTuple):  # a tuple, like Decision: made in a fifth of a frozen dataclass's time
    """What an experiment did with a unit. `variation` is 0 and `inside` false for who is not in it.

    `hashed`: by the hash or an earlier assignment, so that it counts; a forced one does not. `unit` is the attribute's value as it was
    given, `position` where it lies, `label` the stratum. `remember` is what to keep: (attribute||unit, experiment__version, key).
    """

    experiment: str
    variation: int
    key: str
    value: Any
    inside: bool
    hashed: bool
    attribute: str
    unit: Any
    position: float | None = None
    sticky: bool = False
    passthrough: bool = False
    name: str | None = None
    label: Any = None
    remember: tuple[str, str, str] | None = None


class Decision(NamedTuple):
    """What a flag gives a unit, why, and the exposures on the way: prerequisites' and those passed through, last the one that decided."""

    flag: str
    value: Any
    reason: Reason
    rule: str = ""
    exposures: tuple[Exposure, ...] = ()

    @property
    def exposure(self) -> Exposure | None:
        """The experiment that decided, if one did."""
        return self.exposures[-1] if self.reason == "experiment" else None


class TableError(ValueError):
    """The table cannot be read; the text says where."""


def ranges(weights: Sequence[float], coverage: float = 1.0) -> list[Range]:
    """One range per weight, shape (len(weights),), each at its place and `coverage` of its length; the whole has length 1.

    Growing coverage lengthens every range at its end, so nobody changes variation.
    """
    found, begin = [], 0.0
    for weight in weights:
        found.append((begin, begin + coverage * weight))
        begin += weight
    return found


def choose(position: float, ranges: Ranges) -> int:
    """The index of the range that holds `position`; -1 where none does."""
    for index, (begin, below) in enumerate(ranges):
        if begin <= position < below:
            return index
    return -1


class _Asked:
    """What one question, or all about one context, has found: exposures, units by their attributes, and places by spot."""

    __slots__ = ("attributes", "context", "met", "places", "simple", "units")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.attributes = context.attributes
        self.simple = context.experiments and not context.forced and not context.only_forced
        self.met: list[Exposure] = []
        self.units: dict[tuple[str, ...], tuple[str, Any]] = {}
        self.places: dict[int, float] = {}


class _Spots:
    """Numbers what splits have in common: who lies where under which salt is computed once a question, whichever splits ask."""

    MANY = 4
    """From so many salts on, all at once are faster than one by one."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[tuple[str, ...], str, str, int], int] = {}
        self._together: list[tuple[tuple[str, ...], tuple[int, ...], hashing.Lanes]] = []

    def number(self, units: tuple[str, ...], kind: str, salt: str, scale: int) -> int:
        """The spot of these units under this hash."""
        return self._numbers.setdefault((units, kind, salt, scale), len(self._numbers))

    def close(self) -> None:
        """All splits have their spots: prepare to ask for all at once."""
        salts: dict[tuple[str, ...], dict[str, int]] = {}
        for (units, kind, salt, _), spot in self._numbers.items():
            if kind == "murmur3":
                salts.setdefault(units, {})[salt] = spot
        self._together = [
            (units, tuple(found.values()), hashing.Lanes(list(found))) for units, found in salts.items() if len(found) >= self.MANY
        ]

    def fill(self, asked: _Asked) -> None:
        """Find all places that are found together."""
        for units, spots, lanes in self._together:
            _, unit = _unit(units, asked)
            if unit != "":
                asked.places.update(zip(spots, lanes(unit if isinstance(unit, str) else js.text(unit)), strict=True))


def _unit(units: tuple[str, ...], asked: _Asked) -> tuple[str, Any]:
    """The attribute that names the unit and its value; the first attribute and "" where none is there."""
    found = asked.units.get(units)
    if found is None:
        found = units[0], ""
        for attribute in units:
            value = asked.attributes.get(attribute)
            if value and (value.__class__ is str or js.truthy(value)):
                found = attribute, value
                break
        asked.units[units] = found
    return found


class Split:
    """Where a unit lies among ranges."""

    __slots__ = ("_moves", "_position", "_ramp", "_ranges", "_strata", "spot", "units")

    def __init__(self, split: Mapping[str, Any], groups: Mapping[str, Sequence[Any]], strict: bool, spots: _Spots) -> None:
        self.units: tuple[str, ...] = tuple(split.get("units") or ("id",))
        kind, salt, scale = split.get("hash", "murmur3"), split.get("salt", ""), split.get("scale", hashing.SPACE)
        self.spot = spots.number(self.units, kind, salt, scale)
        self._position = hashing.position(kind, salt, scale)
        if self._position is None and strict:
            raise TableError(f"there is no hash {kind!r}")
        self._ranges: Ranges = [(begin, below) for begin, below in split["ranges"]]
        self._ramp = sorted((from_ms, [(begin, below) for begin, below in steps]) for from_ms, steps in split.get("ramp") or ())
        self._strata = [
            (compile_condition(one.get("condition") or {}, groups, strict), [tuple(pair) for pair in one["ranges"]], one.get("label"))
            for one in split.get("strata") or ()
        ]
        self._moves = bool(self._ramp or self._strata)

    def position(self, asked: _Asked) -> float | None:
        """Where the unit lies; None where there is no unit, or under a hash that is not known."""
        found = asked.places.get(self.spot)
        if found is None and self._position is not None:
            _, unit = _unit(self.units, asked)
            if unit != "":
                found = asked.places[self.spot] = self._position(unit if isinstance(unit, str) else js.text(unit))
        return found

    def place(self, position: float, context: Context) -> tuple[int, Any]:
        """Index of the range, -1 for none, and the label of the stratum that gave the ranges."""
        if not self._moves:
            for index, (begin, below) in enumerate(self._ranges):
                if begin <= position < below:
                    return index, None
            return -1, None
        label, found = None, self._ranges
        for from_ms, step in self._ramp:
            if from_ms > context.at_ms:
                break
            found = step
        for condition, theirs, name in self._strata:
            if condition(context.attributes):
                label, found = name, theirs
                break
        return choose(position, found), label

    def holds(self, asked: _Asked) -> bool:
        """Whether the unit lies in any of the ranges; false where there is no unit."""
        position = asked.places.get(self.spot)
        if position is None and (position := self.position(asked)) is None:
            return False
        if self._moves:
            return self.place(position, asked.context)[0] >= 0
        for begin, below in self._ranges:  # noqa: SIM110 — as in conditions
            if begin <= position < below:
                return True
        return False


@dataclass(frozen=True, slots=True)
class _Requirement:
    flag: str
    condition: Condition
    gate: bool


@dataclass(frozen=True, slots=True)
class _Variation:
    key: str
    own_key: str | None
    value: Any
    name: str | None
    passthrough: bool


@dataclass(frozen=True, slots=True)
class _Rule:
    id: str
    requires: tuple[_Requirement, ...]
    filters: Callable[[_Asked], bool] | None
    entry_filters: Callable[[_Asked], bool] | None
    condition: Condition | None
    entry_requires: tuple[_Requirement, ...]
    decides: bool
    value: Any
    split: Split | None
    experiment: str | None
    variations: tuple[_Variation, ...]
    forced: Mapping[str, int]
    force: int | None
    active: bool
    stopped: bool
    sticky: Mapping[str, Any] | None
    simple: bool
    """By hash alone: nobody is forced, nothing is off, no assignment is kept."""


class Table:
    """A table, read once; `decide` is pure and takes microseconds."""

    SHARE = 4
    """From one flag in so many on, all places of a unit are worth finding at once."""

    def __init__(self, table: Mapping[str, Any], strict: bool = True) -> None:
        """Raises TableError and ConditionError for what cannot be read; not `strict`, what cannot be meant is never met."""
        self._strict, self._groups, self._spots = strict, table.get("groups") or {}, _Spots()
        self._flags: dict[str, tuple[Any, tuple[_Rule, ...]]] = {}
        if not isinstance(table.get("flags"), Mapping):
            raise TableError("a table has `flags`, a mapping of keys to flags")
        for key, flag in table["flags"].items():
            try:
                self._flags[key] = flag.get("default"), tuple(map(self._rule, flag.get("rules") or ()))
            except (KeyError, TypeError, AttributeError) as error:
                raise TableError(f"flag {key!r} cannot be read: {type(error).__name__} {error}") from None
        self._spots.close()

    @property
    def flags(self) -> list[str]:
        """The keys of all flags."""
        return list(self._flags)

    def decide(self, flag: str, context: Context) -> Decision:
        """What `flag` gives; reason `unknown` and value None for a flag that the table does not have."""
        return self._decide(flag, _Asked(context), ())

    def decide_all(self, context: Context, flags: Collection[str] | None = None) -> dict[str, Decision]:
        """What every flag gives, or each of `flags`. Faster than one by one: where the unit lies under a salt is computed once."""
        asked, found = _Asked(context), {}
        wanted: Collection[str] = self._flags if flags is None else flags
        if len(wanted) * self.SHARE >= len(self._flags):  # of a few flags in many the places are found as they are asked for
            self._spots.fill(asked)
        for flag in wanted:
            asked.met = []
            found[flag] = self._decide(flag, asked, ())
        return found

    def run(self, flag: str, context: Context) -> Exposure:
        """What the first experiment of `flag` does with the unit, whatever stands around it. Raises KeyError where there is none."""
        rule = next((rule for rule in self._flags[flag][1] if rule.experiment is not None), None)
        if rule is None:
            raise KeyError(f"flag {flag!r} has no experiment")
        return self._expose(rule, _Asked(context), (), flag)

    def run_rule(self, rule: Mapping[str, Any], context: Context) -> Exposure:
        """What an experiment that stands in no flag does with the unit; flags that it requires are the table's. Raises TableError."""
        if "experiment" not in rule:
            raise TableError(f"rule {rule.get('id') or ''!r} is no experiment")
        return self._expose(self._rule(rule), _Asked(context), (), "")

    def _decide(self, flag: str, asked: _Asked, above: tuple[str, ...]) -> Decision:
        if flag in above:
            return Decision(flag, None, "cycle")
        if flag not in self._flags:
            return Decision(flag, None, "unknown")
        default, rules = self._flags[flag]
        for rule in rules:
            if rule.requires:
                failed = self._failed(rule.requires, asked, (*above, flag))
                if failed == "cycle" or failed == "prerequisite":
                    return Decision(flag, None, failed, "", tuple(asked.met))
                if failed:
                    continue
            if rule.filters is not None and not rule.filters(asked):
                continue
            if rule.experiment is None:
                if not rule.decides:
                    continue
                if rule.condition is not None and not rule.condition(asked.attributes):
                    continue
                if rule.split is not None and not rule.split.holds(asked):
                    continue
                return Decision(flag, rule.value, "rollout", rule.id, tuple(asked.met))
            exposure = self._expose(rule, asked, above, flag)
            if exposure.inside:
                asked.met.append(exposure)
                if not exposure.passthrough:
                    return Decision(flag, exposure.value, "experiment", rule.id, tuple(asked.met))
        return Decision(flag, default, "default", "", tuple(asked.met))

    def _failed(
        self, requires: tuple[_Requirement, ...], asked: _Asked, above: tuple[str, ...]
    ) -> Literal["", "cycle", "prerequisite", "skip"]:
        """ "" where all prerequisites hold; else why not (`prerequisite` is a gate)."""
        for require in requires:
            decision = self._decide(require.flag, asked, above)
            if decision.reason == "cycle":
                return "cycle"
            if not require.condition({"value": decision.value}):
                return "prerequisite" if require.gate else "skip"
        return ""

    def _expose(self, rule: _Rule, asked: _Asked, above: tuple[str, ...], flag: str) -> Exposure:
        split, name, context = rule.split, rule.experiment, asked.context
        assert split is not None  # _rule sees to both
        assert name is not None
        attribute, unit = _unit(split.units, asked)
        index, blocked = -1, False
        simple = rule.simple and asked.simple and unit != ""  # most have nothing of the kind, and are asked about on every request
        if not simple:
            if len(rule.variations) < 2 or not context.experiments:
                return _outside(rule, attribute, unit)
            if name in context.forced:
                return _outcome(rule, context.forced[name], attribute, unit)
            if not rule.active or unit == "":
                return _outside(rule, attribute, unit)
            if (forced := rule.forced.get(js.text(unit))) is not None:
                return _outcome(rule, forced, attribute, unit)
            if rule.sticky is not None and context.assignments is not None:
                index, blocked = _remembered(rule, context)
        found = index >= 0
        if not found and not (
            (rule.condition is None or rule.condition(asked.attributes))
            and (rule.entry_filters is None or rule.entry_filters(asked))
            and (not rule.entry_requires or not self._failed(rule.entry_requires, asked, (*above, flag)))
        ):
            return _outside(rule, attribute, unit)
        position = asked.places.get(split.spot)
        if position is None and (position := split.position(asked)) is None:
            return _outside(rule, attribute, unit)
        placed, label = split.place(position, context)
        if not found:
            index = placed
        if blocked or index < 0:
            return _outside(rule, attribute, unit, blocked)
        one, remember = rule.variations[index], None
        if not simple:
            if rule.force is not None:
                return _outcome(rule, rule.force, attribute, unit)
            if context.only_forced or rule.stopped:
                return _outside(rule, attribute, unit)
            if rule.sticky is not None and context.assignments is not None:
                document, version = f"{attribute}||{js.text(unit)}", f"{name}__{rule.sticky.get('version') or 0}"
                if (context.assignments.get(document) or {}).get(version) != one.key:
                    remember = document, version, one.key
        return tuple.__new__(  # half of the time that the class takes to order its arguments
            Exposure,
            (name, index, one.key, one.value, True, True, attribute, unit, position, found, one.passthrough, one.name, label, remember),
        )

    def _rule(self, rule: Mapping[str, Any]) -> _Rule:
        entry = rule.get("entry") or {}
        split = rule.get("split")
        variations = tuple(
            _Variation(str(one.get("key") or index), one.get("key"), one.get("value"), one.get("name"), bool(one.get("passthrough")))
            for index, one in enumerate(rule.get("variations") or ())
        )
        if "experiment" in rule and (split is None or not variations):
            raise TableError(f"experiment {rule['experiment']!r} has no split or no variations")
        condition = entry.get("condition")
        forced, force, sticky = rule.get("forced") or {}, rule.get("force"), rule.get("sticky")
        active, stopped = rule.get("active", True), rule.get("stopped", False)
        return _Rule(
            id=rule.get("id") or "",
            requires=self._requires(rule.get("requires")),
            filters=_in_all([self._split(split) for split in rule.get("filters") or ()]),
            entry_filters=_in_all([self._split(split) for split in entry.get("filters") or ()]),
            condition=compile_condition(condition, self._groups, self._strict) if condition else None,
            entry_requires=self._requires(entry.get("requires")),
            decides="value" in rule,
            value=rule.get("value"),
            split=self._split(split) if split is not None else None,
            experiment=rule.get("experiment"),
            variations=variations,
            forced=forced,
            force=force,
            active=active,
            stopped=stopped,
            sticky=sticky,
            simple=len(variations) > 1 and active and not stopped and not forced and force is None and sticky is None,
        )

    def _split(self, split: Mapping[str, Any]) -> Split:
        return Split(split, self._groups, self._strict, self._spots)

    def _requires(self, requires: Any) -> tuple[_Requirement, ...]:
        return tuple(
            _Requirement(one["flag"], compile_condition(one.get("condition") or {}, None, self._strict), bool(one.get("gate")))
            for one in requires or ()
        )


def _outcome(rule: _Rule, index: int, attribute: str, unit: Any) -> Exposure:
    """Variation `index` without the hash; outside where there is no such variation."""
    if not 0 <= index < len(rule.variations):
        return _outside(rule, attribute, unit)
    one = rule.variations[index]
    return Exposure(rule.experiment or "", index, one.key, one.value, True, False, attribute, unit, None, False, one.passthrough, one.name)


def _outside(rule: _Rule, attribute: str, unit: Any, sticky: bool = False) -> Exposure:
    one = rule.variations[0]
    return Exposure(rule.experiment or "", 0, one.key, one.value, False, False, attribute, unit, None, sticky, one.passthrough, one.name)


def _in_all(splits: Sequence[Split]) -> Callable[[_Asked], bool] | None:
    """Whether a unit lies in every one; None where there is nothing to ask."""
    if len(splits) < 2:
        return splits[0].holds if splits else None

    def inside(asked: _Asked) -> bool:
        for split in splits:  # noqa: SIM110 — as in conditions
            if not split.holds(asked):
                return False
        return True

    return inside


def _remembered(rule: _Rule, context: Context) -> tuple[int, bool]:
    """The variation that the unit was given before, -1 for none, and whether an assignment of a version that is too old shuts it out."""
    sticky, kept = rule.sticky or {}, context.assignments or {}
    assigned: dict[str, str] = {}
    for attribute in reversed(sticky.get("units") or rule.split.units):  # type: ignore[union-attr]
        value = context.attributes.get(attribute)
        if js.truthy(value):
            assigned.update(kept.get(f"{attribute}||{js.text(value)}") or {})
    if any(f"{rule.experiment}__{version}" in assigned for version in range(sticky.get("oldest") or 0)):
        return -1, True
    key = assigned.get(f"{rule.experiment}__{sticky.get('version') or 0}")
    return next((index for index, one in enumerate(rule.variations) if one.own_key is not None and one.own_key == key), -1), False
