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
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from infra.base import warehouse
    from infra.base.settings import settings
    from infra.cli.words import Refusal

    chosen = form or ("PrettyCompactMonoBlock" if sys.stdout.isatty() else "TabSeparatedWithNames")
    try:
        answer = warehouse.reader().raw_query(sql, fmt=chosen)
    except ClickHouseError as error:
        raise Refusal(f"The warehouse at {settings().warehouse.dsn} refuses or does not answer:\n{error}") from None
    sys.stdout.buffer.write(answer)
