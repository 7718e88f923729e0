"""`headrace status`."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import typer


def status(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show services, topics, jobs and tables of the running stack."""
    from infra.base.settings import settings
    from infra.cli.words import Refusal, out, service_table
    from infra.stack import health
    from infra.stack.local import LocalStack, NotRunning

    def asked(question: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]] | str:
        try:
            return question()
        except health.Unreachable as error:
            return str(error)

    try:
        services = LocalStack(settings().state_dir).status()
    except NotRunning as error:
        raise Refusal(str(error)) from None
    with ThreadPoolExecutor(3) as pool:
        topics, jobs, tables = pool.map(asked, (health.topics, health.jobs, health.tables))
    if as_json:
        print(json.dumps({**services, "topics": topics, "jobs": jobs, "tables": tables}, indent=1))
        return
    out.print(service_table(services))
    for title, rows in (("topics", topics), ("jobs", jobs), ("tables", tables)):
        out.print()
        if isinstance(rows, str):
            out.print(f"[bold]{title}[/bold]: [red]{rows}[/red]")
        else:
            out.print(_table(title, rows))
    out.print(f"\n{services['phase']}, {services['rss_mb']} MB, {services['state_dir']}")


COLUMNS = {
    "topics": ("name", "messages", "rate", "lag"),
    "jobs": ("name", "state", "records_per_s", "checkpoint_age_s", "restarts"),
    "tables": ("name", "rows", "freshness_s", "last_error"),
}

QUIET = 20
"""So many topics without a message are named; a team may have a thousand, among which the others would not be found."""


def _table(title: str, rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in COLUMNS[title]:
        numeric = column not in ("name", "state", "lag", "last_error")
        table.add_column(title[:-1] if column == "name" else column, justify="right" if numeric else "left")
    quiet = [row for row in rows if title == "topics" and not row["messages"] and not any(row["lag"].values())]
    for row in rows:
        if len(quiet) <= QUIET or row not in quiet:
            table.add_row(*(_cell(row[column]) for column in COLUMNS[title]))
    if len(quiet) > QUIET:
        table.add_row(f"and {len(quiet)} without a message")
    return table


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in sorted(value.items()))
    return "" if value is None else str(value)
