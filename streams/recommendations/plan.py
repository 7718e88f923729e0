"""From features to what is kept of a key: features that sum up the same events of the same key share their tiles. Pure.

    feature     what a team wrote                                     schemas/recommendations/definition.py
    selection   which events, whose, and which of their fields        shared by all features that say the same there
    layout      the row that is kept of each key, field by field      one for all selections of one key
    plan        all layouts, and where each value is found in them

A row has a fixed part of integers, little-endian, at offsets that the layout tells, so that a thousand rows are evaluated as one array, and
a part for texts that is bounded by rule. Its size depends on the features, never on how much happened.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from schemas.catalogue import Catalogue, catalogue
from schemas.recommendations.definition import Bounds, Feature, Window

Key = tuple[str, ...]
"""Entities that a feature is about, such as ("title", "region")."""
Predicate = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Selection:
    """Which events, whose, and which of their fields. `asked`: the filter as (field, condition in JSON), in the order of the names."""

    sources: tuple[str, ...]
    key: Key
    asked: tuple[tuple[str, str], ...]
    field: str | None

    @classmethod
    def of(cls, feature: Feature) -> Selection:
        """What a feature sums up."""
        asked = ((name, json.dumps(_plain(what), sort_keys=True)) for name, what in sorted(feature.filter.items()))
        return cls(tuple(sorted(feature.sources)), tuple(feature.key), tuple(asked), feature.field)

    @property
    def text(self) -> str:
        """The same selection has the same text everywhere and for ever."""
        return json.dumps([self.sources, self.key, self.asked, self.field], separators=(",", ":"))

    @cached_property
    def met_by(self) -> Predicate:
        """Whether an event is asked for."""
        tests = [(name, _test(json.loads(what))) for name, what in self.asked]
        return lambda event: all(test(event.get(name)) for name, test in tests)


def _plain(what: Any) -> Any:
    return what.model_dump(exclude_none=True) if isinstance(what, Bounds) else sorted(what, key=repr) if isinstance(what, list) else what


def _test(what: Any) -> Callable[[Any], bool]:
    if isinstance(what, dict):
        least, below = what.get("at_least"), what.get("below")
        return lambda value: value is not None and (least is None or value >= least) and (below is None or value < below)
    among = what if isinstance(what, list) else [what]
    return lambda value: value in among


@dataclass(frozen=True)
class Column:
    """One integer a tile: a count, a sum, or a sum that decays. Tile n lies in [n · hop_ms, (n + 1) · hop_ms), at place n mod tiles."""

    kind: str
    selection: Selection
    hop_ms: int
    tiles: int
    half_life_ms: int = 0

    @property
    def name(self) -> str:
        """The same column has the same name in every layout, however many tiles it has there."""
        return f"{self.kind} {self.hop_ms} {self.half_life_ms} {self.selection.text}"

    @property
    def code(self) -> str:
        """Of struct and numpy."""
        return "I" if self.kind == "count" else "q"


@dataclass(frozen=True)
class Texts:
    """A part of the row that holds texts: `last` the newest one, `distinct` when each was there last, `top_k` how often, by tile.

    `length_ms`: of the longest window.
    """

    kind: str
    selection: Selection
    hop_ms: int
    tiles: int
    length_ms: int

    @property
    def name(self) -> str:
        """As a column's."""
        return f"{self.kind} {self.hop_ms if self.kind == 'top_k' else 0} {self.selection.text}"


@dataclass(frozen=True)
class Uses:
    """What one selection changes in a row: (place, what stands there)."""

    columns: tuple[tuple[int, Column], ...]
    lasts: tuple[int, ...]
    texts: tuple[tuple[int, Texts], ...]


