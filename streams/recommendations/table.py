"""The online table: rows by key in memory, folded from what the job tells, and values of many keys at once. Pure.

    table = Table(plan(features()))
    table.fold(group, key, layout_id, fixed, texts)
    table.lookup(["member_plays_1d", "title_heat_1d"], {"member": "m-1", "title": thousand}, at_ms)

A row stays as it came, packed: folding costs a place in a dictionary, and a lookup joins the rows that it needs and evaluates them as one
array. Nothing is computed ahead and nothing expires by a timer.

Which of two rows of a key is newer is not told by the order in which they come: after a failure the job tells again what it had told
before, from fewer events on. A row with fewer events than the one that is there is left, unless it is of a later `generation` of the
job's state, or so much newer that the job had let the old one go (docs/adr/0015).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from schemas.recommendations.definition import DAY_MS
from streams.recommendations.engine import BETWEEN
from streams.recommendations.plan import Layout, Plan, Value
from streams.recommendations.tiles import HEAD, NEVER, Found, Row, evaluate, nothing

LET_GO_MS = 31 * DAY_MS
"""A row that is newer by more than any window holds nothing of the one before: it may have begun anew."""

Kept = tuple[bytes, bytes, int, int, int]
"""A row: its fixed part, its texts, its generation, its clock (ms), how many events it has taken."""


class UnknownLayout(ValueError):
    """A row that none of the known plans has packed; the message says whose."""


class Table:
    """Rows of a plan. `older`: plans that may still have packed some; theirs are recast as they come."""

    def __init__(self, plan: Plan, older: Iterable[Plan] = ()) -> None:
        self.plan = plan
        self._rows: dict[str, dict[str, Kept]] = {group: {} for group in plan.layouts}
        self._nothing: dict[str, Kept] = {group: (*nothing(layout), -1, NEVER, 0) for group, layout in plan.layouts.items()}
        known = [layout for one in (*older, plan) for layout in one.layouts.values()]
        self._layouts = {layout.id: layout for layout in known}
        self._with: dict[tuple[str, int], dict[str, dict[str, None]]] = {}
        """By group and place in its keys: what stands there → those keys. Of what has been asked for once."""

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    @property
    def bytes_kept(self) -> int:
        """What the packed rows take, without keys and Python's own."""
        return sum(len(fixed) + len(texts) for rows in self._rows.values() for fixed, texts, *_ in rows.values())

    def knows(self, layout_id: str) -> bool:
        """Whether rows of a layout can be folded."""
        return layout_id in self._layouts

    def fold(self, group: str, key: str, layout_id: str, fixed: bytes, texts: bytes, generation: int = 0) -> bool:
        """A key's row; whether it is newer than what was there. Raises UnknownLayout, and ValueError where the bytes are not of it."""
        layout = self._layouts.get(layout_id)
        if layout is None or layout.group != group:
            raise UnknownLayout(f"{group} {key!r}: its row is of layout {layout_id}, which is none of {', '.join(self._layouts)}")
        if len(fixed) != layout.form.size:
            raise ValueError(f"{group} {key!r}: {len(fixed)} bytes are not a row of layout {layout.id}, which has {layout.form.size}")
        wanted = self.plan.layouts.get(group)
        if wanted is None:
            return False  # no feature asks for this key any more
        rows = self._rows[group]
        clock, taken = HEAD.unpack_from(fixed)
        if (before := rows.get(key)) is not None:
            _, _, of, at, had = before
            if generation < of or (generation == of and taken < had and clock <= at + LET_GO_MS):
                return False
        if layout.id != wanted.id:
            fixed, texts = Row.unpack(layout, fixed, texts).recast(wanted).pack()
        rows[key] = fixed, texts, generation, clock, taken
        if before is None and self._with:
            for place, part in enumerate(key.split(BETWEEN)):
                if (index := self._with.get((group, place))) is not None:
                    index.setdefault(part, {})[key] = None
        return True

    def keys(self, group: str, about: Mapping[str, str] | None = None) -> list[str]:
        """The keys of a group that have a row, those that are about these entities. Another thread may fold meanwhile."""
        rows, some = self._rows[group], about or {}
        fixed = [(place, some[entity]) for place, entity in enumerate(self.plan.layouts[group].key) if entity in some]
        if not fixed:
            return list(rows)
        first, *others = (self._index(group, place).get(wanted, {}) for place, wanted in fixed)
        return [key for key in list(first) if all(key in other for other in others)]

    def _index(self, group: str, place: int) -> dict[str, dict[str, None]]:
        found = self._with.get((group, place))
        if found is None:
            found = self._with[group, place] = {}  # from here on `fold` keeps it, so that no key is missed
            for key in list(self._rows[group]):
                found.setdefault(key.split(BETWEEN)[place], {})[key] = None
        return found

    def packed(self, group: str, key: str) -> tuple[bytes, bytes]:
        """A key's row as it came, that of nothing where it has none."""
        return self._rows[group].get(key, self._nothing[group])[:2]

    def head(self, group: str, key: str) -> tuple[int, int]:
        """The newest event in a key's row (ms, NEVER where it has none), and how many it has taken."""
        clock_ms, taken = HEAD.unpack_from(self.packed(group, key)[0])
        return clock_ms, taken

    def clocks(self, group: str, keys: Iterable[str]) -> list[int]:
        """The newest event in each key's row, ms; NEVER where it has none."""
        rows, none = self._rows[group], self._nothing[group]
        return [rows.get(key, none)[3] for key in keys]

    def evaluated(self, group: str, key: str, values: Iterable[Value], at_ms: int) -> tuple[tuple[int, int], dict[str, Found]]:
        """A key's head and values, of one and the same row, whatever is folded meanwhile."""
        row = self.packed(group, key)
        clock_ms, taken = HEAD.unpack_from(row[0])
        return (clock_ms, taken), evaluate(self.plan.layouts[group], values, [row], at_ms)

    def lookup(self, names: Iterable[str], about: Mapping[str, str | Sequence[str]], at_ms: int) -> dict[str, Found]:
        """Values by name at `at_ms`, for each entity one name or a list of names (of one length where a key has two lists).

        Arrays have that length, or one item where nothing in the value's key is a list. Raises KeyError for a value that no feature has,
        ValueError where `about` lacks an entity.
        """
        by_group: dict[str, list[Value]] = {}
        for name in names:
            value = self.plan.values[name]
            by_group.setdefault(value.group, []).append(value)
        found: dict[str, Found] = {}
        for group, values in by_group.items():
            layout, rows, none = self.plan.layouts[group], self._rows[group], self._nothing[group]
            found |= evaluate(layout, values, [rows.get(key, none) for key in _keys(layout, about)], at_ms)
        return found

    def ranked(self, name: str, most: int, at_ms: int, about: Mapping[str, str] | None = None) -> list[tuple[str, float]]:
        """The keys with the greatest values of a number, the first `most` of them, as (what is left of the key, value).

        `about` fixes entities: the top ten of a region are ranked("title_region_plays_1d", 10, at_ms, {"region": region}). Equals by key.
        Keys in which nothing happened are left out, so it is shorter where less happened.
        """
        value = self.plan.values[name]
        layout, about, rows = self.plan.layouts[value.group], about or {}, self._rows[value.group]
        keys = self.keys(value.group, about)
        told = evaluate(layout, [value], [rows[key] for key in keys], at_ms)[name].of
        best = sorted((-float(told[n]), keys[n]) for n in np.flatnonzero(told > 0).tolist())[:most]
        left = [place for place, entity in enumerate(layout.key) if entity not in about]
        return [(BETWEEN.join(key.split(BETWEEN)[place] for place in left), -number) for number, key in best]


def _keys(layout: Layout, about: Mapping[str, str | Sequence[str]]) -> Sequence[str]:
    if absent := [entity for entity in layout.key if entity not in about]:
        raise ValueError(f"values of {layout.group} are asked for without saying which {' and '.join(absent)}")
    parts = [about[entity] for entity in layout.key]
    many = {len(part) for part in parts if not isinstance(part, str)}
    if len(many) > 1:
        raise ValueError(f"values of {layout.group} are asked for with lists of {' and '.join(map(str, sorted(many)))} names")
    if len(parts) == 1:
        return [parts[0]] if isinstance(parts[0], str) else parts[0]
    length = many.pop() if many else 1
    return list(map(BETWEEN.join, zip(*([part] * length if isinstance(part, str) else part for part in parts), strict=True)))
