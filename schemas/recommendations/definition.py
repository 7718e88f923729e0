"""What a team writes: a feature is one YAML document, checked against the contracts that it reads.

A feature says whose behaviour it sums up (`key`), from which events (`sources`, `filter`, `field`), how (`aggregation`) and over how long
(`windows`). `read` checks one by itself and against the catalogue, `read_folder` all of a folder, `problems` all of them together; each
says in words what is wrong. schemas/<domain>/features/*.yaml are the features of this installation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from importlib.resources.abc import Traversable
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, ValidationError, model_validator

from schemas.catalogue import Catalogue, ContractError, Topic, catalogue


class Window(NamedTuple):
    """How far back, and to which multiple of time its begin is rounded down. ms."""

    length_ms: int
    hop_ms: int

    @property
    def tiles(self) -> int:
        """How many hops one window can touch: its own, and the one that it begins in."""
        return self.length_ms // self.hop_ms + 1


MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
WINDOWS = {
    "1h": Window(HOUR_MS, 5 * MINUTE_MS),
    "1d": Window(DAY_MS, HOUR_MS),
    "7d": Window(7 * DAY_MS, DAY_MS),
    "30d": Window(30 * DAY_MS, DAY_MS),
}
"""A window of length W at t begins at the last hop at or before t − W, and ends at t (the sawtooth of Airbnb's Chronon)."""

ENTITIES = {"member": "member_id", "title": "cid", "previous": "previous_cids", "genre": "genres", "region": "region"}
"""What a feature can be about, and the field that says which. A list in that field is each of its items in turn."""

TWICE_MS = HOUR_MS
"""An event that comes again within this time of its arrival does not count."""
MOST_A_DAY, CAPPED = 10_000, frozenset({"member_id", "sid"})
"""Events of one key that count of those that arrived on one day, where a topic is keyed by one of these."""
MOST_KEYS = 16
"""Keys that one event may change: it has so many genres."""
MOST_TEXT_BYTES = 128
"""Of a text that is counted or is a key, in UTF-8: what bounds a row."""
MOST_NUMBER = 2**31 - 1
"""Numbers that are summed up lie within ± this: milliseconds of 24 days, and four billion of them in a tile do not overflow."""
MOST_DISTINCT, MOST_IN_TILE, MOST_TOP = 1_000, 100, 100
"""Texts of a key that *distinct* keeps, of a tile that *top_k* keeps, and that it tells at most."""
STEPS, SCALE = 1_024, 65_536
WEIGHTS = tuple(int((Decimal(2) ** (Decimal(step) / STEPS) * SCALE).to_integral_value()) for step in range(STEPS))
"""2^(step / STEPS) in SCALEths: what an event counts by its place within a half-life."""
AGGREGATIONS = ("count", "sum", "mean", "distinct", "last", "top_k", "decayed")
WHOLE, TEXT = frozenset({"int", "long"}), frozenset({"string"})
FITTING = {
    "sum": WHOLE, "mean": WHOLE, "decayed": WHOLE, "last": WHOLE | TEXT, "distinct": WHOLE | TEXT, "top_k": WHOLE | TEXT,
}  # fmt: skip
"""Types of fields that an aggregation takes. Sums are whole numbers, so that they are equal in whatever order they are added up."""

Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class FeatureError(ValueError):
    """Features that cannot be used; `problems` has a line for each thing that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Bounds(_Model):
    """What a filter asks of a field that is not simply one of some values: `at_least` ≤ value < `below`, or that it is there."""

    present: Literal[True] | None = None
    at_least: StrictInt | None = None
    below: StrictInt | None = None


def _asked(what: Any) -> Any:
    """What a filter asks of one field, in one form."""
    if isinstance(what, dict):
        return Bounds.model_validate(what)
    for one in what if isinstance(what, list) else [what]:
        if not isinstance(one, bool | int | str):
            raise ValueError("a filter asks for a value, a list of values, or present, at_least and below")
    return what


class Feature(_Model):
    """One feature; it has a value per window, called `<name>_<window>`."""

    name: Key
    owner: Annotated[str, Field(min_length=1)]
    doc: Annotated[str, Field(min_length=1)]
    sources: Annotated[list[str], Field(min_length=1)]
    key: Annotated[list[Literal["member", "title", "previous", "genre", "region"]], Field(min_length=1)]
    filter: dict[str, Annotated[Any, BeforeValidator(_asked)]] = {}
    aggregation: Literal["count", "sum", "mean", "distinct", "last", "top_k", "decayed"]
    field: str | None = None
    k: Annotated[int, Field(ge=1, le=MOST_TOP)] | None = None
    half_life: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}[hd]$")] | None = None
    windows: Annotated[list[Literal["1h", "1d", "7d", "30d"]], Field(min_length=1)]
    default: Any

    @model_validator(mode="after")
    def _fits_together(self) -> Feature:
        wrong = list(self._alone())
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @property
    def values(self) -> dict[str, Window]:
        """What the feature's values are called, and their windows."""
        return {f"{self.name}_{window}": WINDOWS[window] for window in self.windows}

    @property
    def half_life_ms(self) -> int:
        """0 where it has none."""
        return int(self.half_life[:-1]) * (HOUR_MS if self.half_life[-1] == "h" else DAY_MS) if self.half_life else 0

    def _alone(self) -> Iterator[str]:
        for name, items in (("sources", self.sources), ("key", self.key), ("windows", self.windows)):
            if len(set(items)) < len(items):
                yield f"{name} has something twice"
        if self.key != (ordered := [entity for entity in ENTITIES if entity in self.key]):
            yield f"key: write [{', '.join(ordered)}], so that features of one key share their state"
        if self.aggregation == "count" and self.field is not None:
            yield "count takes no field: what is to be counted is said by filter"
        if self.aggregation not in ("count", "decayed") and self.field is None:
            yield f"{self.aggregation} needs a field"
        for name, of, given in (("k", "top_k", self.k), ("half_life", "decayed", self.half_life)):
            if (self.aggregation == of) is (given is None):
                yield f"{name} belongs to {of}, and {of} needs it"
        for called, window in self.values.items() if self.half_life else ():
            if not window.hop_ms <= self.half_life_ms <= window.length_ms:
                least, most = (f"{ms // HOUR_MS} h" for ms in (max(window.hop_ms, HOUR_MS), window.length_ms))
                yield f"{called}: half_life {self.half_life} is not within {least} to {most}, its window's hop and length"
        for name, asked in self.filter.items():
            if asked == [] or (isinstance(asked, Bounds) and asked == Bounds()):
                yield f"filter: {name} asks for nothing: name values, or present, at_least or below"


def read(text: str, where: str = "the feature", among: Catalogue | None = None) -> Feature:
    """One feature of a YAML document, checked by itself and against the contracts (`among`; this installation's). Raises FeatureError."""
    try:
        written = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FeatureError([f"{where}: not YAML: {error}"]) from None
    try:
        feature = Feature.model_validate(written)
    except ValidationError as error:
        raise FeatureError([f"{where}: {_said(one)}" for one in error.errors()]) from None
    if wrong := [f"{where}: {line}" for line in _against(feature, among or catalogue())]:
        raise FeatureError(wrong)
    return feature


def _said(error: Mapping[str, Any]) -> str:
    path = ".".join(str(part) for part in error["loc"])
    words = str(error["msg"]).removeprefix("Value error, ")
    return f"{path}: {words}" if path else words


def read_folder(folder: Traversable | Path, among: Catalogue | None = None) -> list[Feature]:
    """The features of a folder's *.yaml, each in a file of its name. Raises FeatureError with everything that is wrong."""
    found, wrong = _read_folder(folder, among or catalogue())
    if wrong := [*wrong, *problems(found)]:
        raise FeatureError(wrong)
    return found


@lru_cache(maxsize=1)
def features() -> list[Feature]:
    """The features of this installation and of the checkouts that settings name. Raises FeatureError."""
    found: list[Feature] = []
    wrong: list[str] = []
    for folder in catalogue().folders.values():
        if (folder / "features").is_dir():
            some, lines = _read_folder(folder / "features", catalogue())
            found, wrong = [*found, *some], [*wrong, *lines]
    if wrong := [*wrong, *problems(found)]:
        raise FeatureError(wrong)
    return found


def _read_folder(folder: Traversable | Path, among: Catalogue) -> tuple[list[Feature], list[str]]:
    found: list[Feature] = []
    wrong: list[str] = []
    for file in sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name):
        try:
            feature = read(file.read_text(encoding="utf-8"), file.name, among)
        except FeatureError as error:
            wrong += error.problems
            continue
        if file.name != f"{feature.name}.yaml":
            wrong.append(f"{file.name}: holds the feature {feature.name}: call it {feature.name}.yaml")
        found.append(feature)
    return found, wrong


