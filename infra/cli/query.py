"""`headrace query`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def query(
    sql: Annotated[str, typer.Argument(help="One statement that reads; tables need no database name.")],
    form: Annotated[str, typer.Option("--format", help="Any ClickHouse output format; a table on a terminal, else TSV.")] = "",
) -> None:
    """Ask the warehouse, read-only."""
    from infra.base import warehouse
    from infra.cli.words import asking_warehouse

    chosen = form or ("PrettyCompactMonoBlock" if sys.stdout.isatty() else "TabSeparatedWithNames")
    with asking_warehouse():
        answer = warehouse.reader().raw_query(sql, fmt=chosen)
    sys.stdout.buffer.write(answer)
