"""The catalogue: what it reads, and that each mistake in a contract is refused with the file, the field and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.catalogue import ContractError, Event, catalogue, load
from tests.schemas.contracts import TOPIC, every_type, field, record, topic, write

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


def test_every_event_begins_with_the_envelope() -> None:
    for event in catalogue().events.values():
        assert [f["name"] for f in event.fields[:7]] == [
            "event_id", "event_time", "producer_id", "epoch", "seq", "correlation_id", "marker",
        ]  # fmt: skip


def test_an_unknown_topic_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ContractError, match=r"no topic 'playback.reprot'.*playback\.report"):
        catalogue().topic("playback.reprot")


def test_names_of_a_topic(tmp_path: Path) -> None:
    thing = topic(tmp_path, retention_days=2)
    assert (thing.name, thing.door_name, thing.subject, thing.table) == ("lab.thing", "lab.thing.in", "lab.thing-value", "lab_thing")
    assert thing.config()["retention.ms"] == str(2 * 86_400_000)
    assert thing.config(replay=True)["retention.ms"] == "-1"
    assert topic(tmp_path, cleanup="compact").config()["cleanup.policy"] == "compact"


def test_every_type_is_accepted(tmp_path: Path) -> None:
    assert len(topic(tmp_path, *every_type()).event.fields) == 7 + 1 + len(every_type())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([field("Name", "int")], r"lab/thing.avsc: field 'Name': names are lower case"),
        ([field("a", "int"), field("a", "long")], r"field 'a': is there twice"),
        ([{"name": "a", "type": "int"}], r"field 'a': say in `doc`"),
        ([{"name": "a", "doc": "x"}], r"field 'a': has no type"),
        ([field("a", "int", defualt=1)], r"field 'a': unknown defualt; known are aliases, default"),
        ([field("a", {"type": "enum", "name": "E", "symbols": ["x"]})], r"field 'a': type enum: Flink.*use a string and list its symbols"),
        ([field("a", {"type": "fixed", "name": "F", "size": 4})], r"field 'a': type fixed: use bytes"),
        ([field("a", {"type": "long", "logicalType": "timestamp-micros"})], r"timestamp-micros of long: Flink accepts TIMESTAMP\(3\) only"),
        ([field("a", {"type": "string", "logicalType": "uuid"})], r"uuid of string: use a plain string"),
        ([field("a", {"type": "int", "logicalType": "timestamp-millis"})], r"timestamp-millis of int: known are date of int"),
        ([field("a", "Thing")], r"type Thing: types are string.*a record is written out where it is used"),
        ([field("a", ["string", "null"])], r'the only union is \["null", T\]'),
        ([field("a", ["null", "int", "string"], default=None)], r'the only union is \["null", T\]'),
        ([field("a", ["null", "int"])], r'an optional field has "default": null'),
        ([field("a", ["null", {"type": "array", "items": "int"}], default=None)], r"ClickHouse has no Nullable\(array\)"),
        ([field("a", {"type": "record", "name": "R", "fields": [field("B", "int")]})], r"field 'a\.B': names are lower case"),
        ([field("a", {"type": "array", "items": {"type": "enum", "name": "E", "symbols": ["x"]}})], r"field 'a': type enum"),
        ([field("a", "int", default="x")], r"Default value <x> must match schema type: int"),
        ([field("a", {"type": "map", "values": "int"}, default={"x": "y"})], r"default \{'x': 'y'\} does not fit"),
        ([field("a", "int", symbols=["x"])], r"only a string at the top of an event has symbols"),
        ([field("a", "string", symbols=["x", "x"])], r"`symbols` is a list of different strings"),
        ([field("a", "string", symbols=["x"], default="y")], r"default 'y' is none of its symbols"),
        ([field("event_id", "string")], r"field 'event_id' belongs to the envelope"),
        ([field("topic_offset", "long")], r"field 'topic_offset' belongs to the tables"),
    ],
)
def test_a_field_that_some_part_cannot_carry_is_refused(tmp_path: Path, fields: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        topic(tmp_path, *fields)


@pytest.mark.parametrize(
    ("avsc", "words"),
    [
        ("{", r"thing.avsc: not JSON"),
        ("[]", r"lab/thing.avsc: an event is a record with fields"),
        ({"type": "record", "name": "Thing", "namespace": "headrace.lab", "doc": "x"}, r"an event is a record with fields"),
        ({**record(), "doc": ""}, r"say in `doc` what the event is"),
        (record(name="Other"), r'named after its file: "name": "Thing", "namespace": "headrace.lab"'),
    ],
)
def test_a_file_that_is_no_event_is_refused(tmp_path: Path, avsc: Any, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        load(write(tmp_path, avsc))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"owner": None}, r"lab/topics.yaml: thing: say its owner"),
        ({"colour": "red"}, r"unknown colour; known are event, cleanup"),
        ({"event": "ting"}, r"no contract lab/ting.avsc"),
        ({"key": "ident"}, r"lab.thing has no field 'ident'"),
        ({"key": "maybe"}, r"'maybe' is optional or nested: it cannot be a key"),
        ({"order_by": ["nested"]}, r"'nested' is optional or nested"),
        ({"compatibility": "SOME"}, r"compatibility is one of NONE, BACKWARD"),
        ({"cleanup": "shred"}, r"cleanup is delete or compact"),
        ({"partitions": 0}, r"partitions and retention_days are positive"),
        ({"retention_days": -1}, r"partitions and retention_days are positive"),
        ({"table_days": 0}, r"table_days is a whole number of days, 1 or more"),
        ({"producers": "test"}, r"producers is a list"),
    ],
)
def test_a_topic_that_is_not_declared_well_is_refused(tmp_path: Path, entry: dict[str, Any], words: str) -> None:
    nested = field("nested", {"type": "record", "name": "R", "fields": [field("b", "int")]})
    with pytest.raises(ContractError, match=words):
        topic(tmp_path, field("maybe", ["null", "string"], default=None), nested, **entry)


def test_contracts_without_topics_are_refused(tmp_path: Path) -> None:
    write(tmp_path, record())
    (tmp_path / "lab" / "topics.yaml").unlink()
    with pytest.raises(ContractError, match=r"lab: contracts without topics.yaml"):
        load(tmp_path)


def test_broken_yaml_is_refused(tmp_path: Path) -> None:
    write(tmp_path, record())
    (tmp_path / "lab" / "topics.yaml").write_text("thing: [")
    with pytest.raises(ContractError, match=r"lab/topics.yaml: not YAML"):
        load(tmp_path)


def test_an_instant_may_be_the_key(tmp_path: Path) -> None:
    assert topic(tmp_path, field("at", MILLIS), key="at", order_by=TOPIC["order_by"]).key == "at"


UNITS = {"_ms": "ms", "_us": "us", "_s": "s", "_kbps": "kbit/s", "_bps": "bit/s", "bytes": "byte"}


@pytest.mark.parametrize("event", catalogue().events.values(), ids=lambda event: event.full_name)
def test_a_unit_in_a_name_is_the_unit(event: Event) -> None:
    for item in event.fields:
        unit = next((unit for suffix, unit in UNITS.items() if item["name"].endswith(suffix)), None)
        if unit and "bytes" not in str(item["type"]):
            assert item.get("unit") == unit, item["name"]
