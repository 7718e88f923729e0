"""`python -m producers.simulator`: see `--help`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from infra.base import log
from infra.base.clock import WallClock
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from producers.emit import Emitter
from producers.simulator.ahead import Killed, ahead, for_bulk
from producers.simulator.experiments import Dealer
from producers.simulator.outputs import PRODUCER_ID, TOPIC, ArrivalClock, Output, ToKafka, ToLines, ToLog, Truths, beside
from producers.simulator.schedule import Plan, Schedule, Second
from producers.simulator.world import BadWorld, World, load
from producers.standing import standing
from schemas.allocation.definition import AnyDefinition, DefinitionError, read_folder
from schemas.allocation.definition import load as read_json
from schemas.catalogue import catalogue
from schemas.publish import publish

CLOSING_MS = 86_400_000
"""How far ahead of everything the closing marker is: the last windows and sessions of a finite log close."""
MANY_SESSIONS, MANY_EVENTS = 4_000, 400_000
"""From so many on, a second process is worth the second that it takes to start."""
BACKBONE = "backbone"
LIVE_STEP_MS = 50
"""In step with the clock, reports go out together that are so close."""


def main(
    events: Annotated[int | None, typer.Option(min=1, help="Reports to write at least, duplicates included.")] = None,
    sessions: Annotated[int | None, typer.Option(min=1, help="Sessions to write, instead of --events.")] = None,
    seed: Annotated[int, typer.Option(help="Everything drawn follows from it.")] = 1,
    world: Annotated[Path | None, typer.Option(help="JSON file of the world; default: the one that is installed.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Namespace to write to; default: HEADRACE_NAMESPACE.")] = None,
    to: Annotated[Path | None, typer.Option(help="Write a recorded log (a directory), or *.jsonl, instead of to Kafka.")] = None,
    truth: Annotated[Path | None, typer.Option(help="Write the true figures of each session here: *.parquet, or JSON lines.")] = None,
    start: Annotated[int | None, typer.Option(help="When the first session starts, ms since 1970; default: 2026-01-01.")] = None,
    per_second: Annotated[int, typer.Option(min=1, help="Reports per second of simulated time.")] = 2_000,
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="Share of reports that come twice.")] = 0.05,
    out_of_order: Annotated[float, typer.Option(min=0, max=1, help="Share that comes up to 4 s later than it should.")] = 0.10,
    late: Annotated[float, typer.Option(min=0, max=1, help="Share that comes after the watermark.")] = 0.0,
    live: Annotated[bool, typer.Option("--live", help="In step with the clock, from now on; no closing marker.")] = False,
    experiments: Annotated[
        str, typer.Option(help=f"Members are in the experiments of this folder of definitions, or of the `{BACKBONE}`.")
    ] = "",
    interactions: Annotated[bool, typer.Option("--interactions", help="Tell what members do beside playing, too.")] = False,
    producer_id: Annotated[str, typer.Option(help="Name of this producer; processes that run at once need different ones.")] = PRODUCER_ID,
) -> None:
    """Write simulated playback reports to the topics of a namespace, as fast as it goes, or into a file."""
    log.configure("simulator")
    if (events is None) == (sessions is None):
        raise SystemExit("say how much: either --events or --sessions")
    if namespace is not None:
        os.environ["HEADRACE_NAMESPACE"] = namespace
        settings.cache_clear()
    if to is None and not settings().namespace:
        raise SystemExit("simulated sessions do not belong among real ones: name a --namespace, or write to a file by --to")
    begin_ms = WallClock().now_ms() if live else 1_767_225_600_000 if start is None else start
    plan = Plan(begin_ms, sessions, events, per_second, duplicates, out_of_order, late)
    started = time.monotonic()
    try:
        known = load(world)
        definitions = _defined(experiments) if experiments else None
        if known.effects and definitions is None:
            raise BadWorld(f"{world}: its effects are of experiments: name a folder that defines them by --experiments, or `{BACKBONE}`")
        if definitions is not None:
            Dealer(known, definitions)  # refused here, in words, rather than by the process that draws
        seconds = _drawn(known, seed, plan, truths=truth is not None, live=live, definitions=definitions, does=interactions)
    except (BadWorld, DefinitionError, OSError) as error:
        raise SystemExit(str(error)) from None
    with ExitStack() as stack:
        output = stack.enter_context(_output(known, to, begin_ms, producer_id, beside(definitions is not None, interactions)))
        truths = stack.enter_context(Truths(truth, known, begin_ms)) if truth else None
        try:
            last = _pump(seconds, output, truths, live, plan)
        except Killed as killed:
            raise SystemExit(str(killed)) from None
    took_s = time.monotonic() - started
    rate = last.scheduled / took_s
    sys.stdout.write(f"{last.scheduled} reports of {last.begun} sessions in {took_s:.1f} s, {rate:,.0f} a second\n")


def _defined(where: str) -> Sequence[AnyDefinition]:
    """Definitions in a folder, or those that stand on the backbone. Raises DefinitionError and what reading a topic raises."""
    if where != BACKBONE:
        return read_folder(Path(where))
    told = standing(catalogue().topic("experiments.definition"), RegistryClient().schema)
    return [read_json(one["document"], item) for item, one in sorted(told.items()) if one["document"]]


def _drawn(
    world: World, seed: int, plan: Plan, truths: bool, live: bool, definitions: Sequence[AnyDefinition] | None = None, does: bool = False
) -> Iterator[Second]:
    """The seconds of a schedule, by a second process where they are many and wanted at once."""
    many = (plan.sessions or 0) >= MANY_SESSIONS or (plan.events or 0) >= MANY_EVENTS
    of = (world, seed, plan, truths, definitions, does)
    return ahead(*of) if many and not live else iter(Schedule(*of))


def _output(world: World, to: Path | None, begin_ms: int, producer_id: str, more: Sequence[str]) -> Output:
    if to is not None:
        return ToLines(world, to, more) if to.suffix == ".jsonl" else ToLog(world, to, settings().namespace, more)
    publish([catalogue().topic(name) for name in (TOPIC, *more)])
    clock = ArrivalClock(begin_ms)
    return ToKafka(world, Emitter(producer_id, clock=clock), clock, more)


def _pump(seconds: Iterator[Second], output: Output, truths: Truths | None, live: bool, plan: Plan) -> Second:
    """Move everything to the output, with a marker at each second's end and, unless live, a closing one. Returns the last second."""
    console = Console(stderr=True)
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=plan.events or plan.sessions)
        for second in seconds:
            if live:
                _in_step(second, output)
            else:
                output.put(second.arrivals, second.sessions)
                output.expose(second.exposures)
            output.mark(second.end_ms, second.end_ms)
            if truths is not None and second.truths is not None:
                truths.write(second.truths)
            if truths is not None and second.effects is not None:
                truths.learn(second.effects)
            bar.update(task, completed=second.scheduled if plan.events else second.begun)
        if not live:
            output.mark(second.end_ms, second.end_ms + CLOSING_MS)
    return second


def _in_step(second: Second, output: Output) -> None:
    """Write what arrives in a second when it is due, by the wall clock."""
    clock = WallClock()
    for from_ms in range(second.end_ms - 1000, second.end_ms, LIVE_STEP_MS):
        low, high = np.searchsorted(second.arrivals["at_ms"], (from_ms, from_ms + LIVE_STEP_MS))
        clock.sleep(max(0.0, (from_ms + LIVE_STEP_MS - clock.now_ms()) / 1000))
        output.put(second.arrivals[low:high], second.sessions[low:high])
        output.expose([one for one in second.exposures if from_ms <= one.at_ms < from_ms + LIVE_STEP_MS])


if __name__ == "__main__":
    for_bulk()
    typer.run(main)
