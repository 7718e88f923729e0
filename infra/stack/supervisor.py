"""Keeps one copy of the local stack alive: starts by dependency, restarts on crash, leaves nothing behind.

Runs as a process of its own, `python -m infra.stack.supervisor`; commands reach it through `control` or by signal.
Files it owns below the state directory: `lock` (held while it lives), `supervisor.json` (its pid, run and address, from the
first moment), `stack.json` (addresses of everything, once all of it is ready), `logs/`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from infra.base import log
from infra.base.children import die_with_parent
from infra.base.settings import settings
from infra.stack import control, jars, jvm
from infra.stack.processes import RUN_MARK, kill_run, rss_by_group
from infra.stack.services import NotReady, Service, Task, cache_servers, catalogue, watching
from infra.stack.site import PortTaken, Site, choose

LOG_BYTES = 16 << 20
ASK_EVERY_S = 0.25
WATCH_EVERY_S = 5.0
STEADY_S = 30.0
"""A service that lived this long is restarted at once; one that dies younger waits, twice as long each time."""
SILENT_S = 120.0
"""A service that runs and has not answered for so long is taken for hung."""
BACKOFF_S = (0.5, 10.0)
START_ATTEMPTS = 4
"""So many deaths of one service before the stack was ever ready, and the start is given up."""


class State(StrEnum):
    """What a service is doing."""

    WAITING = "waiting"  # for what it depends on
    STARTING = "starting"
    READY = "ready"
    SILENT = "silent"  # runs, was ready, and does not answer now
    BACKOFF = "backoff"
    STOPPED = "stopped"
    DONE = "done"  # a task that has run to its end


class StartFailed(RuntimeError):
    """The stack cannot become ready; the message names the service and its last words."""


class AlreadyRunning(RuntimeError):
    """Another supervisor holds the state directory."""


@dataclass
class Unit:
    """One service under supervision."""

    service: Service
    state: State = State.WAITING
    process: asyncio.subprocess.Process | None = None
    restarts: int = -1
    said: str = ""
    since: float = field(default_factory=time.time)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    again: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def turn(self, state: State) -> None:
        """Note a change of state."""
        if state is not self.state:
            self.state, self.since = state, time.time()


class Supervisor:
    """Use `run`; everything else is called from `control`, on the event loop."""

    def __init__(self, site: Site, services: list[Service]) -> None:
        names = {service.name for service in services}
        self.site = site
        self.units = {service.name: Unit(service) for service in services}
        self.needs = {service.name: [name for name in service.depends_on if name in names] for service in services}
        self.phase = "starting"
        self.started = time.monotonic()
        self.startup_s: float | None = None
        self._stop = asyncio.Event()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log = log.get(__name__)

    async def run(self) -> None:
        """Bring everything up, hold it until `stop` or a signal, take it down. StartFailed when it cannot come up."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(len(self.units) + 4))  # each may be waiting for an answer at once
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop)
        stack_file = self.site.state_dir / "stack.json"
        warden = asyncio.create_task(self._keep_warden(stack_file))
        endpoint = control.serve(self, loop, self.site.ports["supervisor"])
        chores = [warden, asyncio.create_task(self._bound_logs()), asyncio.create_task(self._watch())]
        keepers = [asyncio.create_task(self._keep(unit)) for unit in self.units.values()]
        for unit in self.units.values():
            unit.wanted.set()
        try:
            everything = asyncio.create_task(self._all_ready())
            stop = asyncio.create_task(self._stop.wait())
            watched: list[asyncio.Future[Any]] = [everything, stop, self._failure, *keepers]
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if everything.done():
                self.phase, self.startup_s = "ready", round(time.monotonic() - self.started, 1)
                _write_private(stack_file, self._stack())
                self._log.info("ready", startup_s=self.startup_s)
                await asyncio.wait([stop, *keepers], return_when=asyncio.FIRST_COMPLETED)
            everything.cancel()
            stop.cancel()
        finally:
            self.phase = "stopping"
            stack_file.unlink(missing_ok=True)
            await self._stop_all()
            for task in [*keepers, *chores]:
                task.cancel()
            await asyncio.gather(*keepers, *chores, return_exceptions=True)
            endpoint.shutdown()
        for keeper in keepers:
            if not keeper.cancelled() and (error := keeper.exception()):
                raise error
        if self._failure.done():
            self._failure.result()

    def stop(self) -> None:
        """Take the whole stack down."""
        self._stop.set()

    def kill(self, name: str) -> None:
        """SIGKILL a service and what it started; it will be restarted."""
        self._signal(self.units[name], signal.SIGKILL)

    async def stop_service(self, name: str) -> None:
        """Stop one service and keep it stopped."""
        await self._stop_unit(self.units[name])

    def start_service(self, name: str) -> None:
        """Start a stopped service, or run a task again."""
        unit = self.units[name]
        unit.wanted.set()
        unit.again.set()

    def status(self) -> dict[str, Any]:
        """What `headrace status` shows of processes."""
        rss = rss_by_group()
        services: list[dict[str, Any]] = [
            {
                "name": name,
                "kind": "task" if isinstance(unit.service, Task) else "service",
                "state": unit.state,
                "pid": unit.process.pid if unit.process and unit.process.returncode is None else None,
                "rss_mb": round(rss.get(unit.process.pid, 0) / 2**20) if unit.process and unit.process.returncode is None else 0,
                "url": unit.service.url(self.site),
                "restarts": max(0, unit.restarts),
                "since": round(unit.since, 3),
                "said": unit.said,
                "log": str(self.site.log(name)),
            }
            for name, unit in self.units.items()
        ]
        own = rss.get(os.getpgrp(), 0) >> 20
        return {
            "pid": os.getpid(),
            "state_dir": str(self.site.state_dir),
            "phase": self.phase,
            "startup_s": self.startup_s,
            "rss_mb": own + sum(s["rss_mb"] for s in services),
            "services": services,
        }

    async def _all_ready(self) -> None:
        for unit in self.units.values():
            await unit.ready.wait()

    async def _keep(self, unit: Unit) -> None:
        young_deaths = 0
        while True:
            await unit.wanted.wait()
            if not _works_ahead(unit):
                await self._what_it_needs(unit)
            born = time.monotonic()
            code = await self._live(unit)
            if not unit.wanted.is_set():
                unit.turn(State.STOPPED)
                continue
            if isinstance(unit.service, Task) and code == 0:
                young_deaths = 0
                unit.turn(State.DONE)
                unit.ready.set()
                await unit.again.wait()
                continue
            young_deaths = 0 if time.monotonic() - born > STEADY_S else young_deaths + 1
            if code is not None:
                unit.said = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            self._log.warning("service ended", service=unit.service.name, said=unit.said)
            if self.phase == "starting" and young_deaths >= START_ATTEMPTS:
                self._give_up(unit)
            if young_deaths > 1:
                unit.turn(State.BACKOFF)
                await asyncio.sleep(min(BACKOFF_S[0] * 2 ** (young_deaths - 2), BACKOFF_S[1]))

    async def _what_it_needs(self, unit: Unit) -> None:
        """Wait until all that a service depends on is ready."""
        for name in self.needs[unit.service.name]:
            if not self.units[name].ready.is_set():
                unit.turn(State.WAITING)
                await self.units[name].ready.wait()

    async def _live(self, unit: Unit) -> int | None:
        """One life of a service; returns its exit code, or None where `said` tells why it had none or never answered."""
        service, site = unit.service, self.site
        unit.again.clear()
        unit.turn(State.STARTING)
        unit.restarts += 1
        try:
            await asyncio.to_thread(service.prepare, site)
        except (OSError, RuntimeError) as error:
            unit.said = f"cannot be prepared: {error}"
            return None
        if not unit.wanted.is_set():
            return None
        command = service.command(site)
        environment = {**os.environ, **site.env, **service.env(site), RUN_MARK: site.run}
        with site.log(service.name).open("ab") as out:
            out.write(f"\n--- {time.strftime('%F %T')} {' '.join(command)[:2000]}\n".encode())
            out.flush()
            # preexec_fn runs in the child of this, the main thread, which lives as long as the supervisor does.
            unit.process = await asyncio.create_subprocess_exec(
                *command, stdin=subprocess.PIPE if _works_ahead(unit) else subprocess.DEVNULL, stdout=out, stderr=out, env=environment,
                cwd=service.cwd(site), start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
        asking = asyncio.create_task(self._until_ready(unit))
        code = await unit.process.wait()
        unit.ready.clear()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(unit.process.pid, signal.SIGKILL)  # what it left of its process group
        asking.cancel()
        try:
            return code if await asking else None
        except asyncio.CancelledError:
            return code

    async def _until_ready(self, unit: Unit) -> bool:
        """Ask until there is an answer; false where none came in time and the process was killed for it."""
        service = unit.service
        if isinstance(service, Task):
            if unit.process is not None and unit.process.stdin is not None:
                await self._what_it_needs(unit)
                unit.process.stdin.close()
                unit.turn(State.STARTING)
            return True
        deadline = time.monotonic() + service.start_timeout_s
        while not await self._answers(unit):
            if time.monotonic() > deadline:
                unit.said = f"did not answer within {service.start_timeout_s:.0f} s: {unit.said}"
                self._signal(unit, signal.SIGKILL)
                return False
            await asyncio.sleep(ASK_EVERY_S)
        unit.said = ""
        unit.turn(State.READY)
        unit.ready.set()
        self._log.info("service is ready", service=service.name, url=service.url(self.site))
        if unit.restarts:
            for other in self.units.values():
                if isinstance(other.service, Task) and service.name in other.service.again_after:
                    other.ready.clear()
                    other.again.set()
        return True

    async def _answers(self, unit: Unit) -> bool:
        try:
            await asyncio.to_thread(unit.service.ask, self.site)
        except NotReady as error:
            unit.said = str(error)
            return False
        return True

    async def _watch(self) -> None:
        """Notice services that run and no longer answer; one that stays silent is killed, and so restarted."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            for unit in self.units.values():
                if unit.state in (State.READY, State.SILENT) and not isinstance(unit.service, Task):
                    answers = await self._answers(unit)
                    if unit.state in (State.READY, State.SILENT):
                        unit.turn(State.READY if answers else State.SILENT)
                    if unit.state is State.SILENT and time.time() - unit.since > SILENT_S:
                        self._log.warning("service is silent for too long", service=unit.service.name, said=unit.said)
                        self._signal(unit, signal.SIGKILL)

    def _signal(self, unit: Unit, number: signal.Signals) -> None:
        if unit.process is not None and unit.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(unit.process.pid, number)

    async def _stop_unit(self, unit: Unit) -> None:
        unit.wanted.clear()
        process = unit.process
        if process is None or process.returncode is not None:
            return
        self._signal(unit, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), unit.service.stop_timeout_s)
        except TimeoutError:
            self._log.warning("service does not end on SIGTERM", service=unit.service.name)
            self._signal(unit, signal.SIGKILL)
            await process.wait()

    async def _stop_all(self) -> None:
        """Stop everything, dependants first."""

        async def after_dependants(unit: Unit) -> None:
            for name, needs in self.needs.items():
                if unit.service.name in needs:
                    await self.units[name].ended.wait()
            await self._stop_unit(unit)
            unit.ended.set()

        await asyncio.gather(*(after_dependants(unit) for unit in self.units.values()))

    def _give_up(self, unit: Unit) -> None:
        if not self._failure.done():
            name = unit.service.name
            words = f"{name} {unit.said} ({START_ATTEMPTS} attempts). The end of {self.site.log(name)}:\n{tail(self.site.log(name), 15)}"
            self._failure.set_exception(StartFailed(words))

    async def _keep_warden(self, stack_file: Path) -> None:
        """A process that outlives this one just long enough to kill what is left."""
        while True:
            reading, writing = os.pipe()
            warden = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "infra.stack.warden", str(stack_file),
                stdin=reading, env={**os.environ, RUN_MARK: self.site.run}, start_new_session=True,
            )  # fmt: skip
            os.close(reading)
            try:
                await warden.wait()
            except asyncio.CancelledError:
                os.close(writing)
                await warden.wait()
                raise
            os.close(writing)
            await asyncio.sleep(1)

    async def _bound_logs(self) -> None:
        """Keep each log below LOG_BYTES, and one older file of that size."""
        while True:
            for path in (self.site.state_dir / "logs").glob("*.log"):
                if path.stat().st_size > LOG_BYTES:
                    await asyncio.to_thread(shutil.copyfile, path, path.with_suffix(".log.1"))
                    os.truncate(path, 0)  # writers append, so they go on at the new end
            await asyncio.sleep(WATCH_EVERY_S)

    def _stack(self) -> dict[str, Any]:
        services = [{"name": name, "url": unit.service.url(self.site)} for name, unit in self.units.items()]
        return {"pid": os.getpid(), "settings": self.site.tree, "services": services}


def _works_ahead(unit: Unit) -> bool:
    return isinstance(unit.service, Task) and unit.service.ahead


def tail(path: Path, lines: int) -> str:
    """The last lines of a log; empty where there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64_000))
        return b"\n".join(file.read().splitlines()[-lines:]).decode(errors="replace")