def problems(features: Iterable[Feature]) -> list[str]:
    """What is wrong with features that are used together; a line each, none where all is well."""
    by_name: dict[str, list[Feature]] = defaultdict(list)
    for feature in features:
        by_name[feature.name].append(feature)
    return [
        f"feature {name}: is defined {len(same)} times, by {' and by '.join(sorted({one.owner for one in same}))}: a name has one owner"
        for name, same in by_name.items()
        if len(same) > 1
    ]


def _against(feature: Feature, among: Catalogue) -> Iterator[str]:
    """What is wrong with a feature in the light of what it reads."""
    for name in feature.sources:
        try:
            topic = among.topic(name)
        except ContractError as error:
            yield f"sources: {error}"
            continue
        yield from _against_topic(feature, topic)
    yield from _against_default(feature, among)


def _against_topic(feature: Feature, topic: Topic) -> Iterator[str]:
    types = {field["name"]: field["type"] for field in topic.event.fields}
    symbols: dict[str, Any] = {field["name"]: field.get("symbols") for field in topic.event.fields}
    known = f"{topic.name} has {', '.join(sorted(types))}"
    if topic.cleanup == "compact":
        yield f"sources: {topic.name} keeps only the newest event of each key, so that nothing can be summed up from it again"
    for value, window in feature.values.items():
        if topic.cleanup != "compact" and window.length_ms + window.hop_ms > topic.retention_days * DAY_MS:
            needed = -(-(window.length_ms + window.hop_ms) // DAY_MS)
            kept = f"{topic.name} is kept for {topic.retention_days:g} days"
            yield f"windows: {value} needs {needed} days of events, and {kept}: what is lost could not be recomputed"
    for entity in feature.key:
        name = ENTITIES[entity]
        if name not in types:
            yield f"key: {entity} is told by the field {name}, and {known}"
        elif not _is_text(types[name]):
            yield f"key: {topic.name}.{name} is no text"
        elif isinstance(types[name], list) and not _asked_for(feature, name):
            yield f"key: {topic.name}.{name} may be null, which is nobody's key: ask for it in filter ({name}: {{present: true}})"
    for name, asked in feature.filter.items():
        if name not in types:
            yield f"filter: there is no field {name}; {known}"
            continue
        kind = _kind(types[name])
        if isinstance(asked, Bounds):
            if (asked.at_least, asked.below) != (None, None) and kind not in WHOLE:
                yield f"filter: {name} is {kind}: at_least and below are for whole numbers"
            continue
        for one in asked if isinstance(asked, list) else [asked]:
            if not _is_a(one, kind):
                yield f"filter: {name} is {kind}, which {one!r} never is"
            elif symbols[name] and one not in symbols[name]:
                yield f"filter: {name} is one of {', '.join(symbols[name])}, never {one!r}"
    if feature.field is not None:
        if feature.field not in types:
            yield f"field: there is no field {feature.field}; {known}"
        elif (kind := _item(types[feature.field])) not in FITTING.get(feature.aggregation, ()):
            wanted = " or ".join(sorted(FITTING.get(feature.aggregation, ())))
            yield f"field: {feature.field} is {kind}; {feature.aggregation} takes {wanted}"
        elif _many(types[feature.field]) and feature.aggregation not in ("distinct", "top_k"):
            yield f"field: {feature.field} is a list; {feature.aggregation} takes one value of an event"


def _against_default(feature: Feature, among: Catalogue) -> Iterator[str]:
    given = feature.default
    if feature.aggregation in ("count", "sum", "distinct"):
        if not _is_a(given, "long"):
            yield f"default: {feature.aggregation} is a whole number, which {given!r} is not"
    elif feature.aggregation in ("mean", "decayed"):
        if not (given is None or _is_a(given, "long") or (isinstance(given, float) and isfinite(given))):
            yield f"default: {feature.aggregation} is a number or null, which {given!r} is not"
    elif feature.aggregation == "top_k":
        if given != []:
            yield f"default: top_k is a list, and where nothing happened it is empty ([]), not {given!r}"
    else:
        kinds = {
            _kind(field["type"])
            for name in feature.sources
            if name in among.topics
            for field in among.topics[name].event.fields
            if field["name"] == feature.field
        }
        if len(kinds) > 1:
            yield f"field: {feature.field} is {' and '.join(sorted(kinds))} in different sources"
        if given is not None and not all(_is_a(given, kind) for kind in kinds):
            yield f"default: {feature.field} is {' and '.join(sorted(kinds))} or null, which {given!r} is not"


def _asked_for(feature: Feature, name: str) -> bool:
    return name in feature.filter


def _kind(kind: Any) -> str:
    """The Avro type without null; a logical type's own name."""
    bare = kind[1] if isinstance(kind, list) else kind
    return str(bare.get("logicalType", bare["type"]) if isinstance(bare, Mapping) else bare)


def _many(kind: Any) -> bool:
    return _kind(kind) == "array"


def _item(kind: Any) -> str:
    """The type of a field's value, of a list's items."""
    return _kind(kind["items"]) if _many(kind) and isinstance(kind, Mapping) else _kind(kind)


def _is_text(kind: Any) -> bool:
    return _item(kind) == "string"


def _is_a(value: Any, kind: str) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in WHOLE:
        return isinstance(value, int) and not isinstance(value, bool)
    return kind == "string" and isinstance(value, str)
