"""`headrace new`: what it writes is green at once, here and in a team's checkout, and nothing is ever overwritten."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.base.settings import environment
from infra.cli import app
from infra.cli.words import Refusal
from schemas import lineage, typed
from schemas.catalogue import Catalogue, load
from schemas.examples import mistaken
from sinks import migrate
from sinks.dashboards import load as load_panels

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for room in ("schemas", "streams", "sinks", "producers", "edge", "infra"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def headrace(*words: str) -> str:
    told = CliRunner().invoke(app, ["new", *words])
    if told.exception is not None:
        raise told.exception
    return told.output


def loose(checkout: Path, declared: Catalogue, *teams: Path) -> list[str]:
    """What the project's checks have against a tree."""
    graph = lineage.of(declared.topics, checkout / "streams", checkout / "sinks", teams)
    return [*graph.orphans(lineage.exists_below(checkout, *teams)), *mistaken(declared)]


def test_event_job_table_and_panel_are_green_at_once(checkout: Path) -> None:
    headrace("event", "playback.seek")
    headrace("job", "playback.long_seeks", "--writes", "playback.long_seek")
    headrace("table", "playback.seeks", "--reads", "playback.seek")
    headrace("panel", "seeking.seeks", "--reads", "playback.seek")
    headrace("panel", "seeking.long_seeks", "--reads", "playback.long_seek")
    declared = load(checkout / "schemas")
    assert loose(checkout, declared) == []
    assert declared.topic("playback.long_seek").event is declared.topic("playback.seek").event
    assert (checkout / "schemas" / "records.pyi").read_text() == typed.stub(declared.events.values())
    assert migrate.parse("playback/seeks.sql", (checkout / "sinks/playback/seeks.sql").read_text()).name == "seeks"
    assert [p.name for p in load_panels(checkout / "sinks/dashboards") if p.board == "seeking"] == ["seeks", "long_seeks"]
    ast.parse((checkout / "producers/seek.py").read_text())


def test_a_new_domain_is_made_and_counted(checkout: Path) -> None:
    headrace("event", "weather.storm", "--key", "cell")
    headrace("job", "weather.gales")
    headrace("panel", "weather.storms")
    declared = load(checkout / "schemas")
    assert (declared.topic("weather.storm").key, declared.topic("weather.gales").producers) == ("cell", ("streams.weather.gales",))
    assert loose(checkout, declared) == []
    assert "|weather)_')" in (checkout / "sinks/observability/landed.sql").read_text()


def test_a_team_gets_the_same_in_a_checkout_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with environment({"HEADRACE_CONTRACTS": str(tmp_path)}):
        headrace("event", "fraud.verdict", "--key", "account_id", "--owner", "risk")
        headrace("job", "fraud.alarms")
        headrace("panel", "fraud.verdicts", "--reads", "fraud.verdict")
    declared = load(ROOT / "schemas", tmp_path / "schemas")
    assert loose(ROOT, declared, tmp_path) == []
    assert "class FraudVerdict(TypedDict)" in (tmp_path / "fraud" / "records.py").read_text()
    assert "PlaybackReport" not in (tmp_path / "fraud" / "records.py").read_text()
    assert not (tmp_path / "schemas" / "records.pyi").exists()


@pytest.mark.parametrize("kind", ["event", "job", "table", "panel"])
def test_nothing_is_overwritten(checkout: Path, kind: str) -> None:
    arguments = [kind, "playback.seek", *([] if kind == "event" else ["--reads", "playback.report"])]
    headrace(*arguments)
    before = {file: file.read_bytes() for file in checkout.rglob("*") if file.is_file()}
    with pytest.raises(Refusal, match=r"already|is there"):
        headrace(*arguments)
    assert {file: file.read_bytes() for file in checkout.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("name", ["seek", "playback.Seek", "playback.seek.long", "../x.y"])
def test_a_name_has_two_parts(checkout: Path, name: str) -> None:
    with pytest.raises(Refusal, match="two names in lower case"):
        headrace("event", name)


def test_what_is_read_must_be_known(checkout: Path) -> None:
    with pytest.raises(Refusal, match=r"there is no domain seeking: say by --reads"):
        headrace("panel", "seeking.seeks")
    with pytest.raises(Refusal, match=r"no topic 'playback.reprot' is declared"):
        headrace("job", "playback.seeks", "--reads", "playback.reprot")
    with pytest.raises(Refusal, match=r"declare an event of your own"):
        headrace("job", "delivery.seeks", "--reads", "playback.report")


def test_only_a_checkout_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refusal, match="is no checkout of Headrace"):
        headrace("event", "playback.seek")
