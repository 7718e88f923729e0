"""Does to the processes of a local stack what a plan says. It knows them by the supervisor's status, and touches no others."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import httpx2 as httpx

from infra.base import log
from infra.base.settings import settings
from infra.chaos.plan import Fault, Kind

Act = Callable[[Fault], None]
"""Carries one fault out, from beginning to end. May block for as long as the fault lasts; each runs on a thread of its own."""


class Processes:
    """The services under the supervisor of these settings, each a process group."""

    def __init__(self) -> None:
        self._url = settings().edge.supervisor_url

    def status(self) -> dict[str, Any]:
        """The supervisor's status."""
        return dict(httpx.get(f"{self._url}/status", timeout=30.0).raise_for_status().json())

    def pid(self, name: str) -> int | None:
        """The pid of a service, which is its group's too; None while it does not run."""
        return next((service["pid"] for service in self.status()["services"] if service["name"] == name), None)

    def running(self, name: str, within_s: float = 120.0) -> int:
        """The pid of a service, as soon as it has one: it may be dead from an earlier fault. ProcessLookupError where it stays dead."""
        deadline = time.monotonic() + within_s
        while (pid := self.pid(name)) is None:
            if time.monotonic() > deadline:
                raise ProcessLookupError(f"{name} does not run")
            time.sleep(0.25)
        return pid

    def act(self, name: str, action: str) -> None:
        """`kill`, `stop` or `start` a service, by way of the supervisor."""
        httpx.post(f"{self._url}/services/{name}/{action}", timeout=60.0).raise_for_status()

    def waiting(self) -> list[str]:
        """Services that are not ready, and tasks that are not done."""
        return [s["name"] for s in self.status()["services"] if s["state"] not in ("ready", "done")]


class Injector:
    """Runs a plan against the clock. `acts` carry out what is not a signal to a service: faults of targets that are no services."""

    def __init__(self, processes: Processes, acts: Mapping[tuple[str, Kind], Act]) -> None:
        self.done: list[Fault] = []
        self.failed: list[tuple[Fault, str]] = []
        self._processes = processes
        self._acts = acts
        self._threads: list[threading.Thread] = []
        self._log = log.get(__name__)

    def run(self, faults: list[Fault], stop: threading.Event) -> None:
        """Begin each fault at its time; returns when the last one has begun, or soon after `stop`."""
        began = time.monotonic()
        for fault in faults:
            if stop.wait(max(0.0, fault.at_s - (time.monotonic() - began))):
                break
            self._log.info("fault", what=str(fault), at_s=round(time.monotonic() - began))
            thread = threading.Thread(target=self._carry_out, args=(fault,), name=str(fault), daemon=True)
            thread.start()
            self._threads.append(thread)

    def join(self) -> None:
        """Wait until every fault is over."""
        for thread in self._threads:
            thread.join()

    def _carry_out(self, fault: Fault) -> None:
        try:
            self._acts.get((fault.target, fault.kind), self._on_service)(fault)
            self.done.append(fault)
        except Exception as error:  # a fault that could not be done is reported at the end; the others go on
            reason = str(error) or type(error).__name__
            self._log.error("fault not carried out", what=str(fault), reason=reason)
            self.failed.append((fault, reason))

    def _on_service(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.KILL:
                self._processes.running(fault.target)
                self._processes.act(fault.target, "kill")
            case Kind.FREEZE:
                freeze(self._processes.running(fault.target), fault.for_s)
            case Kind.OUTAGE:
                self._processes.act(fault.target, "stop")
                time.sleep(fault.for_s)
                self._processes.act(fault.target, "start")
            case _:
                raise ValueError(f"nobody knows how to {fault.kind} {fault.target}")


def freeze(group: int, seconds: float) -> None:
    """Stop every process of a group, and let it go on after `seconds`; one that has ended meanwhile is left in peace."""
    os.killpg(group, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)
