"""`headrace audit`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from sinks.audit import TopicAudit


def audit(
    topic: Annotated[list[str] | None, typer.Option(help="Topic to look at, may be repeated; default: all with a table.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each topic, windows included.")] = False,
    from_: Annotated[str | None, typer.Option("--from", help="Look at what arrived since, e.g. 2026-01-31T18:00.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Look at what arrived before.")] = None,
    content: Annotated[str, typer.Option(help="Compare bodies: full, sample or none; default: full up to 5 million rows.")] = "",
    settle: Annotated[float, typer.Option(help="Seconds that what is acknowledged now may take to be stored.")] = 15.0,
    ledgers: Annotated[list[Path] | None, typer.Option(help="Directory of ledgers, may be repeated; default: this stack's.")] = None,
) -> None:
    """Compare what producers were told is stored with what is stored; exit code 1 when that does not agree."""
    from infra.cli.when import instant_ms
    from infra.cli.words import Refusal, err, out
    from sinks.audit import CannotAudit, run

    try:
        results = run(
            topics=topic or [],
            from_ms=instant_ms(from_),
            to_ms=instant_ms(to),
            content=content or None,
            settle_s=settle,
            ledgers=ledgers or [],
            progress=lambda name: err.print(f"looking at {name}", style="dim") if err.is_terminal else None,
        )
    except CannotAudit as error:
        raise Refusal(str(error)) from None
    if as_json:
        for result in results:
            print(json.dumps({**asdict(result), "clean": result.clean}))
    else:
        out.print(_table(results))
        for result in results:
            for problem in result.problems:
                out.print(f"{result.topic}: {problem}", markup=False)
    if not all(result.clean for result in results):
        raise typer.Exit(1)


ALWAYS = ("acknowledged", "stored", "lost", "duplicated")
WHERE_ANY = ("altered", "forged", "unattempted", "unacknowledged", "unknown", "failed", "dead_lettered", "unledgered")


def _table(results: list[TopicAudit]) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("topic")
    columns = [*ALWAYS, *(column for column in WHERE_ANY if any(getattr(result, column) for result in results))]
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right", no_wrap=True)
    for result in results:
        bad = "green" if result.clean else "red"
        table.add_row(f"[{bad}]{result.topic}[/]", *(f"{getattr(result, column):,}" for column in columns))
    return table
