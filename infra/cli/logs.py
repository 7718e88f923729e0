"""`headrace logs`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer


def logs(
    service: Annotated[str, typer.Argument(help="A service's name; without it, the names are listed.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing what is written, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines to print.")] = 50,
) -> None:
    """Print a service's log."""
    from infra.base.settings import settings
    from infra.cli.words import Refusal, out
    from infra.stack.supervisor import tail

    folder = settings().state_dir / "logs"
    names = sorted(path.stem for path in folder.glob("*.log"))
    if service not in names:
        if service:
            raise Refusal(f"{folder} has no log of {service!r}; there are: {', '.join(names) or 'none yet'}")
        out.print("\n".join(names))
        return
    path = folder / f"{service}.log"
    print(tail(path, lines))
    if follow:
        try:
            _follow(path)
        except KeyboardInterrupt:
            return


def _follow(path: Path) -> None:
    """Print what is appended; a log that was cut is read from its new beginning."""
    at = path.stat().st_size
    while True:
        if path.stat().st_size < at:
            at = 0
        with path.open("rb") as file:
            file.seek(at)
            sys.stdout.write(file.read().decode(errors="replace"))
            sys.stdout.flush()
            at = file.tell()
        time.sleep(0.2)
