"""Examples: every event has one that passes and one that fails, and they do; random ones fit, and are the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from schemas.catalogue import Event, catalogue
from schemas.codec import Decoder, Encoder, InvalidEvent
from schemas.examples import example, from_json
from tests.schemas.contracts import events, every_type, topic

FILES = sorted((Path(__file__).parents[2] / "schemas").glob("*/examples/*.json"))


def event_of(file: Path) -> Event:
    return catalogue().events[f"{file.parts[-3]}.{file.name.split('.')[0]}"]


@pytest.mark.parametrize("event", events(), ids=lambda event: event.full_name)
@pytest.mark.parametrize("outcome", ["pass", "fail"])
def test_every_event_has_an_example(event: Event, outcome: str) -> None:
    name = f"{event.name}.<case>.{outcome}.json"
    assert [f for f in FILES if event_of(f) == event and f.name.endswith(f".{outcome}.json")], f"write {event.domain}/examples/{name}"


@pytest.mark.parametrize("file", [f for f in FILES if f.name.endswith(".pass.json")], ids=lambda f: f"{f.parts[-3]}/{f.name}")
def test_a_good_example_is_written_and_read_again(file: Path) -> None:
    event = event_of(file)
    record = from_json(event, json.loads(file.read_text()))
    assert Decoder(lambda _: event.schema)(Encoder(event, 1)(record)).items() >= record.items()


@pytest.mark.parametrize("file", [f for f in FILES if f.name.endswith(".fail.json")], ids=lambda f: f"{f.parts[-3]}/{f.name}")
def test_a_bad_example_is_refused_for_its_reason(file: Path) -> None:
    event, body = event_of(file), json.loads(file.read_text())
    with pytest.raises(InvalidEvent) as refusal:
        Encoder(event, 1)(from_json(event, body["event"]))
    assert body["refused"] in str(refusal.value)


def test_every_example_is_of_an_event_and_says_its_outcome() -> None:
    assert [str(f) for f in FILES if len(f.name.split(".")) != 4 or f.name.split(".")[2] not in ("pass", "fail")] == []
    assert [str(f) for f in FILES if f"{f.parts[-3]}.{f.name.split('.')[0]}" not in catalogue().events] == []


def test_a_seed_gives_the_same_example(tmp_path: Path) -> None:
    event = topic(tmp_path, *every_type()).event
    assert example(event, Random(5)) == example(event, Random(5)) != example(event, Random(6))
    assert {example(event, Random(seed))["an_optional_symbol"] for seed in range(50)} == {None, "on", "off"}
