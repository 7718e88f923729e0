"""The real stack: what `headrace up` starts, and how it comes back after a process was killed."""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

import pytest

from infra.base.settings import Settings
from infra.stack import health
from infra.stack.local import LocalStack
from infra.stack.processes import bearing
from infra.stack.services import catalogue
from tests import kit
from tests.kit import checkpoints, eventually, kill

pytestmark = pytest.mark.stack


@pytest.fixture
def local(stack: Settings) -> LocalStack:
    return LocalStack(stack.state_dir)


def running_jobs() -> dict[str, str]:
    """Job ids by name, of the jobs that run."""
    return {job["name"]: job["id"] for job in health.jobs() if job["state"] == "RUNNING"}


def test_everything_is_ready_and_described(local: LocalStack) -> None:
    status = local.status()
    assert {s["name"]: s["state"] for s in status["services"] if s["kind"] == "service"} == {
        service.name: "ready"
        for service in catalogue()
        if service.name not in ("topics", "tables", "jobs", "topology", "catalogue", "experiments")
    }
    assert {topic["name"] for topic in health.topics(0.1)} >= {"playback.report", "playback.qoe_session", "observability.dead_letter"}
    assert {table["name"] for table in health.tables()} >= {"playback_report", "playback_qoe_session"}
    assert running_jobs()


def test_the_idle_stack_is_small(local: LocalStack) -> None:
    """As it was when it had become ready: tests before this one have filled the heaps of its JVMs."""
    assert kit.ready_mb[0] < 5_000  # the floor; docs/performance.md has the measured figure


def test_nothing_listens_beyond_loopback(local: LocalStack) -> None:
    inodes = set()
    for pid in bearing(str(local.note()["run"])):
        for descriptor in list(Path(f"/proc/{pid}/fd").iterdir()):
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    beyond = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            if fields[3] == "0A" and fields[9] in inodes and not _is_loopback(address):
                beyond.append(f"{address}:{int(port, 16)}")
    assert beyond == []


def _is_loopback(address: str) -> bool:
    words = [struct.pack("<I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8)]
    text = socket.inet_ntop(socket.AF_INET6 if len(words) == 4 else socket.AF_INET, b"".join(words))
    return text == "::1" or text.removeprefix("::ffff:").startswith("127.")


def test_a_killed_taskmanager_comes_back_and_the_jobs_go_on(local: LocalStack) -> None:
    before = running_jobs()
    kill(local, "taskmanager")
    eventually(lambda: running_jobs() == before, within=90)


def test_a_killed_jobmanager_gets_its_jobs_back_from_their_newest_checkpoints(local: LocalStack) -> None:
    before = running_jobs()
    eventually(lambda: all(checkpoints(job).get("completed") for job in running_jobs().values()), within=60)
    kill(local, "jobmanager")
    after = eventually(lambda: (jobs := running_jobs()).keys() == before.keys() and jobs, within=180)
    for name, job in after.items():
        assert checkpoints(job)["restored"], f"{name} began from nothing"
