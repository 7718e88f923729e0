"""`headrace scenario`: what may happen to a delivery network, on the running stack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from infra.chaos.outcome import Outcome
    from infra.chaos.scenarios import Result

app = typer.Typer(help="Play a scenario on the running stack, and see what it does to viewers.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """List the scenarios."""
    from infra.chaos.scenarios import SCENARIOS
    from infra.cli.words import out

    for scenario in SCENARIOS.values():
        out.print(f"[bold]{scenario.name:18}[/bold] {scenario.what.replace('{victims}', ' and '.join(scenario.victims))}")


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="One of `headrace scenario list`.")],
    oca: Annotated[list[str] | None, typer.Option(help="The cache server that it happens to; may be repeated.")] = None,
    seconds: Annotated[float, typer.Option(help="How long it lasts; 0: as long as is usual for it.")] = 0.0,
) -> None:
    """Let something happen to the stack that players watch on, undo it, and print what became of viewers."""
    from dataclasses import replace

    from clickhouse_connect.driver.exceptions import ClickHouseError
    from httpx2 import HTTPError

    from infra.base.settings import settings
    from infra.chaos.fleet import CannotDo, Fleet
    from infra.chaos.scenarios import SCENARIOS
    from infra.chaos.scenarios import run as play
    from infra.cli.words import Refusal, end_on_signals, err, out
    from producers.emit import Emitter

    if name not in SCENARIOS:
        raise Refusal(f"there is no scenario {name}; there are {', '.join(SCENARIOS)}")
    if not settings().edge.supervisor_url:
        raise Refusal(f"no stack runs in {settings().state_dir}: start one on which somebody watches, `headrace up --players 24`")
    scenario = SCENARIOS[name]
    if seconds:
        scenario = replace(scenario, for_s=seconds)
    end_on_signals()
    try:
        with Emitter("scenario") as emitter:
            result = play(scenario, Fleet(emitter), tuple(oca or ()), lambda words: err.print(f"[dim]{words}[/dim]"))
    except (CannotDo, TimeoutError, HTTPError, ClickHouseError) as error:
        raise Refusal(f"{name}: {error}") from None
    except KeyboardInterrupt:
        raise Refusal("interrupted; what had been done was undone") from None
    out.print(_table(result))
    if scenario.leave_alone_s is not None:
        at_most_s, after_s = scenario.leave_alone_s, result.left_alone_after_s
        verdict = "in time" if after_s <= at_most_s else "[bold]too late[/bold]"
        out.print(f"the last new session was sent there {after_s:.1f} s after it began ({at_most_s:g} s at most): {verdict}")


def _table(result: Result) -> object:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    table.add_column("", no_wrap=True)
    for name in ("before", "meanwhile"):
        table.add_column(name, justify="right")
    for (words, before), (_, meanwhile) in zip(_rows(result.calm), _rows(result.during), strict=True):
        table.add_row(words, before, meanwhile)
    return table


def _rows(span: Outcome) -> Iterator[tuple[str, str]]:
    """What a span came to, a line each."""
    total = sum(span.served_bytes.values())
    yield "decisions where a play goes", str(span.decisions)
    yield "  of them to the servers in trouble", str(span.to_victims)
    yield "  by server", _counts(span.sent_to)
    yield "sessions that were heard of", str(span.sessions)
    yield "  started", str(span.started)
    yield "  startup time, median and 95th percentile", f"{_ms(span.startup_p50_ms)}, {_ms(span.startup_p95_ms)}"
    yield "  failed", str(span.failed)
    yield "rebufferings of sessions that played", f"{span.rebuffers} in {span.rebuffered_sessions} sessions"
    yield "  the longest", f"{span.longest_rebuffer_ms / 1000:.1f} s"
    yield "requests of players", str(span.requests)
    yield "  failed, or given up", str(span.failed_requests)
    yield "switches in the middle of a session", _counts(span.switches)
    yield "misses by cause", _counts(span.misses)
    yield "bytes to players by tier", _counts({tier: f"{size / max(1, total):.0%}" for tier, size in span.served_bytes.items()})


def _counts(counts: object) -> str:
    return ", ".join(f"{name or 'nobody'} {count}" for name, count in dict(counts).items()) or "none"  # type: ignore[call-overload]


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"
