"""`headrace schema`: what it prints, and that `check` names field, job and panel with and without a registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of its own with this tree's contracts, jobs and tables on `main`."""
    root = tmp_path_factory.mktemp("checkout")
    for room in ("infra", "schemas", "producers", "edge", "streams", "sinks"):
        shutil.copytree(ROOT / room, root / room, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    git = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "Contracts"]):
        subprocess.run([*git, *command], check=True)
    return root


def headrace(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command on the code of `checkout`, with a registry that does not answer."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "HEADRACE_STATE_DIR": "nowhere",
        "HEADRACE_REGISTRY__URL": "http://127.0.0.1:1",
    }
    program = [sys.executable, "-c", "from infra.cli import main; main()", "schema", *words]
    return subprocess.run(program, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


def change(checkout: Path, path: str, old: str, new: str) -> None:
    file = checkout / path
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.fixture(autouse=True)
def as_committed(checkout: Path) -> None:
    subprocess.run(["git", "-C", str(checkout), "checkout", "-q", "."], check=True)


def test_list_says_who_writes_and_reads_each_topic(checkout: Path) -> None:
    told = headrace(checkout, "list").stdout
    assert "playback.report  owner playback, key sid, 4 partitions, 7 days, FULL_TRANSITIVE, door\n    from  edge.collector" in told
    assert "playback.session_state  owner playback, key sid, 2 partitions, compacted" in told


@pytest.mark.parametrize("what", ["fields", "avsc", "flink", "clickhouse", "users"])
def test_show(checkout: Path, what: str) -> None:
    told = headrace(checkout, "show", "playback.qoe_session", "--as", what)
    assert told.returncode == 0
    assert "rebuffer_ms" in told.stdout
    if what == "avsc":
        assert json.loads(told.stdout)["name"] == "QoeSession"
    if what == "users":
        assert "table playback_qoe_session, and with it tables closed_sessions, qoe_sessions; panels" in told.stdout


def test_an_unknown_topic_is_refused(checkout: Path) -> None:
    told = headrace(checkout, "show", "playback.reprot")
    assert (told.returncode, told.stderr.split(";")[0]) == (1, "no topic 'playback.reprot' is declared")


def test_check_is_content_with_what_is_on_main_and_says_that_the_registry_is_silent(checkout: Path) -> None:
    told = headrace(checkout, "check")
    assert told.returncode == 0
    assert "compared with git only: the registry at http://127.0.0.1:1 does not answer" in told.stdout
    assert "topics fit main in git" in told.stdout


def test_check_names_field_table_and_panel(checkout: Path) -> None:
    change(checkout, "schemas/playback/qoe_session.avsc", '"rebuffer_ms", "type": "long"', '"rebuffer_ms", "type": "string"')
    told = headrace(checkout, "check")
    assert told.returncode == 1
    assert "rebuffer_ms: long cannot be read as string; the new version cannot read events of main in git (backward, type)" in told.stderr
    assert "breaks table playback_qoe_session, and with it tables closed_sessions, qoe_sessions; panels " in told.stderr
    assert "quality_of_experience/rebuffer_ratio" in told.stderr


def test_check_names_a_changed_unit_a_removed_topic_and_a_moved_key(checkout: Path) -> None:
    change(checkout, "schemas/playback/qoe_session.avsc", '"startup_ms", "type": ["null", "int"], "default": null, "unit": "ms"',
           '"startup_ms", "type": ["null", "int"], "default": null, "unit": "s"')  # fmt: skip
    change(checkout, "schemas/delivery/topics.yaml", "key: oca_id", "key: site_id")
    change(checkout, "schemas/encoding/topics.yaml", "chunk:\n", "piece:\n")
    told = headrace(checkout, "check").stderr
    assert "startup_ms: its unit was ms and is s" in told
    assert "delivery.access: key was oca_id in main and is site_id" in told
    assert "topic encoding.chunk is in main and is not declared any more" in told


def test_check_says_what_is_new(checkout: Path) -> None:
    topics = checkout / "schemas/playback/topics.yaml"
    entry = topics.read_text().split("\nreport_late:")[0].replace("report:", "report_again:", 1)
    topics.write_text(f"{topics.read_text()}\n{entry}\n")
    assert "1 of them new: playback.report_again" in headrace(checkout, "check").stdout


def test_an_unknown_revision_is_refused(checkout: Path) -> None:
    told = headrace(checkout, "check", "--against", "nowhere")
    assert told.returncode == 1
    assert "git has no contracts at 'nowhere'" in told.stderr


def test_a_broken_contract_is_refused_in_one_line(checkout: Path) -> None:
    change(checkout, "schemas/playback/report.avsc", '"name": "sn", "type": "long"', '"name": "sn", "type": "uuid"')
    told = headrace(checkout, "check")
    assert told.stderr.startswith("playback/report.avsc: field 'sn': type uuid: use a plain string")
