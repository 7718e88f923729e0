"""A writer and a reader made for one contract: functions whose source is derived from the schema, as `dataclasses` derives an `__init__`.

The writer writes what fastavro writes, in a quarter of its time, for the plain values that make up nearly every event. Of anything else —
another type, a number out of range, a symbol that is not listed, an unknown field — it says `Unsure` and leaves the verdict, and the
words for it, to `schemas.codec.Encoder`'s careful way.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Collection, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import fastavro

from schemas.wire import long_bytes

Writer = Callable[[Mapping[str, Any]], bytes]


class Unsure(Exception):
    """The value is none of the plain ones: encode it the careful way."""


_SMALL = [long_bytes(number) for number in range(0x4000)]
"""Most numbers, and most lengths of strings."""
EPOCH_DAY = date(1970, 1, 1).toordinal()
_double = struct.Struct("<d").pack


def _whole(low: int, high: int) -> Callable[[Any], bytes]:
    def write(value: Any) -> bytes:
        if value.__class__ is not int or not low <= value <= high:
            raise Unsure
        return _SMALL[value] if 0 <= value < 0x4000 else long_bytes(value)

    return write


def _string(value: Any) -> bytes:
    if value.__class__ is not str:
        raise Unsure
    try:
        data: bytes = value.encode()
    except UnicodeEncodeError:
        raise Unsure from None
    return (_SMALL[len(data)] if len(data) < 0x4000 else long_bytes(len(data))) + data


def _bytes(value: Any) -> bytes:
    if value.__class__ is not bytes:
        raise Unsure
    return long_bytes(len(value)) + value


def _boolean(value: Any) -> bytes:
    if value.__class__ is not bool:
        raise Unsure
    return b"\x01" if value else b"\x00"


def _float64(value: Any) -> bytes:
    if value.__class__ is not float:
        raise Unsure
    return _double(value)


def _date(value: Any) -> bytes:
    if value.__class__ is not date:
        raise Unsure
    return long_bytes(value.toordinal() - EPOCH_DAY)


def _decimal(precision: int, scale: int) -> Callable[[Any], bytes]:
    """Two's complement of the unscaled number, in as few bytes as hold it and its sign."""

    def write(value: Any) -> bytes:
        if value.__class__ is not Decimal:
            raise Unsure
        sign, digits, exponent = value.as_tuple()
        if exponent.__class__ is not int or exponent + scale < 0 or len(digits) > precision:
            raise Unsure
        unscaled = int("".join(map(str, digits))) * 10 ** (exponent + scale)
        return _bytes((-unscaled if sign else unscaled).to_bytes((unscaled.bit_length() + 8) >> 3, "big", signed=True))

    return write


def _symbol(symbols: list[str]) -> Callable[[Any], bytes]:
    written = {symbol: _string(symbol) for symbol in symbols}

    def write(value: Any) -> bytes:
        try:
            return written[value]
        except (KeyError, TypeError):
            raise Unsure from None

    return write


