"""`python -m sinks.loader [--recover TOPIC ...]`: load every landed topic of the namespace until told to stop."""

from __future__ import annotations

import argparse
import gc
import signal
import sys
import threading

from infra.base import log
from infra.base.settings import settings
from schemas.catalogue import ContractError, catalogue
from sinks.loader import status
from sinks.loader.shell import Shell


def main() -> None:
    """Load until SIGTERM or SIGINT, then finish what is under way."""
    parser = argparse.ArgumentParser(prog="python -m sinks.loader", description="Load topics into their landing tables, exactly once.")
    parser.add_argument(
        "--recover", action="append", default=[], metavar="TOPIC",
        help="this topic's group offsets were lost: read it again and insert only what is missing",
    )  # fmt: skip
    arguments = parser.parse_args()
    log.configure("loader")
    try:
        recovering = frozenset(catalogue().topic(name).name for name in arguments.recover)
    except ContractError as error:
        sys.exit(f"loader: {error}")
    shell = Shell(catalogue().landed(), recovering)
    try:
        server = status.serve(settings().loader.status_url, shell.report, shell.ticked_s_ago)
    except OSError as error:
        sys.exit(f"loader: {settings().loader.status_url} cannot be bound: {error}")
    gc.freeze()
    gc.set_threshold(1_000_000)  # messages come and go by the ten thousand, in no cycles: looking for some costs half of reading them
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    shell.run(stop)
    server.shutdown()


if __name__ == "__main__":
    main()
