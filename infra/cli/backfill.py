"""`headrace backfill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def backfill(
    table: Annotated[str, typer.Argument(help="Landing table, such as playback_report.")],
    log: Annotated[Path | None, typer.Option(help="From this log of `headrace record`; default: from the topic itself.")] = None,
) -> None:
    """Make a landing table anew beside the old one, from its topic or a recorded log, and put it in its place in one step."""
    from clickhouse_connect.driver.exceptions import Error as ClientError
    from confluent_kafka import KafkaException

    from infra.base.registry import RegistryUnavailable
    from infra.base.warehouse import WarehouseError, WarehouseUnavailable
    from infra.cli.interrupt import until_interrupted
    from infra.cli.when import Progress
    from infra.cli.words import Refusal, out
    from sinks.archive import Damaged
    from sinks.backfill import CannotBackfill
    from sinks.backfill import backfill as make_anew

    refusals = (CannotBackfill, Damaged, FileNotFoundError, RegistryUnavailable)
    outages = (WarehouseError, WarehouseUnavailable, ClientError, KafkaException)
    with until_interrupted() as interrupted:
        try:
            done = make_anew(table, log, stop=interrupted, progress=Progress("made anew"))
        except refusals as error:
            raise Refusal(str(error)) from None
        except outages as error:
            raise Refusal(f"{error}\n{table} is the old one or the new one, whole: the same command begins or finishes it") from None
    if done.resumed:
        out.print(f"{table}: finished the backfill that had been cut off; {done.rows:,} rows")
        return
    out.print(f"{table}: {done.rows:,} rows, {done.anew:,} of them made anew; the others are as they were")
    if done.left_out:
        out.print(f"{done.left_out:,} messages cannot be read and were left out, as the loader had left them out")
