"""`python -m producers.topology [FILE]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.base import log
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from producers.emit import Emitter
from producers.topology.publish import publish
from producers.topology.topology import BadTopology, local_network, read


def main(
    file: Annotated[Path | None, typer.Argument(help="The network, in YAML; the local stack's own if none is named.")] = None,
) -> None:
    """Tell the backbone which cache servers there are and whom they serve; what is no longer in the file is retired and withdrawn."""
    log.configure("topology")
    try:
        topology = local_network(settings().edge.oca_urls) if file is None else read(file.read_text(), settings().edge.oca_urls)
    except (OSError, UnicodeDecodeError, BadTopology) as error:
        raise SystemExit(f"{file or 'laptop.yaml'} describes no network:\n{error}") from None
    with Emitter("topology") as emitter:
        told = publish(topology, emitter, RegistryClient().schema)
    counts = ", ".join(f"{count} {what}" for what, count in told.items() if count) or "nothing new"
    sys.stdout.write(f"{len(topology.ocas)} servers, {len(topology.routes)} routes: {counts}\n")


if __name__ == "__main__":
    typer.run(main)
