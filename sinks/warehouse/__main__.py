"""`python -m sinks.warehouse`: open `<state_dir>/warehouse` and serve it at `warehouse.dsn` until told to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import replace
from urllib.parse import urlsplit

from infra.base import log
from infra.base.settings import settings
from schemas.catalogue import ContractError, catalogue
from sinks import migrate
from sinks.grants import readable
from sinks.warehouse.engine import Engine, EngineError, Role
from sinks.warehouse.server import Server, Users

GIB = 1 << 30


def roles(memory_bytes: int, cores: int) -> dict[str, Role]:
    """Readers get half the cores and a third of the memory each, so that no dashboard starves the loader."""
    reader = Role(
        "reader",
        writes=False,
        slots=max(4, cores),
        limits={
            "max_execution_time": 30,
            "max_memory_usage": memory_bytes // 3,
            "max_threads": max(1, cores // 2),
            "max_result_bytes": GIB // 2,
            "max_ast_depth": 1000,
        },
    )
    loader = Role("loader", writes=True, slots=max(4, cores), limits={"max_query_size": 64 << 20})
    return {"reader": reader, "loader": loader}


def team_role(team: str) -> str:
    """The role of a team's readers."""
    return f"reader of {team}"


def main() -> None:
    """Serve until SIGTERM or SIGINT. Exits with words where it cannot start."""
    log.configure("warehouse")
    chosen = settings().warehouse
    if not chosen.loader_password:
        sys.exit("warehouse: set HEADRACE_WAREHOUSE__LOADER_PASSWORD; without a password anyone on this machine could write")
    url = urlsplit(chosen.dsn)
    memory_bytes = min(4 * GIB, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)
    by_name = roles(memory_bytes, os.cpu_count() or 1)
    try:
        topics, objects = list(catalogue().topics.values()), migrate.objects()
    except (ContractError, migrate.MigrationError) as error:
        sys.exit(f"warehouse: {error}")
    for team in sorted({reader.team for reader in chosen.readers.values()}):
        by_name[team_role(team)] = replace(by_name["reader"], name=team_role(team), team=team, tables=readable(team, topics, objects))
    path = settings().state_dir.resolve() / "warehouse"
    try:
        engine = Engine(path, by_name, memory_bytes)
    except EngineError as error:
        sys.exit(f"warehouse: {error}")
    users = Users(
        {
            "default": (by_name["reader"], ""),
            chosen.user: (by_name["reader"], chosen.password),
            chosen.loader_user: (by_name["loader"], chosen.loader_password),
            **{name: (by_name[team_role(reader.team)], reader.password.get_secret_value()) for name, reader in chosen.readers.items()},
        }
    )
    try:
        server = Server((url.hostname or "127.0.0.1", url.port or 8123), engine, users)
    except OSError as error:
        sys.exit(f"warehouse: {url.netloc} cannot be bound: {error}")

    def stop(*_: object) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.get(__name__).info("warehouse is open", path=str(path), dsn=chosen.dsn)
    server.serve_forever()
    server.server_close()
    engine.close()


if __name__ == "__main__":
    main()
