"""Small contracts for tests: a whole folder of them from a few fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from schemas.catalogue import Event, Topic, catalogue, load

ENVELOPE = Path(__file__).parents[2] / "schemas" / "envelope.avsc"
TOPIC: dict[str, Any] = {
    "description": "Test.",
    "owner": "test",
    "key": "id",
    "partitions": 1,
    "producers": ["test"],
    "consumers": ["test"],
    "order_by": ["id"],
}
ID = {"name": "id", "type": "string", "doc": "Key."}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    """A field as a contract has it."""
    return {"name": name, "type": kind, "doc": "Test.", **more}


def record(*fields: dict[str, Any], name: str = "Thing") -> dict[str, Any]:
    """An event's schema with the key and these fields."""
    return {"type": "record", "name": name, "namespace": "headrace.lab", "doc": "Test.", "fields": [ID, *fields]}


def write(root: Path, avsc: Any, **entry: Any) -> Path:
    """A folder of contracts with the one event `lab.thing`."""
    (root / "lab").mkdir(exist_ok=True)
    (root / "envelope.avsc").write_text(ENVELOPE.read_text())
    (root / "lab" / "thing.avsc").write_text(avsc if isinstance(avsc, str) else json.dumps(avsc))
    (root / "lab" / "topics.yaml").write_text(yaml.safe_dump({"thing": {k: v for k, v in {**TOPIC, **entry}.items() if v is not None}}))
    return root


def topic(root: Path, *fields: dict[str, Any], **entry: Any) -> Topic:
    """The topic `lab.thing` with these fields beside its key."""
    return load(write(root, record(*fields), **entry)).topic("lab.thing")


def every_type() -> list[dict[str, Any]]:
    """One field of each type that a contract may use, and some named with words of SQL."""
    inner = {"type": "record", "name": "Inner", "fields": [field("depth", "int"), field("state", ["null", "string"], default=None)]}
    return [
        field("a_string", "string"),
        field("an_int", "int", unit="ms"),
        field("a_long", "long"),
        field("a_float", "float"),
        field("a_double", "double"),
        field("a_boolean", "boolean"),
        field("a_bytes", "bytes"),
        field("a_date", {"type": "int", "logicalType": "date"}),
        field("an_instant", {"type": "long", "logicalType": "timestamp-millis"}),
        field("a_decimal", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
        field("a_map", {"type": "map", "values": "long"}),
        field("an_array", {"type": "array", "items": "string"}),
        field("optionals", {"type": "array", "items": ["null", "int"]}),
        field("a_record", inner),
        field("an_optional", ["null", "long"], default=None),
        field("an_optional_instant", ["null", {"type": "long", "logicalType": "timestamp-millis"}], default=None),
        field("a_symbol", "string", symbols=["on", "off"]),
        field("an_optional_symbol", ["null", "string"], default=None, symbols=["on", "off"]),
        field("a_label", "string", low_cardinality=True),
        field("value", "double"),
        field("order", "string"),
        field("m", "boolean", default=False),
    ]


def events() -> list[Event]:
    """Every event of this installation."""
    return list(catalogue().events.values())
