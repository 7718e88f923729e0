"""A topology onto the backbone: what differs from what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from producers.emit import Emitter
from producers.standing import standing, tell
from producers.topology.topology import Topology, changes
from schemas.catalogue import catalogue


def publish(topology: Topology, emitter: Emitter, schema_of: Callable[[int], dict[str, Any]]) -> Counter[str]:
    """Make `delivery.oca` and `delivery.route` say what `topology` says; returns how many servers and routes were told, retired, withdrawn.

    Blocks until Kafka has acknowledged everything. Raises like `standing` and `tell`.
    """
    ocas, routes = (standing(catalogue().topic(name), schema_of) for name in ("delivery.oca", "delivery.route"))
    told: Counter[str] = Counter()
    news = [*changes(topology, ocas, routes)]
    tell(emitter, news)
    for topic, event in news:
        if topic == "delivery.oca":
            told["servers retired" if event["retired"] else "servers told"] += 1
        else:
            told["routes withdrawn" if event["withdrawn"] else "routes told"] += 1
    return told
