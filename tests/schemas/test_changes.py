"""What is different between two versions, and deprecations written into files as people have laid them out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas import deprecate
from schemas.catalogue import ContractError, load
from schemas.changes import changes
from tests.schemas.contracts import TOPIC, field, record, write

INNER = {"type": "array", "items": {"type": "record", "name": "Inner", "fields": [field("depth", "int")]}}
DEEPER = {"type": "array", "items": {"type": "record", "name": "Inner", "fields": [field("depth", "long")]}}


def test_each_difference_is_said_once() -> None:
    old = record(field("amount", "long", unit="byte"), field("inner", INNER), field("gone", "int"), field("old_name", "string"))
    new = record(
        field("amount", "double", unit="ms"),
        field("inner", DEEPER),
        field("new_name", "string", aliases=["old_name"], doc="Other."),
        field("note", ["null", "string"], default=None),
    )
    assert changes(old, new) == [
        "amount: was long and is double",
        "amount: unit was byte and is ms",
        "inner.depth: was int and is long",
        "new_name: was old_name",
        "new_name: its doc has changed",
        "note: added, [null, string], default None",
        "gone: removed, was int",
    ]
    assert changes(old, old) == []


LAID_OUT = """{
  "type": "record", "name": "Thing", "namespace": "headrace.lab", "doc": "Test.",
  "fields": [
    {"name": "id", "type": "string", "doc": "Key."},
    {"name": "inner", "doc": "X.", "type": {"type": "record", "name": "Inner", "fields": [
      {"name": "amount", "type": "int", "doc": "Not this."}
    ]}},
    {
      "name": "amount",
      "type": "long",
      "doc": "A { in words."
    }
  ]
}
"""


def test_a_field_is_deprecated_where_it_stands(tmp_path: Path) -> None:
    text = deprecate.field(LAID_OUT, "amount", "2026-12-31", "total")
    said = ', "deprecated": {"by": "2026-12-31", "use": "total"}'
    assert text == LAID_OUT.replace('"A { in words."', f'"A {{ in words."{said}')
    (item,) = (f for f in load(write(tmp_path, text)).events["lab.thing"].fields if f["name"] == "amount")
    assert item["deprecated"] == {"by": "2026-12-31", "use": "total"}
    with pytest.raises(ContractError, match="amount is deprecated already: by 2026-12-31, use total"):
        deprecate.field(text, "amount", "2027-12-31", "sum")
    with pytest.raises(ContractError, match="there is no field 'colour'; fields are id, inner, amount"):
        deprecate.field(LAID_OUT, "colour", "2026-12-31", "total")


def test_a_topic_is_deprecated_in_its_own_entry(tmp_path: Path) -> None:
    write(tmp_path, record())
    file = tmp_path / "lab" / "topics.yaml"
    file.write_text(f"# One.\nthing: {json.dumps(TOPIC)}\n")
    with pytest.raises(ContractError, match="there is no entry 'thing'"):
        deprecate.topic(file.read_text(), "thing", "2026-12-31", "lab.other")
    write(tmp_path, record())
    text = file.read_text() + file.read_text().replace("thing:", "thing_too:\n  event: thing", 1)
    file.write_text(deprecate.topic(text, "thing_too", "2026-12-31", "lab.thing"))
    topics = load(tmp_path).topics
    assert (topics["lab.thing"].deprecated, topics["lab.thing_too"].deprecated) == (None, {"by": "2026-12-31", "use": "lab.thing"})
    with pytest.raises(ContractError, match="thing_too is deprecated already"):
        deprecate.topic(file.read_text(), "thing_too", "2027-12-31", "lab.thing")


@pytest.mark.parametrize(
    ("said", "words"),
    [("soon", "`by` which date"), ({"by": "2026-12-31"}, "what to `use`"), ({"by": "soon", "use": "x"}, "write a date as 2026-12-31")],
)
def test_a_deprecation_says_when_and_what_instead(tmp_path: Path, said: object, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        load(write(tmp_path, record(field("amount", "long", deprecated=said))))
    with pytest.raises(ContractError, match=words):
        load(write(tmp_path, record(), deprecated=said))
