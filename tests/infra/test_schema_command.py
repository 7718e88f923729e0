"""`headrace schema`: what it prints, and that `check` names field, job and panel with and without a registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
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


def headrace(checkout: Path, *words: str, **other: str) -> subprocess.CompletedProcess[str]:
    """The command on the code of `checkout`, with a registry that does not answer."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "HEADRACE_STATE_DIR": "nowhere",
        "HEADRACE_REGISTRY__URL": "http://127.0.0.1:1",
        **other,
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
    change(
        checkout,
        "schemas/delivery/topics.yaml",
        "event: access\n  owner: delivery\n  key: oca_id",
        "event: access\n  owner: delivery\n  key: site_id",
    )
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


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            {"type": "enum", "name": "Kind", "symbols": ["a"]},
            "type enum: Flink's avro-confluent format cannot read Avro enums: use a string",
        ),
        (
            {"type": "long", "logicalType": "timestamp-micros"},
            "timestamp-micros of long: Flink accepts TIMESTAMP(3) only: use timestamp-millis",
        ),
    ],
)
def test_what_flink_cannot_read_is_refused_with_the_reason(checkout: Path, kind: object, words: str) -> None:
    change(checkout, "schemas/playback/report.avsc", '"name": "sn", "type": "long"', f'"name": "sn", "type": {json.dumps(kind)}')
    told = headrace(checkout, "check")
    assert (told.returncode, told.stderr.startswith(f"playback/report.avsc: field 'sn': {words}")) == (1, True), told.stderr


def test_show_tells_everything_of_a_subject(checkout: Path) -> None:
    told = headrace(checkout, "show", "anywhere.playback.qoe_session-value").stdout
    for words in (
        "owner          playback",
        "compatibility  FULL_TRANSITIVE",
        "versions       the registry at http://127.0.0.1:1 does not answer",
        "rebuffer_ms                  BIGINT NOT NULL",
        "from  streams.playback.qoe_sessions, streams.playback.qoe_corrections",
        "to    table playback_qoe_session, and with it tables closed_sessions, qoe_sessions; panels",
        "watched, passes: {",
    ):
        assert words in told


def test_diff_says_what_is_different_and_what_that_breaks(checkout: Path) -> None:
    change(checkout, "schemas/playback/qoe_session.avsc", '"rebuffer_ms", "type": "long"', '"rebuffer_ms", "type": "string"')
    told = headrace(checkout, "diff", "playback.qoe_session@main").stdout
    assert "from main in git to the working tree\n    rebuffer_ms: was long and is string\nplayback.qoe_session would break" in told
    assert "quality_of_experience/rebuffer_ratio" in told
    assert "nothing is different" in headrace(checkout, "diff", "playback.qoe_session@main", "playback.qoe_session@main").stdout
    told = headrace(checkout, "diff", "playback.qoe_session@1")
    assert (told.returncode, "headrace schema diff playback.qoe_session@main" in told.stderr) == (1, True)


def test_what_is_deprecated_is_shown_and_whoever_reads_it_is_warned_of(checkout: Path) -> None:
    said = ["--by", "2026-01-02", "--use", "bl_ms"]
    assert "read by table playback_report" in headrace(checkout, "deprecate", "playback.report.mtp_kbps", *said).stdout
    headrace(checkout, "deprecate", "delivery.access", "--by", "2999-01-01", "--use", "delivery.served")
    assert "mtp_kbps goes by 2026-01-02: use bl_ms" in headrace(checkout, "list", "--like", "mtp_kbps").stdout
    assert "deprecated     goes by 2999-01-01: use delivery.served" in headrace(checkout, "show", "delivery.access").stdout
    told = headrace(checkout, "check")
    assert told.returncode == 0, told.stderr
    warned = "playback.report.mtp_kbps goes by 2026-01-02, which is past, and "
    assert f"{warned}table session_timeline still reads it: use bl_ms" in told.stderr.replace("\n", " ")
    assert "delivery.access goes by 2999-01-01, and panel session/served still reads it" in told.stderr.replace("\n", " ")
    again = headrace(checkout, "deprecate", "playback.report.mtp_kbps", *said)
    assert (again.returncode, "mtp_kbps is deprecated already: by 2026-01-02, use bl_ms" in again.stderr) == (1, True)


