"""`headrace abr`: sessions from a recorded log, a policy judged on the later ones, published and listed, or refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.base.registry import RegistryClient
from infra.cli import abr, app
from infra.cli.words import Refusal
from producers import emit
from producers.abr import policy
from producers.abr.models import TOPIC
from schemas.catalogue import catalogue
from tests.broker import FakeRegistry, MockCluster, cluster, records, registry

__all__ = ["cluster", "registry"]

EVENTS = 20_000


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of simulated sessions, as `headrace record` writes it."""
    path = tmp_path_factory.mktemp("recordings") / "evening"
    simulator = [sys.executable, "-m", "producers.simulator", "--events", str(EVENTS), "--seed", "3", "--to", str(path)]
    subprocess.run(simulator, check=True, capture_output=True)
    return path


@pytest.fixture
def headrace(cluster: MockCluster, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`headrace abr …` on a broker of its own: exit code and what it printed, or the refusal."""
    monkeypatch.setattr(emit, "RegistryClient", lambda: registry)
    for name in ("schema", "lookup"):
        monkeypatch.setattr(RegistryClient, name, lambda _, *given, name=name: getattr(FakeRegistry, name)(registry, *given))
    cluster.make(TOPIC, catalogue().topic(TOPIC).partitions)

    def run(*words: str) -> tuple[int, str]:
        told = CliRunner().invoke(app, ["abr", *words])
        return told.exit_code, str(told.exception) if isinstance(told.exception, Refusal) else told.stdout

    return run


def test_sessions_come_from_the_log_alone_and_the_holdout_is_later(recording: Path) -> None:
    sessions = abr._sessions(recording)
    earlier, later = abr._split(sessions, 0.2)
    assert len(sessions) > 100
    assert len(later) == round(0.2 * len(sessions))
    assert earlier[-1].began_ms <= later[0].began_ms
    assert all(min(session.trace.mbps) > 0 for session in sessions)


def test_a_policy_is_published_listed_and_followed_by_the_next_version(
    headrace: Any, recording: Path, tmp_path: Path, cluster: MockCluster, registry: FakeRegistry
) -> None:
    assert headrace("models") == (0, "no model has been published: players use the one that is installed\n")
    file = tmp_path / "policy.json"
    file.write_text(policy.FILE.read_text())
    for version in (1, 2):
        code, words = headrace("publish", str(file), str(recording))
        assert (code, words.splitlines()[-1]) == (0, f"ours is version {version} from now on")
    first, second = records(cluster, registry, TOPIC, 2)
    assert (first["item"], first["before"], second["item"], second["before"]) == ("ours/1", None, "ours/2", 1)
    assert second["reward"] == second["before_reward"]
    assert json.loads(second["policy"]) == json.loads(file.read_text())
    code, words = headrace("models")
    assert [line.split()[:2] for line in words.splitlines()[1:]] == [["ours/1", "a"], ["ours/2", "a"]]


def test_a_policy_that_is_none_is_refused_with_its_reasons(headrace: Any, recording: Path, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text('{"schema_version": 99}')
    code, words = headrace("publish", str(file), str(recording))
    assert code == 1
    assert words.startswith("the model is refused:\n  policy: ")


def test_what_is_no_log_or_no_file_is_refused_in_words(headrace: Any, recording: Path, tmp_path: Path) -> None:
    assert "is not a recorded log" in headrace("train", str(tmp_path))[1]
    assert "cannot be read" in headrace("publish", str(tmp_path / "gone.json"), str(recording))[1]
