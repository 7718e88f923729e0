"""`headrace fleet`: the cache servers as a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streams.delivery.rollout import Result

app = typer.Typer(help="Look after the fleet of cache servers.", no_args_is_help=True)
TOPIC = "delivery.oca_update"


@app.callback()
def fleet() -> None:
    """Keep `update` a command of its own while there is no other."""


@app.command()
def update(
    oca: Annotated[list[str] | None, typer.Option(help="Only this cache server; may be repeated.")] = None,
    to: Annotated[str, typer.Option(help="The version that they are to come back with; empty: the one installed here.")] = "",
    again: Annotated[bool, typer.Option(help="Restart those that have this version, too.")] = False,
    drain_s: Annotated[float, typer.Option(help="Wait so long for what a server has in flight.")] = 300.0,
    back_s: Annotated[float, typer.Option(help="Wait so long for a server to come back, and then for it to be UP.")] = 120.0,
    room_s: Annotated[float, typer.Option(help="Wait so long for room to drain the next one.")] = 300.0,
) -> None:
    """Let cache servers take up new software, one after the other, without a viewer noticing; docs/delivery.md says how."""
    from importlib.metadata import version

    from confluent_kafka import KafkaException
    from httpx2 import HTTPError

    from infra.base.clock import WallClock
    from infra.base.registry import RegistryError, RegistryUnavailable
    from infra.cli.words import Refusal, end_on_signals, err, out
    from infra.cluster.fleet import followed
    from producers.emit import Backpressure, Emitter, ProducerBroken
    from streams.delivery.rollout import Failed, Rollout

    wanted = to or version("headrace")
    end_on_signals()
    try:
        with Emitter("fleet", background=True) as emitter, followed() as servers:
            known = servers.servers()
            if strange := sorted(set(oca or ()) - known.keys()):
                raise Refusal(f"there is no cache server {strange[0]}; there are {', '.join(sorted(known)) or 'none'}")
            chosen = [known[oca_id] for oca_id in oca or known]
            left = [server.oca_id for server in chosen if again or server.software != wanted]
            if not left:
                out.print(f"all {len(chosen)} have {wanted}; `--again` restarts them all the same")
                return

            def step(oca_id: str, before: str, result: Result, detail: str) -> None:
                told = {"oca_id": oca_id, "from_version": before, "to_version": wanted, "result": result, "detail": detail}
                emitter.send(TOPIC, told)

            rollout = Rollout(servers, wanted, WallClock(), lambda words: err.print(words, markup=False), step, drain_s, back_s, room_s)
            rollout.run(left)
    except Failed as failure:
        raise Refusal(str(failure)) from None
    except (KafkaException, RegistryError, RegistryUnavailable, Backpressure, ProducerBroken, TimeoutError, HTTPError) as error:
        raise Refusal(f"the update stops: {error}") from None
    except KeyboardInterrupt:
        raise Refusal("interrupted: a server that drains goes on draining, ends and is started again; no other is touched") from None
    out.print(f"with {wanted} now: {', '.join(rollout.done)}")
