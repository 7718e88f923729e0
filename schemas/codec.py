"""Events to bytes and back: Confluent framing (magic byte 0, four-byte schema id, Avro binary) around fastavro.

The encoder refuses what fastavro would write without a word, as measured on 1.13: an int beyond 32 bits, a float or a boolean
cut to an int, any object as a boolean, a time without a zone taken as local time, an unknown field left out; and what Avro
cannot say, a string outside its symbols.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

import fastavro

from schemas.catalogue import Event
from schemas.compiled import Unsure, compile_writer

HEADER = struct.Struct(">bI")
INT = (-(2**31), 2**31 - 1)
LONG = (-(2**63), 2**63 - 1)
INSTANT_MS = (-62_135_596_800_000, 253_402_300_799_999)
"""Years 1 to 9999: what a timestamp can be read back as."""
DAYS = (-719_162, 2_932_896)
"""The same as days since 1970."""

Check = Callable[[Any], str | None]
"""What is wrong with a value, in words; None where it fits."""


class InvalidEvent(ValueError):
    """An event does not fit its contract; the message names the field."""


class BadFraming(ValueError):
    """Bytes that do not begin with the magic byte and a schema id."""


class BadPayload(ValueError):
    """Bytes after the framing that do not fit the schema."""


class Encoder:
    """Encodes events of one contract under one registered id. Stateless after construction; safe to share between threads."""

    def __init__(self, event: Event, schema_id: int) -> None:
        self.event = event
        self.schema_id = schema_id
        self.header = HEADER.pack(0, schema_id)
        self._names = frozenset(f["name"] for f in event.fields)
        self._checks = [(f["name"], c) for f in event.fields if (c := check(f["type"], f.get("symbols"))) is not None]
        self._quick = compile_writer(event.schema, self.header, {"int": INT, "long": LONG, "timestamp-millis": INSTANT_MS})

    def __call__(self, record: Mapping[str, Any]) -> bytes:
        """Framed bytes of `record`, a mapping of field names; absent fields take their defaults. Raises InvalidEvent."""
        if self._quick is None:
            return self._careful(record)
        try:
            return self._quick(record)
        except Unsure:
            return self._careful(record)

    def _careful(self, record: Mapping[str, Any]) -> bytes:
        """As fastavro writes it, after everything that fastavro would let pass has been checked."""
        for name, wrong in self._checks:
            if name in record and (words := wrong(record[name])):
                raise InvalidEvent(f"{self.event.full_name}.{name}: {words}")
        if not self._names.issuperset(record):
            raise InvalidEvent(f"{self.event.full_name}: no such field: {', '.join(sorted(set(record) - self._names))}")
        out = io.BytesIO()
        out.write(self.header)
        try:
            fastavro.schemaless_writer(out, self.event.parsed, record)
        except (ValueError, TypeError, AttributeError, OverflowError, struct.error) as error:
            raise InvalidEvent(f"{self.event.full_name}: {explain(self.event, record) or error}") from None
        return out.getvalue()


class Decoder:
    """Decodes framed bytes of any id. `schema_of(id)` looks a schema up (RegistryClient.schema); parsed schemas are kept.

    With `event`, records written under an older or newer version are read as that contract has them: fields it added have
    their defaults, fields it does not know are left out.
    """

    def __init__(self, schema_of: Callable[[int], dict[str, Any]], event: Event | None = None) -> None:
        self._schema_of = schema_of
        self._reader = None if event is None else event.parsed
        self._parsed: dict[int, Any] = {}

    def __call__(self, framed: bytes) -> dict[str, Any]:
        """The record. Raises BadFraming, BadPayload, or whatever `schema_of` raises for an unknown id."""
        schema_id = schema_id_of(framed)
        if schema_id not in self._parsed:
            self._parsed[schema_id] = fastavro.parse_schema(self._schema_of(schema_id), _force=True)
        body = io.BytesIO(framed)
        body.seek(HEADER.size)
        try:
            record = fastavro.schemaless_reader(body, self._parsed[schema_id], self._reader)
        except Exception as error:  # fastavro raises several kinds on truncated input
            raise BadPayload(f"{type(error).__name__}: {error} at byte {body.tell()} of {len(framed)}") from None
        if body.tell() != len(framed):
            raise BadPayload(f"{len(framed) - body.tell()} bytes are left over after the record")
        if not isinstance(record, dict):
            raise BadPayload(f"schema {schema_id} is of a {type(record).__name__}, not of a record")
        return record


def schema_id_of(framed: bytes) -> int:
    """The schema id in the framing. Raises BadFraming."""
    if len(framed) < HEADER.size:
        raise BadFraming(f"{len(framed)} bytes are too short for a magic byte and a schema id")
    magic, schema_id = HEADER.unpack_from(framed)
    if magic != 0:
        raise BadFraming(f"magic byte is {magic & 0xFF:#04x}, not 0x00")
    return int(schema_id)


def explain(event: Event, record: Mapping[str, Any]) -> str:
    """Name the first field of `record` that does not fit, in words; empty if every field fits by itself."""
    for item in event.fields:
        name = item["name"]
        if name not in record:
            if "default" not in item:
                return f"{name} is missing"
            continue
        if not _valid(record[name], item["type"]):
            return f"{name}: {record[name]!r} is not {_words(item['type'])}"
    return ""


def check(kind: Any, symbols: list[str] | None = None) -> Check | None:
    """What must be checked of a value of this Avro type before fastavro sees it; None where fastavro refuses by itself."""
    if isinstance(kind, list):
        inner = check(kind[1], symbols) if symbols is not None or isinstance(kind[1], Mapping) else None
        return None if inner is None else (lambda value: None if value is None else inner(value))  # of a union fastavro checks the rest
    if symbols is not None:
        allowed = frozenset(symbols)
        return lambda value: None if isinstance(value, str) and value in allowed else f"{value!r} is none of {', '.join(symbols)}"
    if kind == "boolean":
        return lambda value: None if value is True or value is False else f"{value!r} is not a boolean"
    if kind in ("int", "long"):
        return _whole(*(INT if kind == "int" else LONG), kind)
    if kind in ("float", "double"):
        return lambda value: None if isinstance(value, (float, int)) and not isinstance(value, bool) else f"{value!r} is not a number"
    return _check_within(kind) if isinstance(kind, Mapping) else None


def _check_within(kind: Mapping[str, Any]) -> Check | None:
    logical = kind.get("logicalType")
    if logical == "timestamp-millis":
        return _instant
    if logical == "date":
        return _date
    if logical == "decimal":
        return None
    if kind["type"] == "array":
        return _each(check(kind["items"]), lambda value: isinstance(value, (list, tuple)), enumerate, "a list")
    if kind["type"] == "map":
        return _each(check(kind["values"]), lambda value: isinstance(value, Mapping), lambda value: value.items(), "a mapping")
    if kind["type"] == "record":
        return _nested(kind["fields"])
    return check(kind["type"])


def _whole(low: int, high: int, name: str) -> Check:
    def wrong(value: Any) -> str | None:
        if not isinstance(value, int) or isinstance(value, bool):
            return f"{value!r} is not a whole number"
        return None if low <= value <= high else f"{value} is beyond {name}"

    return wrong


_MILLISECONDS = _whole(*INSTANT_MS, "the years 1 to 9999, in milliseconds since 1970")
_DAYS = _whole(*DAYS, "the years 1 to 9999, in days since 1970")


def _instant(value: Any) -> str | None:
    if isinstance(value, datetime):
        return f"{value} has no time zone" if value.tzinfo is None else None
    return _MILLISECONDS(value)


def _date(value: Any) -> str | None:
    return None if isinstance(value, date) and not isinstance(value, datetime) else _DAYS(value)


def _each(inner: Check | None, fits: Callable[[Any], bool], items: Callable[[Any], Any], name: str) -> Check:
    def wrong(value: Any) -> str | None:
        if not fits(value):
            return f"{value!r} is not {name}"
        if inner is not None:
            for key, member in items(value):
                if words := inner(member):
                    return f"at {key!r}: {words}"
        return None

    return wrong


def _nested(fields: list[dict[str, Any]]) -> Check:
    checks = {f["name"]: check(f["type"]) for f in fields}

    def wrong(value: Any) -> str | None:
        if not isinstance(value, Mapping):
            return f"{value!r} is not a mapping"
        if not checks.keys() >= value.keys():
            return f"no such field: {', '.join(sorted(set(value) - set(checks)))}"
        for name, inner in checks.items():
            if inner is not None and name in value and (words := inner(value[name])):
                return f"{name}: {words}"
        return None

    return wrong


def _valid(value: Any, kind: Any) -> bool:
    standalone = fastavro.parse_schema(kind, _force=True) if isinstance(kind, dict) else kind
    try:
        return bool(fastavro.validate(value, standalone, raise_errors=False))
    except (ValueError, TypeError, OverflowError):  # of a decimal that does not fit fastavro raises even so
        return False


def _words(kind: Any) -> str:
    """An Avro type as people say it."""
    if isinstance(kind, list):
        return f"{_words(kind[1])} or null"
    if not isinstance(kind, Mapping):
        return str(kind)
    if kind.get("logicalType") == "decimal":
        return f"decimal({kind['precision']}, {kind.get('scale', 0)})"
    return str(kind.get("logicalType", kind["type"]))