def test_a_wrong_example_is_named(checkout: Path) -> None:
    change(checkout, "schemas/delivery/examples/access.range.pass.json", '"oca_id"', '"ocaid"')
    assert "delivery/examples/access.range.pass.json: delivery.access: " in headrace(checkout, "check").stderr


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A team's checkout that reads what is ours: one topic of its own, one panel on a public table and one on a private one."""
    for name, text in {
        "schemas/fraud/verdict.avsc": json.dumps(
            {
                "type": "record",
                "name": "Verdict",
                "namespace": "headrace.fraud",
                "doc": "Test.",
                "fields": [{"name": "cid", "type": "string", "doc": "Title."}],
            }
        ),
        "schemas/fraud/topics.yaml": "verdict:\n  {description: Test., owner: risk, key: cid, partitions: 1,"
        " producers: [fraud.scorer], consumers: [sinks.loader]}\n",
        "schemas/fraud/examples/verdict.one.pass.json": json.dumps(
            {"event_id": "1", "event_time": 0, "producer_id": "a", "epoch": 1, "seq": 0, "cid": "1"}
        ),
        "fraud/scorer.py": "",
        "sinks/dashboards/fraud/01_titles.sql": "SELECT max(sha256) FROM encoding_published JOIN fraud_verdict USING cid",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_change_of_ours_names_the_team_that_it_breaks(checkout: Path, team: Path) -> None:
    told = headrace(checkout, "check", HEADRACE_CONTRACTS=str(team))
    assert f"(not {team}, which git does not have)" in told.stdout, told.stderr
    change(checkout, "schemas/encoding/published.avsc", '"sha256", "type": "string"', '"sha256", "type": "long"')
    told = headrace(checkout, "check", HEADRACE_CONTRACTS=str(team))
    assert "encoding.published would break its level" in told.stderr
    assert "sha256: string cannot be read as long" in told.stderr
    assert "breaks panel fraud/titles (team risk)" in told.stderr


def test_a_team_may_not_read_what_its_owner_keeps(checkout: Path, team: Path) -> None:
    (team / "sinks/dashboards/fraud/02_reports.sql").write_text("SELECT count() FROM playback_report")
    told = headrace(checkout, "check", HEADRACE_CONTRACTS=str(team)).stderr
    assert (
        "02_reports.sql: reads playback_report, which playback has not made public: ask for `public: true` in playback/topics.yaml" in told
    )


def test_a_checkout_that_is_not_there_is_refused(checkout: Path) -> None:
    told = headrace(checkout, "list", HEADRACE_CONTRACTS="/nowhere/fraud")
    assert (told.returncode, told.stderr[:51]) == (1, "HEADRACE_CONTRACTS names /nowhere/fraud, which is n")


def test_a_checkout_that_declares_nothing_is_told_where_contracts_lie(checkout: Path, team: Path) -> None:
    (team / "schemas/fraud").rename(team / "fraud_contracts")
    for place, command in ((checkout, "check"), (team, "register")):
        told = headrace(place, command, HEADRACE_CONTRACTS=str(team), PYTHONPATH=str(checkout))
        assert (told.returncode, "declares no topic: contracts lie in" in told.stderr) == (1, True), told


def test_a_domain_belongs_to_one_checkout(checkout: Path, team: Path) -> None:
    (team / "schemas/fraud").rename(team / "schemas/playback")
    told = headrace(checkout, "check", HEADRACE_CONTRACTS=str(team)).stderr
    assert told.startswith("playback: is in ")
    assert "a domain has one checkout: rename yours" in told


def test_a_thousand_topics_are_listed_and_checked_and_one_more_is_refused(checkout: Path, team: Path) -> None:
    entry = (team / "schemas/fraud/topics.yaml").read_text().partition("\n")[2]
    topics = team / "schemas/fraud/topics.yaml"
    topics.write_text("".join(f"verdict_{number}:\n{entry.replace('{', '{event: verdict, ', 1)}" for number in range(1_000)))
    change(team, "sinks/dashboards/fraud/01_titles.sql", "fraud_verdict", "fraud_verdict_0")
    began = time.monotonic()
    told = headrace(checkout, "check", HEADRACE_CONTRACTS=str(team))
    assert told.returncode == 0, told.stderr[:2_000]
    assert headrace(checkout, "list", "--owner", "risk", HEADRACE_CONTRACTS=str(team)).stdout.count("owner risk") == 1_000
    assert headrace(checkout, "list", "--like", "verdict_77", HEADRACE_CONTRACTS=str(team)).stdout.count("owner risk") == 11
    assert time.monotonic() - began < 60
    topics.write_text(topics.read_text() + f"one_more:\n{entry.replace('{', '{event: verdict, ', 1)}")
    told = headrace(checkout, "check", HEADRACE_CONTRACTS=str(team))
    assert "risk declares 1001 topics and may have 1000: let kinds of one thing share a topic" in told.stderr