def _write_private(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that only this user may read, in one step."""
    scratch = path.with_suffix(".new")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file, indent=1)
    scratch.rename(path)


@contextlib.contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Hold the state directory while the block runs; AlreadyRunning where another process does."""
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"a stack already runs in {state_dir}: see it with `headrace status`, end it with `headrace down`, "
                "or start another with HEADRACE_STATE_DIR=<another directory>"
            ) from None
        yield


def select(services: list[Service], only: str) -> list[Service]:
    """The services named in a comma-separated list; `flink` stands for both of its processes. ValueError on an unknown name."""
    if not only:
        return services
    wanted = {name for given in only.split(",") for name in (("jobmanager", "taskmanager") if given == "flink" else (given,))}
    if unknown := wanted - {service.name for service in services}:
        raise ValueError(f"no service is called {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in services)}")
    return [service for service in services if service.name in wanted]


async def supervise(site: Site, services: list[Service]) -> None:
    """End what an earlier run left in the state directory, then run `services` until told to stop. StartFailed if they cannot start."""
    own = site.state_dir / "supervisor.json"
    if own.exists():
        kill_run(json.loads(own.read_text())["run"])
    (site.state_dir / "stack.json").unlink(missing_ok=True)
    note = {"pid": os.getpid(), "run": site.run, "url": site.tree["edge"]["supervisor_url"]}
    _write_private(own, note)
    try:
        await Supervisor(site, services).run()
    except StartFailed as error:
        _write_private(own, {**note, "failed": str(error)})
        raise
    own.unlink()


def main() -> int:
    """Entry of the supervisor process; the exit code is 0 after an ordered end, 1 with words on standard error otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="comma-separated names of the services to run")
    parser.add_argument("--players", type=int, default=0, help="let so many players watch the demo titles")
    parser.add_argument("--inject", action="store_true", help="make one failed start and one failover happen to them")
    parser.add_argument("--port", action="append", default=[], help="name=number: a fixed port")
    arguments = parser.parse_args()
    log.configure("supervisor")
    try:
        with locked(settings().state_dir):
            jars.ensure()
            jvm.share_classes()
            fixed = {name: int(number) for name, _, number in (given.partition("=") for given in arguments.port)}
            services = [*catalogue(), *(watching(arguments.players, arguments.inject) if arguments.players else [])]
            services = select(services, arguments.only)
            asyncio.run(supervise(choose(settings(), len(cache_servers()), fixed), services))
    except (StartFailed, AlreadyRunning, PortTaken, jars.JarError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
