"""Where a job starts from, that two deployments cannot start it twice, that one bad job does not stop the rest. What needs a cluster is in
tests of the stack.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.base.settings import settings
from streams import deploy
from streams.cluster import newest_on_disk
from streams.deploy import Ledger, StateLost, refuse_unless_fits
from streams.environment import Job, JobError

JOB = Job("sums", "INSERT INTO `playback.failure` SELECT sid FROM `playback.report`", "here")
INTO = """== Into headrace.experiments.UnitStatistics ==
== Abstract Syntax Tree ==
LogicalProject(unit=[$3])

== Optimized Execution Plan ==
Calc(select=[unit, event_id])
+- TableSourceScan(table=[[experiments.exposure]], fields=[unit, event_id])

"""
MAIN = """== Abstract Syntax Tree ==
LogicalSink(table=[experiments.statistic])

== Optimized Execution Plan ==
Sink(table=[experiments.statistic])
+- TableSourceScan(table=[[added]], fields=[told_at])
"""


def test_what_stands_before_an_operator_must_fit_as_well() -> None:
    other = INTO.replace("[unit, event_id]", "[unit, event_time, event_id]").replace("unit=[$3]", "unit=[$4]")
    refuse_unless_fits(JOB, INTO + MAIN, other + MAIN)  # another projection
    for new in (
        INTO.replace("Calc(", "Deduplicate(keep=[FirstRow])\n+- Calc("),
        INTO.replace("UnitStatistics", "Others"),
        INTO.replace("\nCalc(", "\nUnion(all=[true])\n:- Calc("),
        "",
    ):
        with pytest.raises(StateLost, match=r"sums: the new version cannot take over"):
            refuse_unless_fits(JOB, INTO + MAIN, new + MAIN)
    with pytest.raises(StateLost):
        refuse_unless_fits(JOB, INTO + MAIN, INTO + MAIN.replace("+- Table", "+- Rank(n=[1])\n   +- Table"))


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state directory."""
    monkeypatch.setenv("HEADRACE_STATE_DIR", str(tmp_path))
    settings.cache_clear()
    return tmp_path


def written(folder: Path, at_s: int) -> Path:
    """A complete checkpoint or savepoint."""
    folder.mkdir(parents=True)
    (folder / "_metadata").touch()
    os.utime(folder / "_metadata", (at_s, at_s))
    return folder


def test_a_job_goes_on_from_what_any_of_its_incarnations_wrote_last(state: Path) -> None:
    written(state / "checkpoints" / "aaaaaabb" / "chk-7", 100)
    newest = written(state / "checkpoints" / "cccccc00" / "chk-2", 200)
    written(state / "checkpoints" / "dddddd00" / "chk-9", 300)
    (state / "checkpoints" / "cccccc00" / "chk-3").mkdir()
    assert newest_on_disk(["cccccc00", "aaaaaabb"]) == newest.as_uri()
    assert newest_on_disk(["eeeeee00"]) is None


def test_a_savepoint_whose_stop_nobody_finished_counts(state: Path) -> None:
    written(state / "checkpoints" / "aaaaaabb" / "chk-7", 100)
    broken_off = written(state / "savepoints" / "savepoint-aaaaaa-0123456789ab", 101)
    written(state / "savepoints" / "savepoint-ffffff-0123456789ab", 300)
    assert newest_on_disk(["aaaaaabb"]) == broken_off.as_uri()
    later = written(state / "checkpoints" / "aaaaaabb" / "chk-8", 102)
    assert newest_on_disk(["aaaaaabb"]) == later.as_uri()


def test_one_at_a_time_starts_and_stops_jobs(state: Path) -> None:
    ledger = Ledger()
    with ledger.held(), ledger.held(), (state / "jobs.lock").open("w") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (state / "jobs.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Standing:
    """A cluster on which nothing runs yet and what is submitted runs at once."""

    url = "http://standing"

    def alive(self) -> dict[str, Any]:
        return {}

    jobs = alive

    def wait_until_running(self, job_id: str) -> None:
        assert len(job_id) == 32


class Plan:
    """Stands for a `deploy.Planned`, which needs a JVM: `unfit` cannot be planned, `refused` is not taken by the cluster."""

    text = ""
    plan = None

    def __init__(self, job: Job, compiled: bool = True) -> None:
        self.job, self.flink, self.compiled = job, self, compiled
        if job.name == "unfit":
            raise JobError("no such column")

    def submit(self, plan: None, options: dict[str, str]) -> str:
        if self.job.name == "refused":
            raise JobError("no slots")
        return options["$internal.pipeline.job-id"]


@pytest.fixture
def planned(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No JVM and no cluster."""
    monkeypatch.setattr(deploy, "Planned", Plan)
    monkeypatch.setattr(deploy, "Cluster", Standing)


def some(*names: str) -> list[Job]:
    return [Job(name, "", "here") for name in names]


@pytest.mark.usefixtures("planned")
def test_a_job_that_cannot_be_deployed_is_named_and_the_rest_goes_on() -> None:
    ledger = Ledger()
    came = {job.name: of for job, of in deploy.start(some("one", "unfit", "refused", "other"), ledger)}
    assert (str(came["unfit"]), str(came["refused"])) == ("no such column", "no slots")
    assert [came[name] for name in ("one", "other")] == [ledger.get(name).job_ids[0] for name in ("one", "other")]
    assert ledger.get("refused").job_ids, "a submission that may have been taken was forgotten"
    assert ledger.get("unfit") == deploy.Deployed()


@pytest.mark.usefixtures("planned")
def test_what_a_plan_left_that_was_not_compiled_goes_on_with_one_that_is_not(state: Path) -> None:
    """Operators have other ids in a compiled plan: entries of before there were any do not say which theirs was."""
    (job,) = some("one")
    entry = {"job_ids": ["a" * 32], "savepoint": "file:///s", "plan": "", "text": ""}
    (state / "jobs.json").write_text(json.dumps({job.flink_name: entry}))
    ledger = Ledger()
    _ = dict(deploy.start([job], ledger))
    assert (ledger.get(job.flink_name).savepoint, ledger.get(job.flink_name).compiled) == ("file:///s", False)
    _ = dict(deploy.start([job], ledger, lose_state=True))
    assert ledger.get(job.flink_name).compiled


@pytest.mark.usefixtures("planned")
def test_jobs_are_planned_until_the_cluster_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    seen: list[str] = []

    class Slow(Plan):
        def __init__(self, job: Job, compiled: bool = True) -> None:
            super().__init__(job, compiled)
            seen.append(job.name)
            if job.name == "two":
                os.close(writing)

    monkeypatch.setattr(deploy, "Planned", Slow)
    with os.fdopen(reading) as given:
        monkeypatch.setattr(sys, "stdin", given)
        assert deploy.ahead(some("one", "unfit", "two", "three")).keys() == {"one", "two"}
    assert seen == ["one", "two"]
