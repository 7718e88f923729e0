"""Values of features, looked up in the online table and told: what is asked, what is answered, and what is said of it to the log. Pure.

    asked = Asked.of({"features": ["member_plays_1d", "title_heat_1d"], "member": "m-1", "title": ["t-1", "t-2"]}, now_ms)
    answer(table, asked)

Every answer is as of a time, now unless it says another. For past times the table is no use, because it holds what is known now: that is
what the training join is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import orjson

from edge.asked import Refusal
from edge.pseudonym import pseudonym
from schemas.recommendations.definition import ENTITIES
from streams.recommendations.engine import BETWEEN
from streams.recommendations.plan import Layout
from streams.recommendations.table import Table
from streams.recommendations.tiles import NEVER, as_mapping

MOST_VALUES, MOST_NAMES, MOST_CHARACTERS = 500, 2_000, 200
ROWS_TOLD = 8
"""Rows of a request that are told of at most."""
EXAMPLE = '{"features": ["member_plays_1d", "title_heat_1d"], "member": "m-1", "title": ["t-1", "t-2"]}'


@dataclass(frozen=True)
class Asked:
    """Values by name, whom about by entity, and when."""

    names: tuple[str, ...]
    about: Mapping[str, str | list[str]]
    at_ms: int

    @classmethod
    def of(cls, told: Any, now_ms: int) -> Asked:
        """What a request asks for. `member` is a member's own id, `member_id` his pseudonym. Raises Refusal in words."""
        if not isinstance(told, dict):
            raise Refusal(400, f"not an object: {EXAMPLE}")
        if unknown := told.keys() - {"features", "at_ms", "member_id", *ENTITIES}:
            raise Refusal(400, f"{', '.join(sorted(unknown))}: nothing is called so: features, at_ms, {', '.join(ENTITIES)}, member_id are")
        names = told.get("features")
        if not isinstance(names, list) or not 0 < len(names) <= MOST_VALUES or not all(isinstance(one, str) for one in names):
            raise Refusal(400, f"features: a list of 1 to {MOST_VALUES} values by name: {EXAMPLE}")
        about = {entity: _names(entity, told[entity]) for entity in ENTITIES if entity in told}
        if (member := about.get("member")) is not None:
            about["member"] = pseudonym(member) if isinstance(member, str) else list(map(pseudonym, member))
        if "member_id" in told:
            if "member" in about:
                raise Refusal(400, "member is a member's own id and member_id his pseudonym: tell one of them")
            about["member"] = _names("member_id", told["member_id"])
        at_ms = told.get("at_ms", now_ms)
        if not isinstance(at_ms, int) or isinstance(at_ms, bool) or not 0 <= at_ms < 1 << 50:
            raise Refusal(400, f"at_ms: milliseconds since 1970, not {at_ms!r}")
        return cls(tuple(dict.fromkeys(names)), about, at_ms)


def _names(entity: str, told: Any) -> str | list[str]:
    names = told if isinstance(told, list) else [told]
    if not 0 < len(names) <= MOST_NAMES or not all(isinstance(one, str) and 0 < len(one) <= MOST_CHARACTERS for one in names):
        raise Refusal(400, f"{entity}: a name of 1 to {MOST_CHARACTERS} characters, or a list of 1 to {MOST_NAMES} of them")
    return told  # type: ignore[no-any-return]


def answer(table: Table, asked: Asked) -> dict[str, Any]:
    """`values`: by name one value, or as many as the lists have; `over_cap`: of those that a rule has cut, which; `clock_ms`: by group the
    newest event that each answer rests on, null where nothing was ever heard. Arrays of numpy, for orjson. Raises Refusal in words.
    """
    _refuse_unknown(table, asked)
    try:
        found = table.lookup(asked.names, asked.about, asked.at_ms)
    except ValueError as error:
        raise Refusal(400, str(error)) from None
    values: dict[str, Any] = {}
    over: dict[str, Any] = {}
    for name, told in found.items():
        many = _many(table.plan.layouts[table.plan.values[name].group], asked)
        of = told.of.tolist() if told.of.dtype == object else told.of
        values[name] = of if many else of[0]
        if told.over_cap.any():
            over[name] = np.flatnonzero(told.over_cap).tolist() if many else [0]
    clocks = {}
    for group in dict.fromkeys(table.plan.values[name].group for name in asked.names):
        layout = table.plan.layouts[group]
        told_ms = [None if clock == NEVER else clock for clock in table.clocks(group, keys(layout, asked))]
        clocks[group] = told_ms if _many(layout, asked) else told_ms[0]
    return {"at_ms": asked.at_ms, "values": values, "over_cap": over, "clock_ms": clocks}


def _refuse_unknown(table: Table, asked: Asked) -> None:
    for name in asked.names:
        if name not in table.plan.values:
            near = [value.name for value in table.plan.values.values() if value.feature.name == name]
            more = f"the feature has {', '.join(near)}" if near else f"there are {len(table.plan.values)}: GET /features/names lists them"
            raise Refusal(404, f"no value is called {name!r}; {more}")


def _many(layout: Layout, asked: Asked) -> bool:
    return any(isinstance(asked.about[entity], list) for entity in layout.key)


def keys(layout: Layout, asked: Asked) -> Sequence[str]:
    """The keys of a layout that are asked for, in the order of the lists."""
    parts = [asked.about[entity] for entity in layout.key]
    length = max((len(part) for part in parts if isinstance(part, list)), default=1)
    if len(parts) == 1:
        return parts[0] if isinstance(parts[0], list) else [parts[0]]
    return list(map(BETWEEN.join, zip(*([part] * length if isinstance(part, str) else part for part in parts), strict=True)))


def said(table: Table, asked: Asked, random: Random, most: int = ROWS_TOLD) -> Iterator[dict[str, Any]]:
    """`recommendations.feature_served` of some of the rows that an answer came from, drawn: with all their values that were asked for.

    They are evaluated once more, from one reading of the row each, so that clock and values are of the same row.
    """
    rows = []
    for group in dict.fromkeys(table.plan.values[name].group for name in asked.names):
        layout = table.plan.layouts[group]
        some = keys(layout, asked)
        rows += [(layout, some[n]) for n in random.sample(range(len(some)), min(most, len(some)))]
    for layout, key in random.sample(rows, min(most, len(rows))):
        yield of_row(table, layout, key, asked.names, asked.at_ms)


def of_row(table: Table, layout: Layout, key: str, names: Sequence[str], at_ms: int) -> dict[str, Any]:
    """One row's `recommendations.feature_served`: those of `names` that are its."""
    values = [table.plan.values[name] for name in names if table.plan.values[name].group == layout.group]
    (clock_ms, taken), told = table.evaluated(layout.group, key, values, at_ms)
    return {
        "group": layout.group,
        "entity": key,
        "layout": layout.id,
        "clock": max(clock_ms, 0),  # 1970 where nothing was heard of the key
        "taken": taken,
        "values": {name: text(value) for name, value in as_mapping(told, 0).items()},
    }


def text(value: Any) -> str:
    """A value as it is told to the log: JSON, numbers so that they are read as they were."""
    return orjson.dumps(value).decode()
