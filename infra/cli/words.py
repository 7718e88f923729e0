"""How commands speak: refusals, and the lines shown while the stack starts."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Refusal(Exception):
    """A command cannot do what was asked; the message says what, where, and what to do."""


def end_on_signals() -> None:
    """Let SIGTERM, and SIGINT even where a shell has switched it off for its background jobs, end this command like Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


@contextmanager
def asking_warehouse() -> Iterator[None]:
    """Turn what goes wrong with a question to the warehouse into a refusal."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from infra.base.settings import settings

    try:
        yield
    except ClickHouseError as error:
        raise Refusal(f"The warehouse at {settings().warehouse.dsn} refuses or does not answer:\n{error}") from None


@contextmanager
def asking_backbone() -> Iterator[None]:
    """Turn what goes wrong with Kafka and the registry into a refusal."""
    from confluent_kafka import KafkaException

    from infra.base.registry import RegistryError, RegistryUnavailable

    try:
        yield
    except (KafkaException, TimeoutError, RegistryError, RegistryUnavailable, RuntimeError) as error:
        raise Refusal(f"the backbone does not answer: {error}\n`headrace status` shows whether the stack runs") from None


@contextmanager
def asking_cluster() -> Iterator[None]:
    """Turn what a job or the cluster says into a refusal."""
    import logging

    from schemas.catalogue import ContractError
    from streams.cluster import ClusterError
    from streams.deploy import StateLost
    from streams.environment import JobError

    logging.getLogger("httpx2").setLevel(logging.WARNING)  # PyFlink sets the root logger to INFO
    try:
        yield
    except (JobError, ClusterError, StateLost, ContractError) as error:
        raise Refusal(str(error)) from None


class StartLines:
    """Prints a line for each service that became ready or failed, as the supervisor's status shows it."""

    def __init__(self, console: Console = err) -> None:
        self._console = console
        self._began = time.monotonic()
        self._seen: dict[str, tuple[str, int]] = {}

    def __call__(self, status: dict[str, Any]) -> None:
        """Print what changed since the last call."""
        for service in status["services"]:
            seen = (service["state"], service["restarts"])
            if self._seen.get(service["name"]) == seen:
                continue
            before = self._seen.get(service["name"])
            self._seen[service["name"]] = seen
            elapsed = f"{time.monotonic() - self._began:5.1f} s"
            if service["state"] in ("ready", "done"):
                self._console.print(f"{elapsed}  [green]{service['state']:5}[/green]  {service['name']:14} {service['url']}")
            elif before and service["restarts"] > before[1]:
                self._console.print(f"{elapsed}  [yellow]again[/yellow]  {service['name']:14} {service['said']}; see {service['log']}")


def service_table(status: dict[str, Any]) -> Table:
    """Services with state, memory and address."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("service", "state", "pid", "MB", "restarts", "url"):
        table.add_column(column, justify="right" if column in ("pid", "MB", "restarts") else "left")
    colour = {"ready": "green", "done": "green", "silent": "red", "backoff": "red"}
    for service in status["services"]:
        state = f"[{colour.get(service['state'], 'yellow')}]{service['state']}[/]"
        url = service["url"] if service["state"] in ("ready", "done") else f"{service['url']} {service['said']}"
        table.add_row(service["name"], state, str(service["pid"] or ""), str(service["rss_mb"] or ""), str(service["restarts"] or ""), url)
    return table
