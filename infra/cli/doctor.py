"""`headrace doctor`."""

from __future__ import annotations

import typer


def doctor() -> None:
    """Say what is missing on this machine, what is in the way, and the command that mends it."""
    from infra.cli.words import out
    from infra.stack.doctor import examine

    healthy = True
    for finding in examine():
        healthy &= finding.ok
        out.print(f"{'[green]ok   [/green]' if finding.ok else '[red]wrong[/red]'}  {finding.what:16} {finding.says}")
        if finding.mend:
            out.print(f"       {'':16} do: [bold]{finding.mend}[/bold]")
    if not healthy:
        raise typer.Exit(1)
