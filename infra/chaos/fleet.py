"""What can be done to the cache servers of a running stack, and undone: real signals, real faults of their data planes, real routes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx

from infra.base import warehouse
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from infra.chaos.inject import Processes
from producers.emit import Emitter
from producers.standing import standing, tell
from schemas.assets import CHECKSUMS
from schemas.catalogue import catalogue

ROUTE, OCA = "delivery.route", "delivery.oca"
LATELY_S = 10.0


class CannotDo(Exception):
    """A fault that cannot be done here: what is missing, and what to do."""


@dataclass
class Fleet:
    """The servers that `delivery.oca` tells of; services of the supervisor are called as they are."""

    emitter: Emitter
    processes: Processes = field(default_factory=Processes)
    _schema: RegistryClient = field(default_factory=RegistryClient)

    def servers(self) -> dict[str, Mapping[str, Any]]:
        """Those that are installed, by oca_id."""
        known = standing(catalogue().topic(OCA), self._schema.schema)
        return {oca_id: told for oca_id, told in known.items() if not told["retired"]}

    def url(self, oca_id: str) -> str:
        """Where a server is reached. Raises CannotDo."""
        servers = self.servers()
        if oca_id not in servers:
            raise CannotDo(f"there is no cache server {oca_id}; there are {', '.join(sorted(servers))}")
        return str(servers[oca_id]["url"])

    def kill(self, oca_id: str) -> None:
        """SIGKILL, and it stays dead."""
        os.killpg(self._pid(oca_id), signal.SIGKILL)
        self.processes.act(oca_id, "stop")

    def start(self, oca_id: str) -> None:
        """Start a server that is dead."""
        self.processes.act(oca_id, "start")

    def freeze(self, oca_id: str) -> None:
        """SIGSTOP: its sockets stay open, and nobody reads them."""
        os.killpg(self._pid(oca_id), signal.SIGSTOP)

    def thaw(self, oca_id: str) -> None:
        """SIGCONT."""
        with suppress(CannotDo):
            os.killpg(self._pid(oca_id), signal.SIGCONT)

    def fail(self, oca_id: str, **how: str | float) -> None:
        """Let its data plane fail in a mode of `edge.oca.faults`. Raises CannotDo."""
        self._ask(oca_id, "/admin/fail", how)

    def heal(self, oca_id: str) -> None:
        """Let its data plane do as it should."""
        self._ask(oca_id, "/admin/heal", {})

    def pull(self, oca_id: str, asset: str, reason: str) -> None:
        """Take an asset, `<cid>/v<version>`, off a server that holds it."""
        httpx.post(f"{self.url(oca_id)}/admin/pull", params={"asset": asset, "reason": reason}, timeout=10.0)

    def withdraw(self, oca_id: str, withdrawn: bool = True) -> int:
        """Withdraw every prefix that was announced to a server, or announce them again; returns how many."""
        known = standing(catalogue().topic(ROUTE), self._schema.schema)
        told = [
            {**route, "withdrawn": withdrawn} for route in known.values() if route["oca_id"] == oca_id and route["withdrawn"] != withdrawn
        ]
        try:
            tell(self.emitter, ((ROUTE, event) for event in told))
        except RuntimeError as error:
            raise CannotDo(f"{error}; `headrace status` says how Kafka is") from None
        return len(told)

    def corrupt(self, oca_id: str) -> int:
        """Flip a byte in the middle of each segment that a server holds, on its disk; size and time stay. Returns how many files."""
        root = settings().state_dir / "oca" / oca_id
        if not root.is_dir():
            raise CannotDo(f"{root} is not the store of {oca_id}: only servers of this machine's own stack can be corrupted")
        return sum(1 for file in _segments(root) if _flip(file))

    def bytes_per_s(self, oca_id: str) -> float:
        """What a server has sent of late, as it says itself."""
        rows = warehouse.reader().query(
            "SELECT sum(bytes) * 1000 / greatest(1, sum(interval_ms)) FROM delivery_oca_report "
            "WHERE NOT marker AND oca_id = {oca:String} AND event_time > now64(3) - {s:Float64}",
            {"oca": oca_id, "s": LATELY_S},
        )
        return float(rows.result_rows[0][0] or 0.0)

    def _pid(self, oca_id: str) -> int:
        pid = self.processes.pid(oca_id)
        if pid is None:
            raise CannotDo(f"{oca_id} does not run: `headrace status` says how it is")
        return pid

    def _ask(self, oca_id: str, path: str, how: Mapping[str, Any]) -> None:
        answer = httpx.post(self.url(oca_id) + path, params=dict(how), timeout=10.0)
        if answer.status_code != 200:
            raise CannotDo(f"{oca_id} answers {answer.status_code} to {path}: {answer.text[:200]}")


def _segments(root: Path) -> Iterator[Path]:
    """The media of the assets in a store: not what they are described by."""
    for listed in root.glob(f"*/v*/{CHECKSUMS}"):
        yield from (file for file in listed.parent.rglob("*") if file.suffix in (".m4s", ".mp4"))


def _flip(file: Path) -> bool:
    with suppress(FileNotFoundError):
        status = file.stat()
        if not status.st_size:
            return False
        with file.open("r+b") as opened:
            opened.seek(status.st_size // 2)
            byte = opened.read(1)
            opened.seek(status.st_size // 2)
            opened.write(bytes([byte[0] ^ 0xFF]))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        return True
    return False
