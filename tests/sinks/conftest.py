"""A real warehouse process, a registry and librdkafka's mock cluster for what the sinks' tests load and ask."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from infra.base import warehouse
from infra.base.ports import free_port
from infra.base.settings import settings
from schemas.codec import Encoder
from sinks import migrate
from tests.broker import MockCluster
from tests.kit import eventually
from tests.sinks.loading import LETTERS, produce
from tests.sinks.recorded import registry
from tests.sinks.reports import TOPIC, encoder, register, report

PASSWORD = "only-for-tests"
READERS = {"alice": {"team": "delivery", "password": "a-word"}, "bob": {"team": "playback", "password": "another"}}


class WarehouseProcess:
    """`python -m sinks.warehouse` on a directory of its own; it can be killed and started again at the same address."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.dsn = f"http://127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process use this warehouse, and nothing of a stack that happens to run here."""
        return {
            "HEADRACE_STATE_DIR": str(self.state_dir),
            "HEADRACE_WAREHOUSE__DSN": self.dsn,
            "HEADRACE_WAREHOUSE__LOADER_PASSWORD": PASSWORD,
            "HEADRACE_WAREHOUSE__READERS": json.dumps(READERS),
        }

    @property
    def pid(self) -> int:
        """The process that owns the files."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> WarehouseProcess:
        """Start and wait until it answers."""
        command = [sys.executable, "-m", "sinks.warehouse"]
        self._process = subprocess.Popen(command, env={**os.environ, **self.environment}, stderr=subprocess.DEVNULL)
        eventually(self._answers, within=60)
        return self

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End in order."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(30)

    def _answers(self) -> bool:
        with urlopen(f"{self.dsn}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)


@pytest.fixture(scope="session")
def warehouse_process() -> Iterator[WarehouseProcess]:
    """One warehouse for all tests that leave it as they found it; namespaces keep them apart."""
    with tempfile.TemporaryDirectory(prefix="headrace-warehouse-") as folder:
        process = WarehouseProcess(Path(folder)).start()
        yield process
        process.stop()


@pytest.fixture(scope="session")
def registry_url() -> Iterator[str]:
    """A registry that gives ids from 100 on."""
    with registry(100) as url:
        yield url


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """A mock cluster inside this process."""
    cluster = MockCluster()
    yield cluster.bootstrap
    cluster.close()


@pytest.fixture
def place(warehouse_process: WarehouseProcess, registry_url: str, bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A namespace of one's own on the warehouse, the registry and the cluster of this run; `settings()` speak of it."""
    namespace = f"t{secrets.token_hex(4)}"
    for name, value in {
        **warehouse_process.environment,
        "HEADRACE_NAMESPACE": namespace,
        "HEADRACE_REGISTRY__URL": registry_url,
        "HEADRACE_KAFKA__BOOTSTRAP": bootstrap,
        "HEADRACE_LOADER__STATUS_URL": f"http://127.0.0.1:{free_port()}",
    }.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield namespace
    settings.cache_clear()


@pytest.fixture
def world(place: str, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """Tables and schemas of reports and dead letters, a group that notices a death soon, and an encoder of reports."""
    monkeypatch.setenv("HEADRACE_KAFKA__SESSION_TIMEOUT_MS", "3000")
    settings.cache_clear()
    migrate.migrate(warehouse.writer("default"), [TOPIC, LETTERS], [])
    register(LETTERS)
    produce([(0, report(encoder(register()), -1))])  # the topics exist from now on
    produce([], LETTERS.name)
    return encoder(register())