@dataclass(frozen=True)
class Layout:
    """The row of one key: clock (ms, the newest event), how many events it has taken, columns, numbers that were last, texts."""

    key: Key
    columns: tuple[Column, ...]
    lasts: tuple[Selection, ...]
    texts: tuple[Texts, ...]

    @cached_property
    def group(self) -> str:
        """The key's name."""
        return ".".join(self.key)

    @cached_property
    def rings(self) -> list[tuple[int, list[tuple[int, int]]]]:
        """(hop_ms, the places and tiles of its columns): they move on together."""
        hops = sorted({column.hop_ms for column in self.columns})
        return [(hop, [(n, column.tiles) for n, column in enumerate(self.columns) if column.hop_ms == hop]) for hop in hops]

    @cached_property
    def form(self) -> struct.Struct:
        """The fixed part: clock, taken, (time, number) of each last, then the columns, those of eight bytes first."""
        codes = "".join(f"{column.tiles}{column.code}" for column in self.columns)
        odd = sum(column.tiles for column in self.columns if column.code == "I") % 2
        return struct.Struct(f"<qq{'qq' * len(self.lasts)}{codes}{'4x' * odd}")

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The fixed part for numpy: fields clock, taken, at<n> and last<n> of the lasts, c<n> of the columns, shape (tiles,)."""
        fields: list[Any] = [("clock", "<i8"), ("taken", "<i8")]
        for n in range(len(self.lasts)):
            fields += [(f"at{n}", "<i8"), (f"last{n}", "<i8")]
        fields += [(f"c{n}", "<u4" if column.code == "I" else "<i8", (column.tiles,)) for n, column in enumerate(self.columns)]
        if rest := self.form.size - np.dtype(fields).itemsize:
            fields.append(("rest", f"V{rest}"))
        return np.dtype(fields)

    @cached_property
    def id(self) -> str:
        """16 hex digits: rows of one id have the same fields at the same offsets."""
        said = [self.key, [(c.name, c.tiles) for c in self.columns], [s.text for s in self.lasts], [(t.name, t.tiles) for t in self.texts]]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

    @cached_property
    def uses(self) -> dict[Selection, Uses]:
        """What an event of a selection changes."""
        found = dict.fromkeys([c.selection for c in self.columns] + list(self.lasts) + [t.selection for t in self.texts])
        return {
            selection: Uses(
                tuple((n, column) for n, column in enumerate(self.columns) if column.selection == selection),
                tuple(n for n, last in enumerate(self.lasts) if last == selection),
                tuple((n, texts) for n, texts in enumerate(self.texts) if texts.selection == selection),
            )
            for selection in found
        }


@dataclass(frozen=True)
class Value:
    """One value of a feature, and where it is found: places in its layout, -1 where it has none there."""

    name: str
    feature: Feature
    window: Window
    group: str
    count: int = -1
    sum: int = -1
    decay: int = -1
    last: int = -1
    texts: int = -1


@dataclass(frozen=True)
class Plan:
    """All features together. `layouts` and `values` by their names; `topics`: those that are read."""

    layouts: Mapping[str, Layout]
    values: Mapping[str, Value]
    topics: frozenset[str] = field(default_factory=frozenset)

    def of(self, group: str) -> list[Value]:
        """The values of one key."""
        return [value for value in self.values.values() if value.group == group]

    def only(self, group: str) -> Plan:
        """The plan of one key's features."""
        values = {value.name: value for value in self.of(group)}
        topics = frozenset(name for selection in self.layouts[group].uses for name in selection.sources)
        return Plan({group: self.layouts[group]}, values, topics)


def plan(features: Iterable[Feature], among: Catalogue | None = None) -> Plan:
    """The plan of features that are known to be right (see definition.problems); `among` says which fields are texts."""
    features = sorted(features, key=lambda feature: feature.name)
    contracts = among or catalogue()
    layouts = {}
    for key in dict.fromkeys(tuple(feature.key) for feature in features):
        layout = _layout(key, [feature for feature in features if tuple(feature.key) == key], contracts)
        layouts[layout.group] = layout
    values = {}
    for feature in features:
        layout = layouts[".".join(feature.key)]
        for name, window in feature.values.items():
            values[name] = _value(name, feature, window, layout)
    return Plan(layouts, values, frozenset(topic for feature in features for topic in feature.sources))


NEEDED = {"count": ("count",), "sum": ("count", "sum"), "mean": ("count", "sum"), "decayed": ("count", "decay")}
"""Kinds of columns of an aggregation; all have the count, which says whether anything happened."""


def _layout(key: Key, features: list[Feature], among: Catalogue) -> Layout:
    columns: dict[str, Column] = {}
    lasts: dict[Selection, None] = {}
    texts: dict[str, Texts] = {}
    for feature in features:
        selection = Selection.of(feature)
        for window in feature.values.values():
            for kind in NEEDED.get(feature.aggregation, ()):
                column = Column(kind, selection, window.hop_ms, window.tiles, feature.half_life_ms if kind == "decay" else 0)
                columns[column.name] = max(column, columns.get(column.name, column), key=lambda one: one.tiles)
            if feature.aggregation == "last" and not _is_text(feature, among):
                lasts[selection] = None
            elif feature.aggregation in ("last", "distinct", "top_k"):
                part = Texts(feature.aggregation, selection, window.hop_ms, window.tiles, window.length_ms)
                texts[part.name] = max(part, texts.get(part.name, part), key=lambda one: one.length_ms)
    ordered = sorted(columns.values(), key=lambda column: (column.code == "I", column.name))
    return Layout(key, tuple(ordered), tuple(sorted(lasts, key=lambda one: one.text)), tuple(texts[name] for name in sorted(texts)))


def _value(name: str, feature: Feature, window: Window, layout: Layout) -> Value:
    selection = Selection.of(feature)
    columns = {column.name: n for n, column in enumerate(layout.columns)}
    texts = {part.name: n for n, part in enumerate(layout.texts)}
    places = {
        kind: columns[Column(kind, selection, window.hop_ms, 0, feature.half_life_ms if kind == "decay" else 0).name]
        for kind in NEEDED.get(feature.aggregation, ())
    }
    part = Texts(feature.aggregation, selection, window.hop_ms, 0, 0).name
    if part in texts:
        places["texts"] = texts[part]
    elif feature.aggregation == "last":
        places["last"] = layout.lasts.index(selection)
    return Value(name, feature, window, layout.group, **places)


def _is_text(feature: Feature, among: Catalogue) -> bool:
    fields = among.topic(feature.sources[0]).event.fields
    kind = next(one["type"] for one in fields if one["name"] == feature.field)
    return "string" in (kind if isinstance(kind, list) else [kind])
