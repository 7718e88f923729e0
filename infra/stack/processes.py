"""Processes as the kernel shows them: whose they are, what they hold, how to be rid of them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

RUN_MARK = "HEADRACE_RUN"
"""Environment variable that every process of one run inherits; it is how descendants are found, whoever adopted them."""

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def rss_by_group() -> dict[int, int]:
    """Resident bytes of every process group, so that a service is counted with its children."""
    rss: dict[int, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        group, pages = int(fields[2]), int(fields[21])
        rss[group] = rss.get(group, 0) + pages * PAGE_BYTES
    return rss


def bearing(run: str) -> list[int]:
    """Pids of all processes of run `run`, by their environment: it cannot name a process of somebody else, even if pids were reused."""
    mark = f"{RUN_MARK}={run}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def kill_run(run: str, within: float = 10.0) -> list[int]:
    """SIGKILL everything of run `run` but the caller until nothing is left; returns the pids killed. TimeoutError names survivors."""
    killed: set[int] = set()
    deadline = time.monotonic() + within
    while alive := [pid for pid in bearing(run) if pid != os.getpid()]:
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {alive} do not end on SIGKILL")
        time.sleep(0.05)
    return sorted(killed)
