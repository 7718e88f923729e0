"""Evolution: whether one version of a contract can read what another wrote. Pure; the rules are Avro's "Schema Resolution".

    BACKWARD   the new version reads what the old one wrote       old rows keep loading, logs can be replayed
    FORWARD    the old version reads what the new one writes      jobs that have not been redeployed go on
    FULL       both;   *_TRANSITIVE: against every earlier version, not only the last

Two rules are ours, because Avro lets a change pass after which every number is wrong: a field keeps its `unit` and its logical
type. They hold at any level but NONE. The registry does not know them; everything else here agrees with its verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import fastavro

from schemas.catalogue import LEVELS

PROMOTIONS = {
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}
"""What a writer's type may be read as, beside itself."""


Users = Callable[[str, str], Sequence[str]]
"""(topic, field) → who uses it, in words; the field "" stands for the topic as a whole."""


class Rule(StrEnum):
    """Which rule a change breaks."""

    NO_DEFAULT = "no default"
    TYPE = "type"
    UNION = "union"
    NAME = "record name"
    UNIT = "unit"
    LOGICAL_TYPE = "logical type"

    @property
    def of_avro(self) -> bool:
        """True where the registry has this rule too."""
        return self not in (Rule.UNIT, Rule.LOGICAL_TYPE)


class Direction(StrEnum):
    """Who cannot read whom."""

    BACKWARD = "backward"
    FORWARD = "forward"


@dataclass(frozen=True)
class Mismatch:
    """Why a reader's schema cannot read a writer's. `path`: field names by dots, `[]` for items, `{}` for values."""

    path: str
    rule: Rule
    words: str


@dataclass(frozen=True)
class Violation:
    """One reason why a new version breaks its level: the mismatch, which direction, and against which earlier version."""

    path: str
    rule: Rule
    words: str
    direction: Direction
    against: str

    @property
    def field(self) -> str:
        """The top-level field that the path begins with; empty for the record itself."""
        return self.path.split(".")[0].rstrip("[]{}")

    def __str__(self) -> str:
        backward = self.direction is Direction.BACKWARD
        if self.rule is Rule.NO_DEFAULT:
            words = "is new and has no default" if backward else "was removed, and had no default"
        else:
            words = self.words
        consequence = "the new version cannot read events of" if backward else "events of the new version cannot be read by"
        if not self.rule.of_avro:
            consequence = "every number would read on, and be wrong, beside"
        return f"{self.path or 'the record'}: {words}; {consequence} {self.against} ({self.direction}, {self.rule})"


def violations(new: Mapping[str, Any], history: Sequence[tuple[str, Mapping[str, Any]]], level: str) -> list[Violation]:
    """Every way in which schema `new` breaks `level` (one of catalogue.LEVELS) against its earlier versions.

    `history`: (name of the version, schema), oldest first. Against several versions that break alike only the newest is named.
    """
    if level not in LEVELS:
        raise ValueError(f"compatibility is one of {', '.join(LEVELS)}, not {level!r}")
    if level == "NONE" or not history:
        return []
    kind, _, transitive = level.partition("_")
    found: dict[tuple[str, Rule, Direction], Violation] = {}
    for against, old in reversed(history if transitive else history[-1:]):
        for direction, reader, writer in ((Direction.BACKWARD, new, old), (Direction.FORWARD, old, new)):
            asked = kind in (direction.upper(), "FULL")
            for mismatch in mismatches(reader, writer):
                if asked or not mismatch.rule.of_avro:
                    key = (mismatch.path, mismatch.rule, direction if mismatch.rule.of_avro else Direction.BACKWARD)
                    found.setdefault(key, Violation(mismatch.path, mismatch.rule, mismatch.words, key[2], against))
    return sorted(found.values(), key=lambda v: (v.path, v.direction))


