"""`python -m producers.encoders [--emit]`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from infra.base import log
from infra.base.clock import WallClock
from infra.base.registry import RegistryClient, RegistryError, RegistryUnavailable
from infra.base.settings import settings
from producers.emit import Emitter
from producers.encoders import cache, encode, events, tools
from schemas.catalogue import catalogue


def main(
    emit: Annotated[bool, typer.Option("--emit", help="Then tell the backbone what can be played; waits for a stack.")] = False,
    wait_s: Annotated[float, typer.Option(help="How long --emit waits for the registry and its contracts.")] = 180.0,
) -> None:
    """Encode the demo's titles into the cache, where they are not there already."""
    log.configure("encoder")
    try:
        titles = encode.prepare()
    except tools.EncodeFailed as error:
        raise SystemExit(str(error)) from None
    for encoded in titles:
        rungs = ", ".join(f"{r['rung']} {r['br_kbps']} kbit/s" for r in encoded.rungs)
        told = f"{encoded.cid:12} v{encoded.version} {encoded.duration_ms / 1000:5.1f} s {encoded.bytes / 1e6:6.1f} MB"
        sys.stdout.write(f"{told}  {rungs}\n")
    sys.stdout.write(f"titles lie in {cache.root()}\n")
    if emit:
        await_contracts(wait_s)
        with Emitter("encoder") as emitter:
            sent = events.emit(titles, emitter)
        sys.stdout.write(f"{sent} events of {len(titles)} titles sent\n")


def await_contracts(within_s: float) -> None:
    """Wait until the registry knows encoding.published, the last contract that is needed here. Raises SystemExit when it never does."""
    event = catalogue().topic("encoding.published").event
    clock = WallClock()
    deadline_ms = clock.now_ms() + within_s * 1000
    told = False
    while True:
        try:
            RegistryClient().lookup(settings().topic("encoding.published") + "-value", event.schema)
            return
        except (RegistryError, RegistryUnavailable) as error:
            if clock.now_ms() > deadline_ms:
                raise SystemExit(f"no stack within {within_s:g} s: {error}") from None
            if not told:
                sys.stderr.write(f"waiting for the stack, {within_s:g} s at most: {error}\n")
                told = True
        clock.sleep(1.0)
        settings.cache_clear()  # the stack file, with the addresses, appears when the stack is up


if __name__ == "__main__":
    typer.run(main)
