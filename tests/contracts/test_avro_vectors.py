"""The Avro project's own schemas parse, and a schema that passes the check against itself is one that we understand."""

from __future__ import annotations

import json
from typing import Any

import fastavro
import pytest

from schemas.evolve import mismatches
from tests.kit import vectors

SCHEMAS = ("FooBarSpecificRecord", "RecordWithRequiredFields", "fooBar", "interop", "reserved", "weather")
PROTOCOLS = ("BulkData", "mail", "namespace", "simple")


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_parse(name: str) -> None:
    schema = json.loads((vectors("avro") / "schemas" / f"{name}.avsc").read_text())
    fastavro.parse_schema(schema, _force=True)
    if schema["type"] == "record" and "enum" not in json.dumps(schema) and "fixed" not in json.dumps(schema):
        assert mismatches(schema, schema) == []


@pytest.mark.parametrize("name", PROTOCOLS)
def test_types_of_protocols_parse(name: str) -> None:
    protocol = json.loads((vectors("avro") / "schemas" / f"{name}.avpr").read_text())
    named: dict[str, Any] = {}
    for kind in protocol["types"]:
        kind = {"namespace": protocol["namespace"], **kind, "type": kind["type"].replace("error", "record")}
        fastavro.parse_schema(kind, named_schemas=named, _force=True)
    assert len(named) == len(protocol["types"])


def test_no_schema_is_left_out() -> None:
    found = {file.stem for file in (vectors("avro") / "schemas").iterdir() if file.suffix in (".avsc", ".avpr")}
    assert found == {*SCHEMAS, *PROTOCOLS}
