"""Features and events for tests, made from a seed."""

from __future__ import annotations

from random import Random
from typing import Any

import yaml

from schemas.recommendations.definition import Feature, read
from tests.recommendations.brute import DAY_MS, LENGTHS_MS, Log

TOPIC = "recommendations.interaction"
FROM_MS = 1_772_323_200_000
"""2026-03-01."""
FIELDS = {
    "count": {}, "sum": {"field": "watched_ms"}, "mean": {"field": "watched_ms"}, "distinct": {"field": "cid"}, "last": {"field": "cid"},
    "last_number": {"aggregation": "last", "field": "watched_ms"}, "top_k": {"field": "cid", "k": 5}, "decayed": {"field": "watched_ms"},
}  # fmt: skip
DEFAULTS: dict[str, Any] = {"mean": None, "last": None, "top_k": [], "decayed": None}
HALF_LIVES = {"1h": "1h", "1d": "7h", "7d": "37h", "30d": "100h"}


def text(name: str, /, **said: Any) -> str:
    """A feature's document."""
    aggregation = said.get("aggregation", "count")
    plain = {"owner": "recommendations", "doc": "Test.", "sources": [TOPIC], "key": ["member"], "windows": ["1d"]}
    told = {"name": name, **plain, "aggregation": aggregation, "default": DEFAULTS.get(aggregation, 0), **said}
    return yaml.safe_dump(told)


def feature(name: str, /, **said: Any) -> Feature:
    """A feature of a member's interactions."""
    return read(text(name, **said))


def every(window: str, **said: Any) -> list[Feature]:
    """One feature of each aggregation over one window."""
    found = []
    for name, told in FIELDS.items():
        more: dict[str, Any] = {"aggregation": name, **told, "windows": [window], **said}
        if name == "decayed":
            more["half_life"] = HALF_LIVES[window]
        found.append(feature(f"a_{name}", **more))
    return found


def events(seed: int, many: int, window: str, members: int = 1) -> list[tuple[dict[str, Any], int]]:
    """(event, when it arrived), by arrival, over three windows: many close to a hop's edge, some late, by up to two windows, some ahead."""
    random, length = Random(seed), LENGTHS_MS[window]
    made = []
    for n in range(many):
        at = FROM_MS + random.randrange(3 * length)
        if random.random() < 0.2:
            at = at // 300_000 * 300_000 + random.choice([-1, 0, 1])
        late = random.choice([0, random.randrange(-1_000, 1), *(random.randrange(most) for most in (2_000, 60_000, 2 * length))])
        more = {"watched_ms": random.randrange(7_200_000), "cid": f"t-{int(40 * random.random() ** 2)}", "region": f"r-{n % 3}"}
        told = {"member_id": f"m-{random.randrange(members)}", "genres": random.sample(["Drama", "Comedy", "Crime"], n % 3)}
        event = {"event_id": f"e-{n}", "event_time": at, "kind": random.choice(["play", "completion", "skip"]), **told, **more}
        made.append((event, max(at + late, at + random.choice([-500, 0]))))
    return sorted(made, key=lambda one: one[1])


def log(told: list[tuple[dict[str, Any], int]]) -> Log:
    """The same for what is computed the plain way."""
    at, arrived = [event["event_time"] for event, _ in told], [arrived for _, arrived in told]
    return Log(at, arrived, [event["watched_ms"] for event, _ in told], [event["cid"] for event, _ in told])


def queries(seed: int, many: int, window: str, told: list[tuple[dict[str, Any], int]]) -> list[int]:
    """Times to ask at, in order: anywhere, at edges of hops, and just as an event comes, leaves or is about to."""
    random, length = Random(seed), LENGTHS_MS[window]
    asked = []
    for _ in range(many):
        event, arrived = random.choice(told)
        anywhere = FROM_MS + random.randrange(4 * length)
        edge = (anywhere // 300_000 if random.random() < 0.5 else anywhere // DAY_MS * 288) * 300_000 + random.choice([-1, 0, 1])
        hop = 300_000 if window == "1h" else 3_600_000 if window == "1d" else DAY_MS
        leaving = event["event_time"] // hop * hop + length + hop + random.choice([-1, 0, 1])
        asked.append(random.choice([anywhere, edge, arrived + random.choice([0, 1]), event["event_time"], leaving]))
    return sorted(asked)
