"""What the supervisor promises, shown with toy services in real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from infra.base.ports import free_port
from infra.stack.local import LocalStack, NotRunning
from infra.stack.processes import bearing
from tests.kit import eventually

Start = Callable[..., "Toys"]


class Toys(LocalStack):
    """A toy stack in its own process."""

    def __init__(self, state_dir: Path, *definitions: str) -> None:
        super().__init__(state_dir)
        state_dir.mkdir(exist_ok=True)
        port = str(free_port())
        self.errors = state_dir / "stderr"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.infra.toy_stack", str(state_dir), port, *definitions], stderr=errors
            )

    def service(self, name: str) -> dict[str, Any]:
        return next(service for service in self.status()["services"] if service["name"] == name)

    def ready(self) -> bool:
        return bool(self.status()["phase"] == "ready")

    @property
    def run(self) -> str:
        return str(self.note()["run"])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts toy stacks and ends them after the test."""
    started: list[Toys] = []

    def one(*definitions: str, folder: str = "state") -> Toys:
        started.append(Toys(tmp_path / folder, *definitions))
        return started[-1]

    yield one
    for toys in started:
        toys.process.terminate()
        toys.process.wait(20)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_services_start_in_order_and_end_without_a_trace(start: Start) -> None:
    toys = start("lower:serve", "upper:serve:lower")
    eventually(toys.ready)
    assert toys.service("lower")["since"] < toys.service("upper")["since"]
    stack_file = toys.state_dir / "stack.json"
    assert stack_file.stat().st_mode & 0o777 == 0o600
    run = toys.run
    assert len(bearing(run)) == 5  # two toys, a child of each, the warden
    toys.down()
    assert not stack_file.exists()
    eventually(lambda: not bearing(run))
    with pytest.raises(NotRunning, match="headrace up"):
        toys.status()


def test_a_killed_service_comes_back_and_its_children_are_ended(start: Start) -> None:
    toys = start("one:serve")
    eventually(toys.ready)
    before = toys.service("one")["pid"]
    toys.act("one", "kill")
    after = eventually(lambda: (s := toys.service("one"))["state"] == "ready" and s)
    assert after["pid"] != before
    assert after["restarts"] == 1


def test_a_service_that_dies_young_again_and_again_is_given_up_with_its_last_words(start: Start) -> None:
    toys = start("good:serve", "bad:crash")
    assert toys.process.wait(30) == 1
    words = json.loads(toys.errors.read_text().splitlines()[-1])
    assert words.startswith("bad ended with code 3 (4 attempts)")
    assert "no luck" in words
    assert not (toys.state_dir / "stack.json").exists()


def test_a_service_that_never_answers_is_named(start: Start) -> None:
    toys = start("dumb:mute")
    assert toys.process.wait(30) == 1
    assert "dumb did not answer within 2 s: it has not written its note" in toys.errors.read_text()


def test_killing_the_supervisor_leaves_nothing(start: Start) -> None:
    toys = start("one:serve", "two:serve")
    eventually(toys.ready)
    run = toys.run
    toys.process.send_signal(signal.SIGKILL)
    eventually(lambda: not bearing(run))
    assert not (toys.state_dir / "stack.json").exists()


def test_killing_supervisor_and_warden_leaves_nothing_after_the_next_start(start: Start) -> None:
    toys = start("one:serve")
    eventually(toys.ready)
    run = toys.run
    child = int((toys.state_dir / "one.child").read_text())
    warden = next(pid for pid in bearing(run) if b"infra.stack.warden" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(warden, signal.SIGSTOP)
    toys.process.send_signal(signal.SIGKILL)
    os.kill(warden, signal.SIGKILL)
    eventually(lambda: bearing(run) == [child])
    eventually(start("one:serve").ready)
    assert not bearing(run)


def test_a_second_copy_in_the_same_directory_says_so(start: Start) -> None:
    first = start("one:serve")
    eventually(first.ready)
    second = start("one:serve")
    assert second.process.wait(20) == 1
    assert "another with HEADRACE_STATE_DIR" in second.errors.read_text()
    assert first.ready()


def test_two_copies_run_side_by_side(start: Start) -> None:
    first, second = start("one:serve", folder="a"), start("one:serve", folder="b")
    eventually(first.ready)
    eventually(second.ready)
    first.down()
    assert second.ready()


def test_a_task_is_repeated_after_what_it_worked_on_was_restarted(start: Start) -> None:
    toys = start("one:serve", "deploy:once:one")
    eventually(toys.ready)
    ran = toys.state_dir / "deploy.ran"
    assert ran.read_text() == "ran\n"
    toys.act("one", "kill")
    eventually(lambda: ran.read_text() == "ran\nran\n")
    eventually(lambda: toys.service("deploy")["state"] == "done")


def test_a_task_that_works_ahead_is_told_when_what_it_needs_is_there(start: Start) -> None:
    toys = start("slow:late", "deploy:ahead:slow")
    ran = toys.state_dir / "deploy.ran"
    eventually(lambda: ran.read_text() == "began\n")
    assert toys.service("deploy")["state"] == "waiting"
    (toys.state_dir / "slow.child").write_text("1")
    eventually(toys.ready)
    assert ran.read_text() == "began\nwent on\n"
    toys.act("slow", "kill")
    eventually(lambda: toys.service("slow")["restarts"] == 1)
    (toys.state_dir / "slow.child").write_text("1")
    eventually(lambda: ran.read_text() == "began\nwent on\n" * 2)


def test_a_service_can_be_stopped_and_started(start: Start) -> None:
    toys = start("one:serve")
    eventually(toys.ready)
    toys.act("one", "stop")
    eventually(lambda: toys.service("one")["state"] == "stopped")
    toys.act("one", "start")
    eventually(lambda: toys.service("one")["state"] == "ready")


def test_a_frozen_service_is_shown_as_silent_only_when_it_does_not_answer(start: Start) -> None:
    toys = start("one:serve")
    eventually(toys.ready)
    (toys.state_dir / "one.child").write_text("")
    eventually(lambda: toys.service("one")["state"] == "silent")
    (toys.state_dir / "one.child").write_text("1")
    eventually(lambda: toys.service("one")["state"] == "ready")


def test_the_control_endpoint_refuses_web_pages_and_unknown_names(start: Start) -> None:
    toys = start("one:serve")
    eventually(toys.ready)
    url = toys.note()["url"]
    assert httpx.get(f"{url}/status", headers={"Origin": "http://elsewhere.example"}).status_code == 403
    assert httpx.post(f"{url}/down", headers={"Host": "elsewhere.example"}).status_code == 403
    with pytest.raises(ValueError, match="names: one"):
        toys.act("two", "kill")
