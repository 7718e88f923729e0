"""`headrace replay`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from sinks.replay import Replayed


def replay(
    log: Annotated[Path, typer.Argument(help="Directory that `headrace record` wrote.")],
    speed: Annotated[str, typer.Option(help="Log seconds per second, e.g. 1 or 60; `max` is as fast as it goes.")] = "max",
    namespace: Annotated[str, typer.Option(help="Namespace to replay into; it is made where it does not exist.")] = "replay",
    same_topics: Annotated[bool, typer.Option("--same-topics", help="Into the topics themselves, if they are empty.")] = False,
    topics: Annotated[str, typer.Option(help="Comma-separated topics; default: those that sources write.")] = "",
    from_: Annotated[str | None, typer.Option("--from", help="Leave out records stamped earlier, e.g. 2026-01-31T18:00.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Leave out records stamped then or later.")] = None,
    begin: Annotated[str | None, typer.Option(help="With a speed: when the first record is due; default: at once.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted replay.")] = False,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Run the jobs and a loader on the replayed topics, and compare the tables with the recorded world's."
        ),
    ] = False,
) -> None:
    """Put a recorded log back onto topics: same keys, partitions and timestamps."""
    from infra.base.registry import RegistryUnavailable
    from infra.cli.interrupt import until_interrupted
    from infra.cli.when import Progress, instant_ms
    from infra.cli.words import Refusal, out
    from sinks.archive import Damaged
    from sinks.replay import CannotReplay
    from sinks.replay import replay as put_back

    try:
        factor = None if speed == "max" else float(speed)
    except ValueError:
        raise typer.BadParameter(f"--speed {speed}: a number, or max") from None
    if begin and factor is None:
        raise typer.BadParameter("--begin goes with a --speed: as fast as it goes, nothing is ever due")
    if compare and (same_topics or resume or topics or from_ or to):
        raise typer.BadParameter(
            "--compare needs the whole log in a namespace of its own: leave out --same-topics, --resume and selections"
        )

    def carry_out(read: Callable[[], object] = lambda: None) -> Replayed:
        with until_interrupted() as interrupted:
            try:
                done = put_back(
                    log,
                    namespace=None if same_topics else namespace,
                    speed=factor,
                    topics=[t for t in topics.split(",") if t],
                    from_ms=instant_ms(from_),
                    to_ms=instant_ms(to),
                    begin_ms=instant_ms(begin),
                    resume=resume,
                    stop=interrupted,
                    progress=Progress("replayed"),
                    read=read,
                )
            except (CannotReplay, Damaged, FileNotFoundError, RegistryUnavailable) as error:
                raise Refusal(str(error)) from None
        where = f"namespace {done.namespace}" if done.namespace else "the topics themselves"
        before = f", after {done.skipped:,} that were there" if done.skipped else ""
        out.print(f"{done.records:,} records into {where} in {done.seconds:.1f} s ({done.events_per_s:,.0f} events/s){before}")
        if done.unknown_schema:
            out.print(
                f"{done.unknown_schema:,} of them carry a schema id that the recording's registry did not know; they went on unchanged"
            )
        if not done.complete:
            raise Refusal("interrupted: the same command with --resume goes on where it stopped")
        return done

    if compare:
        _compared(log, namespace, carry_out)
    else:
        carry_out()


def _compared(log: Path, namespace: str, carry_out: Callable[[Callable[[], object]], Replayed]) -> None:
    """Replay into a world that derives its own tables, and print whether these and what is read from them equal the recorded one's."""
    from clickhouse_connect.driver.exceptions import ClickHouseError
    from confluent_kafka import KafkaException

    from edge import read_outs
    from infra.base import warehouse
    from infra.base.settings import settings
    from infra.cli.words import Refusal, err, out
    from infra.stack import beside
    from sinks.archive import Damaged, RecordedLog
    from sinks.replay import CannotCompare, compare, recorded_until_ms

    try:
        recorded = RecordedLog.open(log)
        with beside.world(namespace, lambda words: err.print(f"starting {words}", style="dim")) as world:
            carry_out(world.wait_until_still)
            err.print("waiting until its tables stand still", style="dim")
            world.wait_until_still()
        databases = [settings().within(name).database for name in (recorded.namespace, namespace)]
        until_ms = recorded_until_ms(recorded)
        result = compare(*databases, until_ms=until_ms)
        experiments, apart = read_outs.compare(*map(warehouse.reader, databases)) if until_ms is None else (0, [])
    except (beside.WorldFailed, CannotCompare, ClickHouseError, KafkaException, Damaged, FileNotFoundError) as error:
        raise Refusal(str(error)) from None
    if not result.equal:
        raise Refusal(str(result))
    if not result.rows:
        raise Refusal("no session had ended when the recording did, so there is nothing to compare: record again in a minute")
    if apart:
        raise Refusal("\n".join([f"{result}; read-outs are not the same:", *apart]))
    told = f"{experiments:,} read-outs equal" if until_ms is None else "read-outs not compared: the recorded world has gone on since"
    out.print(f"{result}; {told}")
