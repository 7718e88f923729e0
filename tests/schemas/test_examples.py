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
def test_every_event_has_an_example_that_passes(event: Event) -> None:
    assert [f for f in FILES if event_of(f) == event and f.name.endswith(".pass.json")], f"write {event.name}.<case>.pass.json"


@pytest.mark.parametrize("domain", sorted({event.domain for event in events()}))
def test_every_domain_has_examples_that_fail(domain: str) -> None:
    assert [f for f in FILES if f.parts[-3] == domain and f.name.endswith(".fail.json")], f"write {domain}/examples/<case>.fail.json"


@pytest.mark.parametrize("event", events(), ids=lambda event: event.full_name)
def test_what_every_contract_refuses(event: Event) -> None:
    """What need not be written as a failing example of each event: a field missing, null, unknown, or outside its symbols."""
    good, encode = example(event, Random(1)), Encoder(event, 1)
    for item in event.fields:
        name = item["name"]
        if "default" not in item:
            with pytest.raises(InvalidEvent, match=f"{name} is missing"):
                encode({k: v for k, v in good.items() if k != name})
            with pytest.raises(InvalidEvent, match=name):
                encode({**good, name: None})
        if "symbols" in item:
            with pytest.raises(InvalidEvent, match=f"{name}: 'no symbol' is none of"):
                encode({**good, name: "no symbol"})
    with pytest.raises(InvalidEvent, match="no such field: misspelt"):
        encode({**good, "misspelt": 1})


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