def mismatches(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> list[Mismatch]:
    """Every reason why data of schema `writer` cannot be read as schema `reader`; empty where all of it can."""
    return list(_Resolution(_Names(reader), _Names(writer)).record())


class _Names:
    """A schema with its named types resolved, so that a reference and what it refers to are the same."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.named: dict[str, Any] = {}
        self.top = fastavro.parse_schema(dict(schema), named_schemas=self.named, _force=True, _write_hint=False)

    def resolve(self, kind: Any) -> Any:
        """The definition behind a reference; anything else as it is."""
        return self.named.get(kind, kind) if isinstance(kind, str) else kind


class _Resolution:
    """One comparison of two schemas; remembers the pairs of records it is within, so that recursive ones end."""

    def __init__(self, reader: _Names, writer: _Names) -> None:
        self._reader = reader
        self._writer = writer
        self._within: set[tuple[str, str]] = set()

    def record(self) -> Iterator[Mismatch]:
        return self._types("", self._reader.top, self._writer.top)

    def _types(self, path: str, reader: Any, writer: Any) -> Iterator[Mismatch]:
        reader, writer = self._reader.resolve(reader), self._writer.resolve(writer)
        if isinstance(writer, list):
            for branch in writer:
                if isinstance(reader, list):
                    yield from self._branch(path, reader, branch)
                elif branch == "null" and reader != "null":
                    yield Mismatch(path, Rule.UNION, f"{type_words(writer)} became {type_words(reader)}, which cannot hold null")
                else:
                    yield from self._types(path, reader, branch)
        elif isinstance(reader, list):
            yield from self._branch(path, reader, writer)
        else:
            yield from self._single(path, reader, writer)

    def _branch(self, path: str, reader: list[Any], writer: Any) -> Iterator[Mismatch]:
        """A writer's type against a reader's union: the first branch that reads it; else what is wrong with the only one that could."""
        tried = {position: list(self._types(path, branch, writer)) for position, branch in enumerate(reader)}
        readable = [found for found in tried.values() if not any(m.rule.of_avro for m in found)]
        if readable:
            yield from readable[0]
            return
        candidates = [position for position, branch in enumerate(reader) if branch != "null"]
        if len(candidates) == 1 and writer != "null":
            yield from tried[candidates[0]]
        else:
            yield Mismatch(path, Rule.UNION, f"{type_words(writer)} is none of the types of {type_words(reader)}")

    def _single(self, path: str, reader: Any, writer: Any) -> Iterator[Mismatch]:
        kinds = _kind(reader), _kind(writer)
        if kinds == ("record", "record"):
            yield from self._records(path, reader, writer)
        elif kinds == ("array", "array"):
            yield from self._types(f"{path}[]", reader["items"], writer["items"])
        elif kinds == ("map", "map"):
            yield from self._types(f"{path}{{}}", reader["values"], writer["values"])
        elif any(kind in ("enum", "fixed") for kind in kinds):
            yield Mismatch(path, Rule.TYPE, f"{type_words(writer)} to {type_words(reader)}: contracts have no enum and no fixed")
        elif kinds[0] != kinds[1] and kinds[0] not in PROMOTIONS.get(kinds[1], ()):
            yield Mismatch(path, Rule.TYPE, f"{type_words(writer)} cannot be read as {type_words(reader)}")
        elif _logical(reader) != _logical(writer):
            yield Mismatch(path, Rule.LOGICAL_TYPE, f"{type_words(writer)} means another thing than {type_words(reader)}")

    def _records(self, path: str, reader: Mapping[str, Any], writer: Mapping[str, Any]) -> Iterator[Mismatch]:
        pair = reader["name"], writer["name"]
        if pair in self._within:
            return
        if not _same_name(reader, writer):
            yield Mismatch(path, Rule.NAME, f"record {_short(writer)} is called {_short(reader)} now, without an alias")
            return
        self._within.add(pair)
        written = {f["name"]: f for f in writer["fields"]}
        for item in reader["fields"]:
            where = f"{path}.{item['name']}" if path else item["name"]
            source = next((written[name] for name in (item["name"], *item.get("aliases", ())) if name in written), None)
            if source is not None:
                yield from self._types(where, item["type"], source["type"])
                if "unit" in item and item["unit"] != source.get("unit", item["unit"]):
                    yield Mismatch(where, Rule.UNIT, f"its unit was {source['unit']} and is {item['unit']}")
            elif "default" not in item:
                yield Mismatch(where, Rule.NO_DEFAULT, "the reader requires it and the writer does not write it")
        self._within.discard(pair)


def _same_name(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> bool:
    """Unqualified names agree, or an alias of the reader names the writer."""
    aliases = reader.get("aliases", ())
    return _short(reader) == _short(writer) or writer["name"] in aliases or _short(writer) in aliases


def _short(record: Mapping[str, Any]) -> str:
    return str(record["name"]).rpartition(".")[2]


def _kind(kind: Any) -> str:
    return str(kind["type"]) if isinstance(kind, Mapping) else str(kind)


def _logical(kind: Any) -> tuple[Any, ...]:
    if not isinstance(kind, Mapping) or "logicalType" not in kind:
        return ()
    return (kind["logicalType"], kind.get("precision"), kind.get("scale", 0) if "precision" in kind else None)


def type_words(kind: Any) -> str:
    """An Avro type in words: `[null, long]`, `record Inner`, `decimal(9, 2)`."""
    if isinstance(kind, list):
        return f"[{', '.join(type_words(k) for k in kind)}]"
    if not isinstance(kind, Mapping):
        return str(kind)
    logical = _logical(kind)
    if logical[:1] == ("decimal",):
        return f"decimal({logical[1]}, {logical[2]})"
    return str(logical[0]) if logical else f"record {_short(kind)}" if kind["type"] == "record" else str(kind["type"])


def explain_break(topic: str, level: str, broken: Sequence[Violation], users: Users | None = None) -> str:
    """A refusal in words: the violations of each field, and below them who uses it where `users` is given (see lineage.Lineage.words)."""
    lines = [f"{topic} would break its level {level}:"]
    for field in dict.fromkeys(violation.field for violation in broken):
        lines += [f"  {violation}" for violation in broken if violation.field == field]
        if users is not None:
            lines += [f"    breaks {user}" for user in users(topic, field)] or ["    no job, table or panel uses it"]
    return "\n".join(lines)
