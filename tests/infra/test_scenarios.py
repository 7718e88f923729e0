"""Scenarios: what undoes them is done whatever happens, and each can be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.base.settings import environment
from infra.chaos.fleet import CannotDo, Fleet
from infra.chaos.scenarios import SCENARIOS, Stage, _each
from infra.cli import app
from infra.cli.words import Refusal
from schemas.assets import Altered, AssetId, publish, verify


class Servers:
    """Remembers what was done; the second one cannot be met."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def hit(self, name: str) -> None:
        if name == "b":
            raise CannotDo("b does not run")
        self.told.append(f"hit {name}")

    def heal(self, name: str) -> None:
        self.told.append(f"heal {name}")


def stage(*victims: str) -> Stage:
    fleet: Any = None
    return Stage(fleet, victims, lambda words: None)


def test_what_was_done_to_all_is_undone_to_all() -> None:
    servers = Servers()
    undo = _each(stage("a", "c"), servers.hit, servers.heal)
    assert servers.told == ["hit a", "hit c"]
    undo()
    assert servers.told[2:] == ["heal a", "heal c"]


def test_what_was_done_before_a_failure_is_undone() -> None:
    servers = Servers()
    with pytest.raises(CannotDo, match="b does not run"):
        _each(stage("a", "b", "c"), servers.hit, servers.heal)
    assert servers.told == ["hit a", "heal a"]


def test_rot_is_silent_size_and_time_stay(tmp_path: Path) -> None:
    asset = AssetId("bbb", 1)
    folder = tmp_path / "oca/oca-1" / asset.path
    folder.mkdir(parents=True)
    for name in ("1.m4s", "manifest.mpd"):
        (folder / name).write_bytes(b"body of " + name.encode())
    published = publish(folder, asset, 1_700_000_000)
    before = {name: (folder / name).stat() for name in published.files}
    with environment({"HEADRACE_STATE_DIR": str(tmp_path)}):
        fleet = Fleet(emitter=None, processes=None, _schema=None)  # type: ignore[arg-type]
        assert fleet.corrupt("oca-1") == 1
        with pytest.raises(CannotDo, match="not the store of oca-9"):
            fleet.corrupt("oca-9")
    for name, status in before.items():
        after = (folder / name).stat()
        assert (after.st_size, after.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    with pytest.raises(Altered, match=r"1\.m4s has the SHA-256"):
        verify(folder, published)


def test_every_scenario_is_listed_and_a_stranger_is_refused(tmp_path: Path) -> None:
    listed = CliRunner().invoke(app, ["scenario", "list"]).output
    assert all(name in listed for name in SCENARIOS)
    assert "{victims}" not in listed
    with pytest.raises(Refusal, match="there is no scenario earthquake; there are oca-death"):
        CliRunner().invoke(app, ["scenario", "run", "earthquake"], catch_exceptions=False)
    with environment({"HEADRACE_STATE_DIR": str(tmp_path)}), pytest.raises(Refusal, match="no stack runs in"):
        CliRunner().invoke(app, ["scenario", "run", "oca-death"], catch_exceptions=False)
