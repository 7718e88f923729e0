"""Where one copy of the stack lives: its directory, its ports, its addresses as a settings tree."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.base.ports import LOOPBACK, free_ports, is_free
from infra.base.settings import Settings
from infra.stack import jars

PORTS_FILE = "ports.json"
PORTS = (
    "kafka", "kafka_controller", "registry", "registry_management", "flink_rest", "flink_rpc", "flink_blob",
    "warehouse", "loader", "guard", "live_sessions", "oca_health", "fill_planner", "collector", "gateway",
    "steering", "home", "origin", "board", "supervisor",
)  # fmt: skip


@dataclass(frozen=True)
class Site:
    """One copy of the stack. `tree` is the nested settings tree that every child gets by environment and `stack.json` holds."""

    state_dir: Path
    ports: dict[str, int]
    tree: dict[str, dict[str, Any]]
    run: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def env(self) -> dict[str, str]:
        """The tree as `HEADRACE_<GROUP>__<NAME>` variables."""
        flat = {
            f"HEADRACE_{group}__{name}".upper(): value if isinstance(value, str) else json.dumps(value)
            for group, values in self.tree.items()
            for name, value in values.items()
        }
        return {**flat, "HEADRACE_STATE_DIR": str(self.state_dir)}

    def log(self, service: str) -> Path:
        """The log file of a service."""
        return self.state_dir / "logs" / f"{service}.log"


class PortTaken(RuntimeError):
    """A port that was asked for is not free; the message names who holds it."""


def choose(settings: Settings, ocas: int, fixed: dict[str, int] | None = None) -> Site:
    """A site in `settings.state_dir` on free loopback ports: last time's where they are still free, so that bookmarks live.

    `fixed` ports are taken as they are: PortTaken where one is in use, ValueError where nothing has that name.
    """
    state_dir = settings.state_dir.resolve()
    for folder in ("logs", "conf", "checkpoints", "savepoints"):
        (state_dir / folder).mkdir(parents=True, exist_ok=True)
    names = [*PORTS, *(f"oca_{n}" for n in range(ocas))]
    for name, port in (fixed or {}).items():
        if name not in names:
            raise ValueError(f"no port is called {name}; there are {', '.join(names)}")
        if not is_free(port):
            raise PortTaken(f"port {port} for {name} is in use by {holder(port)}: end that process or choose another port")
    ports = free_ports(names, remembered_ports(state_dir) | (fixed or {}))
    (state_dir / PORTS_FILE).write_text(json.dumps(ports, indent=1))

    def url(port: str) -> str:
        return f"http://{LOOPBACK}:{ports[port]}"

    tree: dict[str, dict[str, Any]] = {
        "kafka": {"bootstrap": f"{LOOPBACK}:{ports['kafka']}"},
        "registry": {"url": url("registry") + "/apis/ccompat/v7"},
        "flink": {
            "rest_url": url("flink_rest"),
            "jars": [str(path) for path in jars.paths("flink")],
            "jars_on_cluster": True,
            "checkpoint_dir": (state_dir / "checkpoints").as_uri(),
            "savepoint_dir": (state_dir / "savepoints").as_uri(),
        },
        "warehouse": {"dsn": url("warehouse"), "loader_password": secrets.token_urlsafe(24)},
        "loader": {"status_url": url("loader")},
        "guard": {"status_url": url("guard")},
        "fill": {"status_url": url("fill_planner")},
        "edge": {
            "gateway_url": url("gateway"),
            "collector_url": url("collector"),
            "steering_url": url("steering"),
            "home_url": url("home"),
            "oca_urls": [url(f"oca_{n}") for n in range(ocas)],
            "board_url": url("board"),
            "live_sessions_url": url("live_sessions"),
            "oca_health_url": url("oca_health"),
            "origin_url": url("origin"),
            "supervisor_url": url("supervisor"),
        },
    }
    return Site(state_dir, ports, tree)


def remembered_ports(state_dir: Path) -> dict[str, int]:
    """Port by name, as the last start in `state_dir` chose them; empty where none was."""
    path = state_dir / PORTS_FILE
    return dict(json.loads(path.read_text())) if path.exists() else {}


def holder(port: int) -> str:
    """Who listens on a loopback port, in words: "process 4711 (nginx)"; another user's process stays unnamed."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == "0A":  # LISTEN
            inodes.add(f"socket:[{fields[9]}]")
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(descriptor.readlink()) in inodes:
                process = descriptor.parents[1]
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return "a process that cannot be seen from here"
