"""Kafka and a registry for the tests of emit."""

from tests.broker import cluster, registry

__all__ = ["cluster", "registry"]
