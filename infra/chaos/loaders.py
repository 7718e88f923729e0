"""Second loaders beside the supervised one: killed at a chosen step of the protocol, or asleep until a successor has taken over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2 as httpx
from confluent_kafka import ConsumerGroupState, KafkaException

from infra.base import kafka
from infra.base.children import die_with_parent
from infra.base.ports import free_port
from infra.base.settings import settings
from infra.chaos.doomed import Point
from infra.chaos.inject import Act, Processes
from infra.chaos.plan import Fault
from infra.chaos.waiting import until

WITHIN_S = 300.0
"""How long a loader may take to come to its step, or the group to give its partitions away, while everything else breaks."""
AWAKE_S = 4.0
"""How long a zombie is watched after it has woken up."""

_one_at_a_time = threading.Lock()
"""Two doomed loaders at once would leave too few partitions to each to come to every step."""


def crash(point: Point) -> Act:
    """A second loader joins the group and is killed at `point`; who takes its partitions over must find out what it had done."""

    def act(fault: Fault) -> None:
        with _one_at_a_time, _second("infra.chaos.doomed", point.when, point.step) as process:
            _until(lambda: process.poll() is not None, f"the loader has not come to {point}")
            if process.returncode != -signal.SIGKILL:
                raise RuntimeError(f"the loader ended with code {process.returncode} instead of being killed: see loader-second.log")

    return act


def wake(point: Point) -> Act:
    """A second loader falls asleep at `point`; it wakes up when the group has given its partitions to others."""

    def act(fault: Fault) -> None:
        with _one_at_a_time, _second("infra.chaos.doomed", point.when, point.step, "--sleep", stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            with process.stdout as said:
                _until(lambda: _stopped(process), f"the loader has not come to {point}")
                member = said.readline().decode().strip()
            _until(lambda: _given_away(member), f"the group still counts on the loader that sleeps at {point}")
            process.send_signal(signal.SIGCONT)
            time.sleep(AWAKE_S)

    return act


def replace(processes: Processes) -> Act:
    """The supervised loader is frozen until a second one has partitions, which the group gives away only when it has given up the first.

    Then it wakes up, and both go on for a while.
    """

    def act(fault: Fault) -> None:
        pid = processes.running("loader")
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGSTOP)
        try:
            with _second("sinks.loader") as process:
                _until(lambda: _partitions(process), "the second loader gets no partitions")
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGCONT)
                time.sleep(fault.for_s)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGCONT)

    return act


class _Loader(subprocess.Popen[bytes]):
    """A loader of ours, and where it answers."""

    status_url: str


@contextmanager
def _second(module: str, *arguments: str, **options: Any) -> Iterator[_Loader]:
    """A loader beside the supervised one; told to end in the end, if it has not ended otherwise."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", module, *arguments]
    with (settings().state_dir / "logs" / "loader-second.log").open("ab") as out:
        process = _Loader(
            command, env={**os.environ, "HEADRACE_LOADER__STATUS_URL": url}, stdin=subprocess.DEVNULL,
            **{"stdout": out, "stderr": out, **options}, preexec_fn=die_with_parent,
        )  # fmt: skip
    process.status_url = url
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(probe: Callable[[], Any], words: str) -> None:
    until(probe, WITHIN_S, lambda: words)


def _stopped(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process sleeps. Raises RuntimeError when it has ended instead."""
    if process.poll() is not None:
        raise RuntimeError(f"the loader ended with code {process.returncode} instead of falling asleep: see loader-second.log")
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _partitions(process: _Loader) -> int:
    """How many partitions a loader has; 0 while it does not answer."""
    try:
        return int(httpx.get(f"{process.status_url}/status", timeout=5.0).json()["partitions"])
    except httpx.HTTPError:
        return 0


def _given_away(member: str) -> bool:
    """Whether the group goes on without this member. Asked by a client of its own: one that has seen the broker die may ask for ever."""
    name = settings().topic("loader")
    client = kafka.admin()  # kept until the answer is there: a client that is let go of takes its questions with it
    try:
        group = client.describe_consumer_groups([name], request_timeout=10)[name].result(15)
    except (KafkaException, TimeoutError):
        return False
    members = {found.member_id for found in group.members}
    return bool(members) and member not in members and group.state == ConsumerGroupState.STABLE