def _array(item: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    def write(value: Any) -> bytes:
        if value.__class__ is not list:
            raise Unsure
        return long_bytes(len(value)) + b"".join(map(item, value)) + b"\x00" if value else b"\x00"

    return write


def _map(item: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    def write(value: Any) -> bytes:
        if value.__class__ is not dict:
            raise Unsure
        return long_bytes(len(value)) + b"".join(_string(k) + item(v) for k, v in value.items()) + b"\x00" if value else b"\x00"

    return write


def _record(write_fields: Writer) -> Callable[[Any], bytes]:
    def write(value: Any) -> bytes:
        if value.__class__ is not dict:
            raise Unsure
        return write_fields(value)

    return write


def _writer_of(kind: Any, symbols: list[str] | None, limits: Mapping[str, tuple[int, int]]) -> Callable[[Any], bytes] | None:
    """What writes a value of this type; None for types that only the careful way knows."""
    if isinstance(kind, Mapping):
        if kind.get("logicalType") == "timestamp-millis":
            return _whole(*limits["timestamp-millis"])
        if kind.get("logicalType") == "date":
            return _date
        if kind.get("logicalType") == "decimal":
            return _decimal(kind["precision"], kind.get("scale", 0))
        if "logicalType" in kind:
            return None
        if kind["type"] == "record":
            writer = compile_writer(kind, b"", limits)
            return None if writer is None else _record(writer)
        inner = kind["items"] if kind["type"] == "array" else kind["values"] if kind["type"] == "map" else None
        item = None if inner is None or isinstance(inner, list) else _writer_of(inner, None, limits)
        if item is None:
            return None
        return _array(item) if kind["type"] == "array" else _map(item)
    if symbols is not None:
        return _symbol(symbols)
    if kind in ("int", "long"):
        return _whole(*limits[kind])
    return {"string": _string, "bytes": _bytes, "boolean": _boolean, "double": _float64}.get(kind)


def compile_writer(schema: Mapping[str, Any], prefix: bytes, limits: Mapping[str, tuple[int, int]]) -> Writer | None:
    """A function from a record to `prefix` and its Avro bytes; None where a field's type is beyond it.

    `limits` are the lowest and highest `int`, `long` and `timestamp-millis`. The function raises Unsure.
    """
    known: dict[str, Any] = {"names": frozenset(f["name"] for f in schema["fields"]), "Unsure": Unsure, "prefix": prefix, "join": b"".join}
    lines = []
    for number, item in enumerate(schema["fields"]):
        kind, optional = item["type"], isinstance(item["type"], list)
        write = _writer_of(kind[1] if optional else kind, item.get("symbols"), limits)
        if write is None:
            return None
        known[f"write{number}"] = write
        value = f"write{number}(value)"
        if optional:
            lines.append(rf"b'\0' if (value := get({item['name']!r})) is None else b'\2' + {value}")
        elif "default" in item:
            known[f"default{number}"] = _default(item)
            lines.append(f"default{number} if (value := get({item['name']!r}, absent)) is absent else {value}")
        else:
            lines.append(f"write{number}(get({item['name']!r}))")
    known["absent"] = object()
    source = (
        "def write(record):\n"
        "    if not names >= record.keys():\n"
        "        raise Unsure\n"
        "    get = record.get\n"
        f"    return join((prefix, {', '.join(lines)}))\n"
    )
    exec(source, known)
    writer: Writer = known["write"]
    return writer


def _default(item: Mapping[str, Any]) -> bytes:
    out = io.BytesIO()
    kind = item["type"]
    fastavro.schemaless_writer(out, fastavro.parse_schema(kind, _force=True) if isinstance(kind, dict) else kind, item["default"])
    return out.getvalue()


Reader = Callable[[bytes], Mapping[str, Any]]


def compile_reader(schema: Mapping[str, Any], names: Collection[str], begin: int) -> Reader | None:
    """A function from bytes, whose Avro begins at `begin`, to the fields `names`; None where a field before or among them is beyond it.

    It reads what fastavro reads of plain fields, in a fifth of its time where most are left out. The function raises Unsure for bytes that
    do not end with the record, and of what is left out it looks at nothing but the length.
    """
    lines = []
    for item in schema["fields"]:
        kind, name = item["type"], item["name"]
        wanted = name in names
        if kind in ("string", "bytes"):
            lines += [*_NUMBER, "end = at + (n >> 1)"]
            lines += [f"{name} = data[at:end]" + (".decode()" if kind == "string" else "")] if wanted else []
            lines += ["at = end"]
        elif kind in ("int", "long"):
            lines += _NUMBER if wanted else _PASSED
            lines += [f"{name} = n >> 1 ^ -(n & 1)"] if wanted else []
        elif kind == "boolean":
            lines += [f"{name} = data[at] == 1", "at += 1"]
        elif isinstance(kind, Mapping) and kind.get("logicalType") == "timestamp-millis" and not wanted:
            lines += _PASSED
        else:
            return None
    told = ", ".join(f"{name!r}: {name}" for name in names)
    source = (
        "def read(data):\n"
        "    try:\n"
        f"        at = {begin}\n" + "".join(f"        {line}\n" for line in lines) + "    except (IndexError, UnicodeDecodeError):\n"
        "        raise Unsure from None\n"
        "    if at != len(data):\n"
        "        raise Unsure\n"
        f"    return {{{told}}}\n"
    )
    known: dict[str, Any] = {"Unsure": Unsure, "rest": _rest}
    exec(source, known)
    reader: Reader = known["read"]
    return reader


_NUMBER = ["n = data[at]", "at += 1", "if n > 127: n, at = rest(data, n, at)"]
_PASSED = ["while data[at] > 127: at += 1", "at += 1"]


def _rest(data: bytes, first: int, at: int) -> tuple[int, int]:
    """A number that takes more than one byte, without its sign undone, and where it ends."""
    n, shift = first & 127, 7
    while True:
        byte = data[at]
        at += 1
        n |= (byte & 127) << shift
        if byte < 128:
            return n, at
        shift += 7
