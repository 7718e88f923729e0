"""A second world beside the first: a namespace with tables, jobs and a loader of its own on the services that run.

    with beside.world("again") as world:
        replay(log, namespace="again")
        world.wait_until_still()

Everything is by settings, so it works on a cluster too. What the world derived stays in its database when it ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from infra.base import warehouse
from infra.base.ports import free_port
from infra.base.settings import settings
from infra.stack.health import Unreachable, lags

STILL_S = 15.0
"""Longer than a checkpoint and a loader's linger: where everything has been read, tables that did not grow for so long have everything."""
MARKERS = 100
"""So many messages of a topic may wait for a reader and be nothing but time markers and marks of transactions."""

Say = Callable[[str], None]


class WorldFailed(RuntimeError):
    """A part of the world could not be started or ended; the message holds its last words."""


class World:
    """A namespace that is alive."""

    def __init__(self, namespace: str, loader: subprocess.Popen[bytes], loader_log: Path) -> None:
        self.namespace = namespace
        self._database = settings().within(namespace).database
        self._loader, self._loader_log = loader, loader_log

    def wait_until_still(self, within_s: float = 900.0, tick: Callable[[int], None] = lambda rows: None) -> int:
        """Block until nothing has waited for a job or the loader, and no table has grown, for STILL_S; returns the rows.

        `tick` is told the rows each second. Raises WorldFailed.
        """
        deadline, since, before = time.monotonic() + within_s, time.monotonic(), -1
        with warehouse.reader(self._database) as client:
            while time.monotonic() - since < STILL_S or before == 0:
                if (code := self._loader.poll()) is not None:
                    raise WorldFailed(f"the loader of {self.namespace} ended with code {code}: {_tail(self._loader_log)}")
                if time.monotonic() > deadline:
                    raise WorldFailed(f"{self._database} still changes, or is empty, after {within_s:.0f} s: {before} rows")
                rows = int(client.query("SELECT sum(total_rows) FROM system.tables WHERE database = currentDatabase()").result_rows[0][0])
                if rows != before or self._behind():
                    before, since = rows, time.monotonic()
                tick(rows)
                time.sleep(1.0)
        return before

    def _behind(self) -> bool:
        """Whether a job or the loader has something to read."""
        try:
            return max(lags(self.namespace).values(), default=0) > MARKERS
        except Unreachable:
            return True  # within_s bounds the wait


@contextmanager
def world(namespace: str, say: Say = lambda words: None, jobs: Sequence[str] = ()) -> Iterator[World]:
    """Topics, subjects, tables, `jobs` (default: all) and a loader of `namespace`, until the block ends. Raises WorldFailed."""
    status_url = f"http://127.0.0.1:{free_port()}"
    environment = {**os.environ, "HEADRACE_NAMESPACE": namespace, "HEADRACE_LOADER__STATUS_URL": status_url}
    for words, module, *arguments in (
        (f"contracts of namespace {namespace}", "schemas.publish"),
        ("tables", "sinks.migrate"),
        ("jobs, some 20 s", "streams.deploy", *(jobs or ["--all"])),
    ):
        say(words)
        done = subprocess.run([sys.executable, "-m", module, *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise WorldFailed(f"{module} ended with code {done.returncode}: {(done.stderr or done.stdout).strip()[:2_000]}")
    logs = settings().state_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    loader_log = logs / f"loader-{namespace}.log"
    with loader_log.open("ab") as out:
        loader = subprocess.Popen([sys.executable, "-m", "sinks.loader"], env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield World(namespace, loader, loader_log)
    finally:
        loader.terminate()
        loader.wait(60)
        _stop_jobs(namespace)


def _stop_jobs(namespace: str) -> None:
    """With a savepoint: a cancelled job would leave transactions open that block readers."""
    from streams.cluster import Cluster, ClusterError

    cluster = Cluster()
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(cluster.stop, [job.job_id for name, job in cluster.alive().items() if name.startswith(f"{namespace}.")]))
    except ClusterError as error:
        raise WorldFailed(f"the jobs of namespace {namespace} could not all be stopped: {error}") from None


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-1_000:]
