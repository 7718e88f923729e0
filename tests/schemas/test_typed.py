"""Typed records: derived at import, and the stub that editors read is current."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NotRequired, get_type_hints

from schemas import records, typed
from schemas.catalogue import catalogue
from tests.schemas.contracts import every_type, topic


def test_the_stub_is_current() -> None:
    stub = Path(records.__file__).with_suffix(".pyi").read_text()
    assert stub == typed.stub(catalogue().events.values()), "run `python -m schemas.typed`"


def test_every_event_has_a_record() -> None:
    for event in catalogue().events.values():
        assert get_type_hints(getattr(records, typed.record_name(event))).keys() == {f["name"] for f in event.fields}


def test_what_must_be_written() -> None:
    assert {"sid", "sn", "e"} == set(records.PlaybackReport.__required_keys__)


def test_every_type_has_its_python_type(tmp_path: Path) -> None:
    event = topic(tmp_path, *every_type()).event
    text = typed.stub([event])
    ast.parse(text)
    for line in (
        "class LabThingARecord(TypedDict):\n    depth: int\n    state: NotRequired[str | None]",
        "a_record: LabThingARecord",
        "an_instant: Instant",
        "a_decimal: Decimal",
        "a_date: date",
        "a_map: dict[str, int]",
        "optionals: list[int | None]",
        'an_optional_symbol: NotRequired[Literal["on", "off"] | None]',
        "m: NotRequired[bool]",
    ):
        assert line in text
    hints = get_type_hints(typed.record_types([event])["LabThing"], include_extras=True)
    assert hints["m"] == NotRequired[bool]
    assert hints["optionals"] == list[int | None]
