"""Features and events for tests, made from a seed."""

from __future__ import annotations

from typing import Any

import yaml

from infra.bench.feature_worlds import DEFAULTS, FIELDS, FROM_MS, HALF_LIVES, TOPIC, events, every, log, queries
from schemas.recommendations.definition import Feature, read

__all__ = ["FIELDS", "FROM_MS", "HALF_LIVES", "TOPIC", "events", "every", "feature", "log", "queries", "text"]


def text(name: str, /, **said: Any) -> str:
    """A feature's document."""
    aggregation = said.get("aggregation", "count")
    plain = {"owner": "recommendations", "doc": "Test.", "sources": [TOPIC], "key": ["member"], "windows": ["1d"]}
    told = {"name": name, **plain, "aggregation": aggregation, "default": DEFAULTS.get(aggregation, 0), **said}
    return yaml.safe_dump(told)


def feature(name: str, /, **said: Any) -> Feature:
    """A feature of a member's interactions."""
    return read(text(name, **said))
