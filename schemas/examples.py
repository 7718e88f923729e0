"""Random events that fit their contract: for tests, benchmarks and the first look at a new event. Seeded: the same `random` gives the same.

Values are as a decoder returns them (aware datetimes, dates, Decimals), so what was encoded and decoded again is equal.
One value in `EDGE` is an edge of its type: the largest, the smallest, the empty, the awkward.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from schemas.catalogue import Catalogue, Event
from schemas.codec import Encoder, InvalidEvent

EDGE = 8
WORDS = ("alpine", "braided", "cascade", "delta", "eddy", "fjord", "glacier", "headrace")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Draw = Callable[[Random], Any]

USUAL: Mapping[str, Draw] = {
    "string": lambda random: f"{random.choice(WORDS)}-{random.randrange(1000)}",
    "int": lambda random: random.randrange(100_000),
    "long": lambda random: random.randrange(10_000_000_000),
    "float": lambda random: _single(random.uniform(0, 100)),
    "double": lambda random: random.uniform(0, 100),
    "boolean": lambda random: random.random() < 0.5,
    "bytes": lambda random: random.randbytes(random.randrange(1, 40)),
    "timestamp-millis": lambda random: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=random.randrange(86_400_000 * 365)),
    "date": lambda random: date(2026, 1, 1) + timedelta(days=random.randrange(365)),
}
EDGES: Mapping[str, tuple[Any, ...]] = {
    "string": ("", " ", "ünïcödé 名前", "'; DROP TABLE x; --", 'quote " and \\ slash', "tab\tline\nend", "x" * 1_000),
    "int": (0, -1, 2**31 - 1, -(2**31)),
    "long": (0, -1, 2**63 - 1, -(2**63)),
    "float": (0.0, -1.5, 2.0**127),
    "double": (0.0, -1.5, 1e308, 5e-324),
    "boolean": (True, False),
    "bytes": (b"", b"\x00", bytes(range(256))),
    "timestamp-millis": (EPOCH, datetime(2199, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)),
    "date": (date(1970, 1, 1), date(2199, 12, 31)),
}
"""Times within what ClickHouse's DateTime64 and Date32 hold: 1900 to 2299."""


def example(event: Event, random: Random) -> dict[str, Any]:
    """A record of every field of `event`, envelope included, that fits its contract. Never a time marker."""
    return {f["name"]: False if f["name"] == "marker" else field_value(f, random) for f in event.fields}


def field_value(item: Mapping[str, Any], random: Random) -> Any:
    """A value for one field: one of its symbols where it has them, null one time in four where it may be."""
    if isinstance(item["type"], list) and random.random() < 0.25:
        return None
    return random.choice(item["symbols"]) if "symbols" in item else value(item["type"], random)


def value(kind: Any, random: Random) -> Any:
    """A value of an Avro type."""
    if isinstance(kind, list):
        return None if random.random() < 0.25 else value(kind[1], random)
    if isinstance(kind, str):
        return random.choice(EDGES[kind]) if random.randrange(EDGE) == 0 else USUAL[kind](random)
    logical = kind.get("logicalType")
    if logical == "decimal":
        return Decimal(random.randrange(-(10 ** kind["precision"]) + 1, 10 ** kind["precision"])).scaleb(-kind.get("scale", 0))
    if logical is not None:
        return value(logical, random)
    if kind["type"] == "array":
        return [value(kind["items"], random) for _ in range(random.randrange(4))]
    if kind["type"] == "map":
        return {value("string", random): value(kind["values"], random) for _ in range(random.randrange(4))}
    if kind["type"] == "record":
        return {f["name"]: field_value(f, random) for f in kind["fields"]}
    return value(kind["type"], random)


def mistaken(catalogue: Catalogue) -> Iterator[str]:
    """Which examples are missing, or do not pass or are not refused as their names say, in words."""
    seen: set[str] = set()
    for domain, folder in catalogue.folders.items():
        files = (folder / "examples").iterdir() if (folder / "examples").is_dir() else ()
        for file in sorted((f for f in files if f.name.endswith(".json")), key=lambda f: f.name):
            where, event = f"{domain}/examples/{file.name}", catalogue.events.get(f"{domain}.{file.name.split('.')[0]}")
            if event is None or file.name.split(".")[2:] not in (["pass", "json"], ["fail", "json"]):
                yield f"{where}: examples are named <event>.<case>.pass.json or <event>.<case>.fail.json"
                continue
            try:
                body = json.loads(file.read_text(encoding="utf-8"))
                wanted = body["refused"] if file.name.endswith(".fail.json") else ""
                said = _refusal(event, body["event"] if wanted else body)
            except (ValueError, KeyError, TypeError) as error:
                yield f"{where}: cannot be read: {error!r}"
                continue
            if not wanted:
                seen.add(event.full_name)
            if wanted not in said or bool(wanted) != bool(said):
                yield f"{where}: {said or 'is not refused'}{f', and not for: {wanted}' if wanted else ''}"
    yield from (f"{name}: has no example that passes: write one" for name in sorted(catalogue.events.keys() - seen))


def _refusal(event: Event, values: Mapping[str, Any]) -> str:
    """Why the encoder refuses an event; empty where it does not."""
    try:
        Encoder(event, 0)(from_json(event, values))
    except InvalidEvent as refusal:
        return str(refusal)
    return ""


def _single(number: float) -> float:
    """The nearest number that 32 bits hold."""
    return float(struct.unpack("<f", struct.pack("<f", number))[0])


def from_json(event: Event, values: Mapping[str, Any]) -> dict[str, Any]:
    """A record from its JSON: ISO 8601 strings for times and dates, text in Latin-1 for bytes, strings for decimals.

    What does not have that form is left as it is, for the encoder to refuse.
    """
    types = {f["name"]: f["type"] for f in event.fields}
    return {name: _from_json(types[name], value) if name in types else value for name, value in values.items()}


def _from_json(kind: Any, value: Any) -> Any:
    if isinstance(kind, list):
        return _from_json(kind[1], value)
    if isinstance(kind, Mapping) and kind["type"] == "record" and isinstance(value, Mapping):
        types = {f["name"]: f["type"] for f in kind["fields"]}
        return {name: _from_json(types[name], inner) if name in types else inner for name, inner in value.items()}
    if not isinstance(value, str):
        return value
    logical = kind.get("logicalType") if isinstance(kind, Mapping) else kind
    try:
        if logical == "timestamp-millis":
            return datetime.fromisoformat(value)
        if logical == "date":
            return date.fromisoformat(value)
        return value.encode("latin-1") if logical == "bytes" else Decimal(value) if logical == "decimal" else value
    except (ValueError, ArithmeticError):
        return value
