"""Events to bytes and back: Confluent framing (magic byte 0, four-byte schema id, Avro binary) around fastavro.

Encoding checks what Avro does not: symbols of strings, and that no unknown field is silently dropped.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from typing import Any

import fastavro

from schemas.catalogue import Event

HEADER = struct.Struct(">bI")


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
        self._header = HEADER.pack(0, schema_id)
        self._names = frozenset(f["name"] for f in event.fields)
        self._symbols = [(f["name"], frozenset(f["symbols"])) for f in event.fields if "symbols" in f]

    def __call__(self, record: Mapping[str, Any]) -> bytes:
        """Framed bytes of `record`, a mapping of field names; absent fields take their defaults. Raises InvalidEvent."""
        for name, symbols in self._symbols:
            value = record.get(name)
            if value is not None and value not in symbols:
                raise InvalidEvent(f"{self.event.full_name}.{name}: {value!r} is none of {', '.join(sorted(symbols))}")
        out = io.BytesIO()
        out.write(self._header)
        try:
            fastavro.schemaless_writer(out, self.event.parsed, record)
        except (ValueError, TypeError, AttributeError, OverflowError, struct.error) as error:
            raise InvalidEvent(f"{self.event.full_name}: {explain(self.event, record) or error}") from None
        if not self._names.issuperset(record):
            raise InvalidEvent(f"{self.event.full_name}: no such field: {', '.join(sorted(set(record) - self._names))}")
        return out.getvalue()


class Decoder:
    """Decodes framed bytes of any id. `schema_of(id)` looks a schema up (RegistryClient.schema); parsed schemas are kept."""

    def __init__(self, schema_of: Callable[[int], dict[str, Any]]) -> None:
        self._schema_of = schema_of
        self._parsed: dict[int, Any] = {}

    def __call__(self, framed: bytes) -> dict[str, Any]:
        """The record. Raises BadFraming, BadPayload, or whatever `schema_of` raises for an unknown id."""
        schema_id = schema_id_of(framed)
        if schema_id not in self._parsed:
            self._parsed[schema_id] = fastavro.parse_schema(self._schema_of(schema_id), _force=True)
        body = io.BytesIO(framed)
        body.seek(HEADER.size)
        try:
            record = fastavro.schemaless_reader(body, self._parsed[schema_id], None)
        except Exception as error:  # fastavro raises several kinds on truncated input
            raise BadPayload(f"{type(error).__name__}: {error} at byte {body.tell()} of {len(framed)}") from None
        if body.tell() != len(framed):
            raise BadPayload(f"{len(framed) - body.tell()} bytes are left over after the record")
        return record  # type: ignore[return-value]


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
        if not fastavro.validate(record[name], _standalone(item["type"]), raise_errors=False):
            return f"{name}: {record[name]!r} is not {item['type']}"
    return ""


def _standalone(kind: Any) -> Any:
    return fastavro.parse_schema(kind, _force=True) if isinstance(kind, dict) else kind
