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

EVENTS, A_SECOND = 16_000, 16


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of simulated sessions, as `headrace record` writes it."""
    path = tmp_path_factory.mktemp("recordings") / "evening"
    simulator = [
        sys.executable,
        "-m",
        "producers.simulator",
        "--events",
        str(EVENTS),
        "--per-second",
        str(A_SECOND),
        "--seed",
        "3",
        "--to",
        str(path),
    ]
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
    assert 50 < len(earlier) < len(sessions) - len(later)
    assert all(one.began_ms + 1000 * one.trace.times_s[-1] <= later[0].began_ms for one in earlier)
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


def test_a_model_is_trained_on_earlier_sessions_and_judged_on_later_ones(
    headrace: Any, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "policy.json"
    code, words = headrace("train", str(recording), "--iterations", "2", "--out", str(file), "--no-publish")
    made = json.loads(file.read_text())
    earlier, later = abr._split(abr._sessions(recording), 0.2)
    assert f"{len(earlier)} sessions to train on, {len(later)} later ones to judge on" in words or code == 1
    of = made["network"]["provenance"]
    assert (of["log"], of["sessions"], of["from_ms"], of["to_ms"]) == ("evening", len(earlier), earlier[0].began_ms, earlier[-1].began_ms)
    assert of["to_ms"] < later[0].began_ms
    shipped = json.loads(policy.FILE.read_text())["network"]
    assert {name: made["network"][name] for name in ("share", "cut", "caution")} == {n: shipped[n] for n in ("share", "cut", "caution")}
    assert "it passes, and is not published" in words or "holdout: its reward is lower" in words  # of two iterations either may be true
    assert headrace("models")[1].startswith("no model has been published")
    fresh = [one for one in abr._split(abr._sessions(recording), 0.9)[1] if not of["from_ms"] <= one.began_ms <= of["to_ms"]]
    monkeypatch.setattr(abr, "_judged", lambda name, text, sessions, *_: judged.extend(sessions))
    judged: list[Any] = []
    assert headrace("publish", str(file), str(recording), "--holdout", "0.9")[0] == 0
    assert judged == fresh != abr._split(abr._sessions(recording), 0.9)[1]
    everything = {**of, "from_ms": 0, "to_ms": 2**53}
    file.write_text(json.dumps({**made, "network": {**made["network"], "provenance": everything}}))
    assert "leaves 0 sessions to judge on" in headrace("publish", str(file), str(recording))[1]


def test_a_model_of_another_ladder_out_of_range_or_worse_is_refused(headrace: Any, recording: Path, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    shipped = json.loads(policy.FILE.read_text())
    network = shipped["network"]
    *layers, last = network["layers"]
    reckless = {**last, "weights": [[0.0] * 6 for _ in last["weights"]], "biases": [0.0] * 5 + [1000.0]}
    for changed, reason in (
        ({"ladder_kbps": [200.0, *network["ladder_kbps"][1:]]}, "a model of another ladder"),
        ({"share": 1e3}, "network.share: 1000.0 is not between 0 and 100"),
        ({"layers": [*layers, reckless], "share": 100.0, "cut": 1000.0}, "holdout: "),
    ):
        file.write_text(json.dumps({**shipped, "network": {**network, **changed}}))
        code, words = headrace("publish", str(file), str(recording))
        assert code == 1
        assert words.startswith("the model is refused:\n  ")
        assert reason in words
    assert headrace("models")[1].startswith("no model has been published")


def test_too_short_a_log_is_refused_before_the_training(headrace: Any, recording: Path) -> None:
    assert "50 to train on are needed" in headrace("train", str(recording), "--holdout", "0.9")[1]
    assert "20 are needed" in headrace("publish", str(policy.FILE), str(recording), "--holdout", "0.01")[1]


def test_what_is_no_log_or_no_file_is_refused_in_words(headrace: Any, recording: Path, tmp_path: Path) -> None:
    assert "is not a recorded log" in headrace("train", str(tmp_path))[1]
    assert "cannot be read" in headrace("publish", str(tmp_path / "gone.json"), str(recording))[1]
