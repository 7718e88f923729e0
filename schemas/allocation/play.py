"""What definitions say of a press of play: which flags are asked, and what is told of who met which variations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from schemas.allocation.definition import HOLDOUT, PLAY, AnyDefinition, Experiment, Flag, fold, folded
from schemas.allocation.engine import Decision, Table

OTHER = "other"
"""What a segment's value is that no definition lists: read-outs are by what players say of themselves, and anybody can play."""


class Allocation(NamedTuple):
    """What a set of definitions says of the press of play."""

    table: Table
    flags: tuple[str, ...]
    """Those that are asked."""
    phases: Mapping[str, int]
    """Of each experiment; a holdout has none, 0."""
    segments: Mapping[str, Mapping[str, Sequence[str]]]
    """Experiment → attribute that its read-outs are split by → its values."""

    @classmethod
    def of(cls, definitions: Sequence[AnyDefinition], checked: bool = False) -> Allocation:
        """Raises DefinitionError, unless `problems` has been asked (`checked`)."""
        experiments = [one for one in definitions if isinstance(one, Experiment)]
        asked = {one.key for one in definitions if isinstance(one, Flag) and one.asked_at == PLAY}
        held = {f"{HOLDOUT}{key}" for one in experiments if one.flag in asked for key in one.holdouts}
        return cls(
            Table((folded if checked else fold)(definitions)),
            tuple(sorted(asked | held)),
            {one.key: one.phase for one in experiments},
            {one.key: one.segments for one in experiments},
        )

    def exposures(self, decided: Iterable[Decision], attributes: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """`experiments.exposure` of each unit that was allocated by, with all variations that it got by hash; without sid."""
        met: dict[tuple[str, str], dict[str, str]] = {}
        values: dict[str, set[str]] = {}
        for one in (exposure for decision in decided for exposure in decision.exposures):
            if one.inside and one.hashed:
                met.setdefault((one.attribute, str(one.unit)), {})[f"{one.experiment}.{self.phases.get(one.experiment, 0)}"] = one.key
                for name, listed in self.segments.get(one.experiment, {}).items():
                    values.setdefault(name, set()).update(listed)
        told = {name: str(attributes[name]) for name in sorted(values) if attributes.get(name) is not None}
        segments = {name: value if value in values[name] else OTHER for name, value in told.items()}
        for (attribute, unit), variations in met.items():
            yield {"unit": unit, "unit_name": attribute, "variations": variations, "segments": segments}
