"""`headrace experiment`: from files to the topics that the gateway folds, and back in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from edge.flags import Definitions
from infra.base.registry import RegistryClient
from infra.cli import app
from infra.cli.words import Refusal
from producers import emit
from producers.emit import Emitter
from producers.experiments.__main__ import main
from producers.experiments.publish import CHANGE, DEFINITION, Clash, desk, publish
from schemas.allocation.engine import Context
from schemas.catalogue import catalogue
from tests.broker import FakeRegistry, MockCluster, cluster, records, registry

__all__ = ["cluster", "registry"]


@pytest.fixture
def headrace(cluster: MockCluster, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`headrace experiment …` on a broker of its own: exit code and what it printed, or the refusal."""
    monkeypatch.setattr(emit, "RegistryClient", lambda: registry)
    for name in ("schema", "lookup"):
        monkeypatch.setattr(RegistryClient, name, lambda _, *given, name=name: getattr(FakeRegistry, name)(registry, *given))
    for topic in (DEFINITION, CHANGE):
        cluster.make(topic, catalogue().topic(topic).partitions)

    def run(*words: str) -> tuple[int, str]:
        told = CliRunner().invoke(app, ["experiment", *words])
        return told.exit_code, str(told.exception) if isinstance(told.exception, Refusal) else told.stdout

    return run


def test_from_a_file_to_a_decision_and_back(
    headrace: Any, cluster: MockCluster, registry: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main()
    assert capsys.readouterr().out == "15 definitions, 15 of them new or changed\n"
    assert headrace("publish") == (0, "nothing differs from what stands\n")
    written = {
        "kind": "experiment", "key": "ours", "owner": "team", "flag": "start_bitrate_kbps", "unit": "member_id", "metrics": ["startup_ms"],
        "variations": [{"key": "control", "weight": 0.5, "value": 0}, {"key": "fast", "weight": 0.5, "value": 400}],
    }  # fmt: skip
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "ours.yaml").write_text(yaml.safe_dump(written))
    assert headrace("check", str(tmp_path / "ours")) == (0, "nothing is wrong with 1 experiment\n")
    assert headrace("publish", str(tmp_path / "ours"), "--author", "ada") == (0, "experiment/ours: version 1, PUBLISH\n")
    code, words = headrace("start", "ours")
    assert (code, "experiments fast_start and ours: both decide flag start_bitrate_kbps" in words) == (1, True)
    steps = {
        ("ship", "fast_start", "modest"): "experiment/fast_start: version 2, SHIP\n",
        ("start", "ours", "--author", "ada", "--reason", "now, at last"): "experiment/ours: version 2, START\n",
        ("stop", "ours", "--author", "bob"): "experiment/ours: version 3, STOP\n",
        ("roll-back", "ours", "--author", "cyd"): "experiment/ours: version 4, ROLL_BACK, as in version 2\n",
    }
    assert [headrace(*step) for step in steps] == [(0, words) for words in steps.values()]
    told = headrace("audit", "ours")[1].splitlines()
    assert [line.partition("version ")[2] for line in told if "UTC" in line] == [
        "1  PUBLISH by ada", "2  START by ada: now, at last", "3  STOP by bob", "4  ROLL_BACK, back to version 2 by cyd",
    ]  # fmt: skip
    assert [line.strip() for line in told if "UTC" not in line] == [
        "state: 'draft' → 'running'", "state: 'running' → 'stopped'", "state: 'stopped' → 'running'",
    ]  # fmt: skip
    shown = headrace("show", "ours")[1]
    assert shown.startswith("# version 4, ROLL_BACK by cyd\n")
    assert yaml.safe_load(shown) == {**written, "state": "running"}
    listed = {line.split()[0]: line for line in headrace("list")[1].splitlines() if not line.startswith(" ")}
    assert listed.keys() == {"experiment", "fast_start", "ours", "policy_or_bola", "same_or_same"}
    assert "shipped" in listed["fast_start"]

    definitions = Definitions()
    for record in records(cluster, registry, DEFINITION, 20):
        definitions.into(definitions.table, record)
    definitions.settle(definitions.table)
    assert (definitions.refused, definitions.table.waiting) == (0, {})
    given = {definitions.table.allocation.table.decide("start_bitrate_kbps", Context({"member_id": f"m{n}"})).value for n in range(50)}
    assert given == {0, 400}
    assert len(records(cluster, registry, CHANGE, 20)) == 20


def test_two_who_do_it_at_once_are_told(headrace: Any, registry: FakeRegistry) -> None:
    main()
    ada, bob = (desk(registry.schema, name) for name in ("ada", "bob"))
    with Emitter("experiments", registry=registry) as emitter:
        publish(emitter, ada.stop("fast_start"), registry.schema)
        with pytest.raises(Clash, match="experiment/fast_start: somebody else changed it at the same time"):
            publish(emitter, bob.ship("fast_start", "modest"), registry.schema)
    assert desk(registry.schema).standing["experiment/fast_start"]["author"] == "bob"
    assert headrace("stop", "fast_start") == (0, "experiment/fast_start: version 3, STOP\n")


def test_refusals_are_in_words(headrace: Any, tmp_path: Path) -> None:
    assert headrace("list") == (0, "no experiment is published: `headrace experiment publish` does so\n")
    (tmp_path / "bad.yaml").write_text("{kind: flag, key: f, owner: o, type: number, default: x, unit: member_id}")
    (tmp_path / "worse.yaml").write_text("kind: [")
    for words, told in {
        ("check", str(tmp_path)): ["worse.yaml: not YAML", "flag f: default 'x' is no number"],
        ("publish", str(tmp_path / "gone")): ["is no folder"],
        ("show", "gone"): ["there is no experiment/gone: `headrace experiment list` shows"],
        ("stop", "gone"): ["there is no experiment gone; there are: none"],
        ("audit", "flag/gone"): ["nothing was ever done to flag/gone"],
    }.items():
        code, said = headrace(*words)
        assert (code, [one for one in told if one not in said]) == (1, []), said
