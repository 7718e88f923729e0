"""What every benchmark shares: figures with target and floor, medians of raw runs, one JSON each, a table at the end.

A benchmark is a module of this package with

    FIGURES: dict[str, Figure]                           what it measures, with target and floor; or, where options decide that,
    def figures(options: Options) -> dict[str, Figure]
    def run(options: Options) -> list[dict[str, float]]  one mapping of figure → value per run, extra keys are kept as raw data

A figure that is missing from a run is a failure, never a skip.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2 as httpx
from confluent_kafka import TopicPartition
from rich.console import Console
from rich.table import Table

from infra.base import kafka
from infra.base.children import die_with_parent
from infra.base.ports import LOOPBACK, free_port
from infra.base.settings import environment, settings
from infra.stack.local import LocalStack
from schemas.catalogue import catalogue

OUT = Path("build/bench")
READY_WITHIN_S = 300.0
"""A service that reads large tables first takes so long at most."""
PARTS = ("apache-flink", "chdb-core", "clickhouse-connect", "confluent-kafka", "fastavro", "faust-streaming", "numpy", "pyarrow")

console = Console(stderr=True)


@dataclass(frozen=True)
class Figure:
    """One number that a benchmark owes. `higher` says which way is better; target and floor are None for what is only printed."""

    unit: str
    target: float | None = None
    floor: float | None = None
    higher: bool = True

    def verdict(self, value: float) -> str:
        """`target`, `floor`, `below` or `printed`."""
        if self.target is None or self.floor is None:
            return "printed"
        if self.reaches(value, self.target):
            return "target"
        return "floor" if self.reaches(value, self.floor) else "below"

    def reaches(self, value: float, bar: float) -> bool:
        """Whether `value` is at `bar` or on its better side."""
        return value >= bar if self.higher else value <= bar


@dataclass(frozen=True)
class Options:
    """What the command line may say; a benchmark takes what it has a use for."""

    seed: int = 1
    runs: int = 3
    events: int | None = None
    sessions: int | None = None
    seconds: float | None = None
    world: Path | None = None
    traces: Path | None = None

    def command(self, name: str) -> str:
        """What to type to run benchmark `name` with these options."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name) != field.default}
        words = [word for option, value in given.items() for word in (f"--{option}", str(value))]
        return " ".join([".venv/bin/python -m infra.bench --only", name, *words]) if words else f"make bench ONLY={name}"


@contextmanager
def ground(only: str, state_dir: Path | None = None, keep: bool = False) -> Iterator[LocalStack]:
    """A fresh local stack of the services `only`; this process's settings point at it until the end."""
    stack = LocalStack(state_dir or OUT / "state")
    if stack.locked():
        raise SystemExit(f"another benchmark runs in {stack.state_dir}: wait for it, or end it")
    if not keep:
        subprocess.run(["rm", "-rf", str(stack.state_dir)], check=True)
    with environment({"HEADRACE_STATE_DIR": str(stack.state_dir)}):
        console.print(f"[dim]starting {only} …[/dim]")
        try:
            stack.start(["--only", only] if only else [], tied=True)
            stack.wait_ready()
            settings.cache_clear()  # the addresses are there now
            yield stack
        finally:
            stack.end_started()


@contextmanager
def served(module: str, *arguments: str) -> Iterator[tuple[str, int]]:
    """Address and process id of a service of ours, `python -m module --url …`, once it answers GET /healthz with 200."""
    url = f"http://{LOOPBACK}:{free_port()}"
    command = [sys.executable, "-m", module, "--url", url, *arguments]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ.copy(), preexec_fn=die_with_parent)
    deadline = time.monotonic() + READY_WITHIN_S
    try:
        while not _ready(url):
            if process.poll() is not None:
                raise AssertionError(f"{module} ended with code {process.returncode} instead of serving")
            if time.monotonic() > deadline:
                raise AssertionError(f"{module} was not ready in {READY_WITHIN_S:g} s")
            time.sleep(0.1)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(60)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def namespace(name: str) -> AbstractContextManager[None]:
    """Let this process's settings, and its children's, speak of namespace `name`."""
    return environment({"HEADRACE_NAMESPACE": name})


def world_argument(path: Path | None) -> tuple[str, ...]:
    """How the simulator is told of a world file; without one it takes the world that is installed."""
    return ("--world", str(path)) if path else ()


def record(path: Path, events: int, options: Options, *more: str) -> Path:
    """A recorded log of at least `events` playback reports in a new directory `path`; `more` options go to the simulator."""
    say(f"recording {events:,} events")
    simulator = [sys.executable, "-m", "producers.simulator", "--events", str(events), "--seed", str(options.seed)]
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([*simulator, "--to", str(path), *world_argument(options.world), *more], check=True)
    return path


def ends(topics: Sequence[str]) -> dict[str, int]:
    """How far each topic goes: the sum of its partitions' ends."""
    reader = kafka.consumer("bench-ends")
    try:
        return {
            name: sum(
                reader.get_watermark_offsets(TopicPartition(settings().topic(name), partition), timeout=10)[1]
                for partition in range(catalogue().topic(name).partitions)
            )
            for name in topics
        }
    finally:
        reader.close()


def cpu_seconds(pids: Sequence[int | str]) -> float:
    """User and system seconds that processes ("self" is this one) and the children they have waited for have used so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(words[i]) for i in (11, 12, 13, 14))
    return total / ticks


def say(text: str) -> None:
    """One line of progress, on standard error."""
    console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {text}")


def report(name: str, figures: Mapping[str, Figure], runs: list[dict[str, Any]], options: Options) -> dict[str, Any]:
    """Medians of the runs, written to build/bench/<name>.json. Raises ValueError naming a figure that a run does not have."""
    missing = sorted({figure for figure in figures for run in runs if figure not in run})
    if missing or not runs:
        raise ValueError(f"{name}: no value for {', '.join(missing) or 'anything: there was no run'}")
    content = {
        "name": name,
        "commit": _git("rev-parse", "HEAD") + ("+" if _git("status", "--porcelain") else ""),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "memory_gb": _memory_gb(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), **{part: version(part) for part in PARTS}},
        "command": options.command(name),
        "seed": options.seed,
        "runs": runs,
        "figures": {
            figure: {"value": statistics.median(run[figure] for run in runs), "unit": f.unit, "target": f.target, "floor": f.floor}
            for figure, f in figures.items()
        },
    }
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    return content


def show(results: Sequence[Mapping[str, Any]], figures: Mapping[str, Mapping[str, Figure]]) -> bool:
    """Print the table of all results; returns whether every figure reaches its floor."""
    table = Table("benchmark", "figure", "value", "unit", "target (floor)", "verdict")
    fine = True
    for result in results:
        for figure, found in result["figures"].items():
            declared = figures[result["name"]][figure]
            verdict = declared.verdict(found["value"])
            fine &= verdict != "below"
            bars = "" if declared.target is None else f"{declared.target:g} ({declared.floor:g})"
            table.add_row(result["name"], figure, f"{found['value']:,.4g}", declared.unit, bars, verdict)
    Console(file=sys.stdout).print(table)
    return fine


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gb() -> float:
    kb = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    return round(kb / 2**20, 1)
