"""Publish the contracts: topics in Kafka, subjects in the registry with their level enforced. `python -m schemas.publish`, idempotent.

The level is set before the schema is registered: the registry enforces nothing on a subject until it has been told to.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from confluent_kafka import KafkaException
from confluent_kafka.admin import NewTopic

from infra.base import kafka, log
from infra.base.registry import RegistryClient, RegistryError, RegistryUnavailable
from infra.base.settings import settings
from schemas import evolve, lineage
from schemas.catalogue import Topic, catalogue


class IncompatibleContract(Exception):
    """The registry refused a version (409). The message names each field that breaks, and the jobs, tables and panels that use it."""

    def __init__(self, topic: str, message: str, violations: Sequence[evolve.Violation]) -> None:
        super().__init__(message)
        self.topic = topic
        self.violations = tuple(violations)


class WrongPartitions(Exception):
    """A topic exists with another number of partitions than declared: changing it would move keys, so it is never done in passing."""


def subject_of(topic: Topic) -> str:
    """The registry subject of a topic in this namespace."""
    return settings().topic(topic.name) + "-value"


def crowded(topics: Iterable[Topic]) -> list[str]:
    """Owners with more topics than one may have, in words."""
    most = settings().registry.topics_per_owner
    return [
        f"{owner} declares {count} topics and may have {most}: let kinds of one thing share a topic and tell them apart by a field, "
        "or raise HEADRACE_REGISTRY__TOPICS_PER_OWNER"
        for owner, count in sorted(Counter(topic.owner for topic in topics).items())
        if count > most
    ]


def publish(
    topics: Iterable[Topic],
    registry: RegistryClient | None = None,
    users: evolve.Users | None = None,
    tell: Callable[[Topic, int], None] = lambda topic, schema_id: None,
) -> dict[str, int]:
    """Create topics and their doors, register subjects; returns topic name → schema id, and `tell`s each as soon as it has one.

    Raises IncompatibleContract when an evolution is refused (nothing after it is registered; `users` lets the message say whom it
    breaks), WrongPartitions, RegistryError, RegistryUnavailable, KafkaException.
    """
    wanted = list(topics)
    create(wanted)
    client = registry or RegistryClient()
    ids = {}
    for topic in wanted:
        ids[topic.name] = register(topic, client, users)
        tell(topic, ids[topic.name])
    return ids


def create(topics: Sequence[Topic]) -> None:
    """Create topics and their doors, or bring their configuration up to date. Raises WrongPartitions, KafkaException."""
    replay = bool(settings().namespace)
    wanted = [
        NewTopic(settings().topic(name), t.partitions, settings().kafka.replication, config=config)
        for t in topics
        for name, config in [(t.name, t.config(replay)), (t.door_name, t.door_config(replay))][: 2 if t.door else 1]
    ]
    created = set(kafka.ensure_topics(wanted))
    existing = kafka.admin().list_topics(timeout=30).topics
    for topic in wanted:
        if topic.topic not in created and (found := len(existing[topic.topic].partitions)) != topic.num_partitions:
            raise WrongPartitions(
                f"topic {topic.topic} has {found} partitions and declares {topic.num_partitions}: a change would move keys to other "
                "partitions; declare what there is, or a new topic"
            )


def register(topic: Topic, registry: RegistryClient, users: evolve.Users | None = None) -> int:
    """Enforce a topic's level, register its contract, return the id. Raises IncompatibleContract, RegistryError, RegistryUnavailable."""
    subject = subject_of(topic)
    registry.set_level(subject, topic.compatibility)
    try:
        return registry.register(subject, topic.event.schema)
    except RegistryError as error:
        if error.code != 409:
            raise
        history = [(f"version {number}", schema) for number, schema in registry.history(subject)]
        broken = evolve.violations(topic.event.schema, history, topic.compatibility)
        words = evolve.explain_break(topic.name, topic.compatibility, broken, users) if broken else str(error)
        raise IncompatibleContract(topic.name, f"the registry refused {subject} (409): {words}", broken) from error


def main() -> None:
    """Publish the whole catalogue and print what was published; a refusal is words and exit code 1."""
    log.configure("publish")
    try:
        publish(catalogue().topics.values(), users=lineage.installed().words, tell=_tell)
    except (IncompatibleContract, WrongPartitions, RegistryError, RegistryUnavailable, KafkaException) as error:
        sys.exit(f"publish: {error}")


def _tell(topic: Topic, schema_id: int) -> None:
    sys.stdout.write(f"{settings().topic(topic.name):40} schema {schema_id}\n")


if __name__ == "__main__":
    main()
