"""Kafka and a registry for the tests of the guard."""

from tests.broker import cluster, registry

__all__ = ["cluster", "registry"]
