"""`python -m edge.steering`: the steering service as a process."""

from __future__ import annotations

import argparse
import sys

from edge.outbox import Outbox
from edge.serve import serve
from edge.steering.service import Service, app
from edge.steering.steer import TOPIC, Steering
from edge.steering.tables import Tables
from infra.base import log
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from producers.emit import Emitter

SWITCH_S = 0.0005
"""How long a thread that folds a topic may keep the interpreter from an answer that waits for it; Python's default is ten times that."""


def main() -> None:
    """Serve until asked to end."""
    edge = settings().edge
    parser = argparse.ArgumentParser(prog="python -m edge.steering", description="Say which cache servers a play goes to.")
    parser.add_argument("--url", default=edge.steering_url, help="address to serve at")
    arguments = parser.parse_args()
    log.configure("steering")
    sys.setswitchinterval(SWITCH_S)
    tables = Tables()
    with tables.followed(RegistryClient().schema), Emitter("steering") as emitter:
        steering = Steering.of(edge, tables, Outbox(emitter, TOPIC, marks=True), emitter.clock.now_ms)
        serve(app(Service(steering)), arguments.url)


if __name__ == "__main__":
    main()
