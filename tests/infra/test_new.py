"""`headrace new`: what it writes is valid at once, and nothing is ever overwritten."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.cli.words import Refusal
from schemas.catalogue import load
from schemas.codec import Encoder
from schemas.examples import from_json
from sinks import migrate
from sinks.dashboards import load as load_panels

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "schemas", tmp_path / "schemas", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def headrace(*words: str) -> str:
    told = CliRunner().invoke(app, ["new", *words])
    if told.exception is not None:
        raise told.exception
    return told.output


def test_a_new_event_is_valid_at_once(checkout: Path) -> None:
    assert 'emitter.send("playback.seek", {"sid": "1"})' in headrace("event", "playback.seek")
    topic = load(checkout / "schemas").topic("playback.seek")
    assert (topic.key, topic.event.schema["name"]) == ("sid", "Seek")
    example = json.loads((checkout / "schemas/playback/examples/seek.first.pass.json").read_text())
    assert Encoder(topic.event, 1)(from_json(topic.event, example))


def test_a_new_domain_is_made(checkout: Path) -> None:
    headrace("event", "weather.storm", "--key", "cell")
    assert load(checkout / "schemas").topic("weather.storm").key == "cell"


def test_a_new_table_and_panel_are_valid_at_once(checkout: Path) -> None:
    headrace("table", "playback.seeks")
    assert migrate.parse("playback/seeks.sql", (checkout / "sinks/playback/seeks.sql").read_text()).name == "seeks"
    headrace("panel", "seeking.seeks")
    headrace("panel", "seeking.long_seeks")
    assert [(p.name, p.title) for p in load_panels(checkout / "sinks/dashboards")] == [("seeks", "Seeks"), ("long_seeks", "Long seeks")]


def test_a_new_job_is_named_after_its_file(checkout: Path) -> None:
    assert headrace("job", "playback.long_seeks") == "streams/playback/long_seeks.sql\n"
    assert "'long_seeks' AS producer_id" in (checkout / "streams/playback/long_seeks.sql").read_text()


@pytest.mark.parametrize("kind", ["event", "job", "table", "panel"])
def test_nothing_is_overwritten(checkout: Path, kind: str) -> None:
    headrace(kind, "playback.seek")
    before = {file: file.read_bytes() for file in checkout.rglob("*") if file.is_file()}
    with pytest.raises(Refusal, match=r"already|is there"):
        headrace(kind, "playback.seek")
    assert {file: file.read_bytes() for file in checkout.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("name", ["seek", "playback.Seek", "playback.seek.long", "../x.y"])
def test_a_name_has_two_parts(checkout: Path, name: str) -> None:
    with pytest.raises(Refusal, match="two names in lower case"):
        headrace("event", name)


def test_only_a_checkout_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refusal, match="is no checkout of Headrace"):
        headrace("event", "playback.seek")
