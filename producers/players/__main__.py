"""`python -m producers.players --count 24 [--seed N] [--seconds S] [--inject] [--abr NAME]`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.base import log
from infra.base.settings import settings
from producers.encoders.titles import TITLES
from producers.players.adaptation import ALGORITHMS, named
from producers.players.clock import LoopClock
from producers.players.crowd import Crowd, Summary
from producers.players.network import BadTrace
from producers.players.transport import HttpTransport

DEMO_TITLES = ",".join(title.cid for title in TITLES)


def main(
    count: Annotated[int, typer.Option(min=1, help="How many members watch at once.")] = 24,
    members: Annotated[int, typer.Option(help="How many take turns at it; default: nobody but them.")] = 0,
    seed: Annotated[int, typer.Option(help="Draws devices, networks and what members do.")] = 1,
    seconds: Annotated[float | None, typer.Option(help="Stop after this long; default: when told to.")] = None,
    inject: Annotated[bool, typer.Option("--inject", help="Make one failed start and one failover happen soon.")] = False,
    titles: Annotated[str, typer.Option(help="Titles by cid, most watched first, separated by commas.")] = DEMO_TITLES,
    trace: Annotated[list[Path] | None, typer.Option(help="Recorded bandwidth, `time_s Mbps` per line, instead of ISP models.")] = None,
    abr: Annotated[str | None, typer.Option(help=f"What they adapt by: {', '.join(ALGORITHMS)}; default: as the gateway says.")] = None,
) -> None:
    """Watch through the gateway of the running stack until told to stop."""
    log.configure("players")
    try:
        if abr is not None:
            named(abr)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    try:
        summary = asyncio.run(_run(count, members, seed, seconds, inject, titles.split(","), trace or [], abr))
    except (BadTrace, OSError) as error:
        raise SystemExit(f"no such network: {error}") from None
    sys.stdout.write(f"{summary}\n")


async def _run(
    count: int, members: int, seed: int, seconds: float | None, inject: bool, titles: list[str], traces: list[Path], abr: str | None
) -> Summary:
    edge = settings().edge
    transport = HttpTransport(connections=8 * count)
    try:
        crowd = Crowd(
            count, seed, edge.gateway_url, titles, transport, LoopClock(), edge.oca_urls, inject, traces, abr, members,
            edge.home_url, f"{edge.collector_url}/interactions",
        )  # fmt: skip
        watching = asyncio.create_task(crowd.run(seconds))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, watching.cancel)
        return await watching
    finally:
        await transport.close()


if __name__ == "__main__":
    typer.run(main)
