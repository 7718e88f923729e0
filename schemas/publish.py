"""Publish the contracts: topics in Kafka, subjects in the registry with their level enforced. `python -m schemas.publish`, idempotent.

The level is set before the schema is registered: the registry enforces nothing on a subject until it has been told to.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from confluent_kafka.admin import NewTopic

from infra.base import kafka, log
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from schemas.catalogue import Topic, catalogue


def publish(topics: Iterable[Topic], registry: RegistryClient | None = None) -> dict[str, int]:
    """Create topics and their doors, register subjects; returns topic name → schema id.

    Raises RegistryError when an evolution is refused (nothing after it is registered), RegistryUnavailable, KafkaException.
    """
    wanted = list(topics)
    replay = bool(settings().namespace)
    kafka.ensure_topics(
        [
            NewTopic(settings().topic(name), t.partitions, settings().kafka.replication, config=t.config(replay))
            for t in wanted
            for name in ([t.name, t.door_name] if t.door else [t.name])
        ]
    )
    client = registry or RegistryClient()
    ids: dict[str, int] = {}
    for topic in wanted:
        subject = settings().topic(topic.name) + "-value"
        client.set_level(subject, topic.compatibility)
        ids[topic.name] = client.register(subject, topic.event.schema)
    return ids


def main() -> None:
    """Publish the whole catalogue and print what was published."""
    log.configure("publish")
    for name, schema_id in publish(catalogue().topics.values()).items():
        sys.stdout.write(f"{settings().topic(name):40} schema {schema_id}\n")


if __name__ == "__main__":
    main()
