"""`headrace record`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def record(
    out: Annotated[Path, typer.Argument(help="Directory of the new log.")],
    topics: Annotated[str, typer.Option(help="Comma-separated topics; default: every declared topic that exists.")] = "",
    from_: Annotated[str | None, typer.Option("--from", help="Leave out records stamped earlier, e.g. 2026-01-31T18:00.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Leave out records stamped then or later.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted recording.")] = False,
) -> None:
    """Write what is on the topics to a log that `headrace replay` can put back."""
    from infra.base.registry import RegistryUnavailable
    from infra.cli.interrupt import until_interrupted
    from infra.cli.when import Progress, instant_ms
    from infra.cli.words import Refusal
    from infra.cli.words import out as console
    from sinks.archive import CannotRecord, Damaged
    from sinks.archive import record as write

    with until_interrupted() as interrupted:
        try:
            done = write(
                out,
                topics=[t for t in topics.split(",") if t],
                from_ms=instant_ms(from_),
                to_ms=instant_ms(to),
                follow=follow,
                resume=resume,
                stop=interrupted,
                progress=Progress("recorded"),
            )
        except (CannotRecord, Damaged, RegistryUnavailable) as error:
            raise Refusal(str(error)) from None
    rate = done.read / done.seconds if done.seconds else 0.0
    console.print(f"{done.records:,} records of {done.topics} topics are in {out} ({rate:,.0f} events/s)")
    if not done.complete:
        raise Refusal(f"interrupted: `headrace record {out} --resume` goes on where it stopped")
