"""What do features cost: looking up fifty for a member and a thousand titles, and keeping fifty in place of five?

Fifty features of one topic, by four keys, of every aggregation whose rows are numbers, with windows of all lengths. Processor time of
this one process, since a lookup waits for nothing: p99 is over lookups of different members and titles in a table that events have filled.
`fifty_against_five` is of the engine in Python alone, without what reading an event costs; state is what rows take when they are packed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from infra.bench.harness import Figure, Options, say
from schemas.recommendations.definition import DAY_MS, Feature
from streams.recommendations.engine import Engine
from streams.recommendations.plan import plan
from streams.recommendations.table import Table

FIGURES = {
    "lookup_p99_ms": Figure("ms", 10, 25, higher=False),
    "lookup_p50_ms": Figure("ms"),
    "lookup_of_200_values_p99_ms": Figure("ms"),
    "fold_us": Figure("µs"),
    "five_events_per_s": Figure("events/s"),
    "fifty_events_per_s": Figure("events/s"),
    "fifty_against_five": Figure("of five"),
    "state_bytes_per_member": Figure("B"),
    "state_growth": Figure("× with ten times the events"),
}
TOPIC = "recommendations.interaction"
NOW_MS = 1_772_323_200_000
MEMBERS, TITLES, ROUNDS, EVENTS = 200, 1_000, 300, 40_000
KINDS = ("click", "play", "completion", "skip", "rewatch", "rating", "list_add", "list_remove")
GENRES = ("Drama", "Comedy", "Crime", "War", "Family")
WINDOWS = ("1h", "1d", "7d", "30d")
KEYS = (["member"], ["title"], ["title", "region"], ["member", "genre"])


def run(options: Options) -> list[dict[str, float]]:
    """One mapping per run; what is random comes from the seed."""
    return [_once(random.Random(options.seed + index), options.events or EVENTS) for index in range(options.runs)]


def made(windows: int) -> list[Feature]:
    """Fifty features with so many windows each; every eleventh of them are five of different aggregations, keys and kinds of events."""
    found = []
    for n in range(50):
        aggregation = ("count", "sum", "mean", "last", "decayed")[n % 5]
        more: dict[str, Any] = {} if aggregation == "count" else {"field": "watched_ms"}
        if aggregation == "decayed":
            more["half_life"] = "1d"
        some = [WINDOWS[2 + n // 5 % 2]] if aggregation == "decayed" else [WINDOWS[(n // 5 + step) % 4] for step in range(windows)]
        key = list(KEYS[n // 5 % 4])
        asked: dict[str, Any] = {"kind": KINDS[n // 5 % len(KINDS)]} | ({"region": {"present": True}} if "region" in key else {})
        told = {"name": f"f{n}", "owner": "bench", "doc": "Bench.", "sources": [TOPIC], "key": key, "default": 0, "filter": asked}
        found.append(Feature.model_validate({**told, "aggregation": aggregation, "windows": some, **more}))
    return found


def events(dice: random.Random, many: int) -> Iterator[tuple[dict[str, Any], int]]:
    """(event, when it arrived), over thirty days."""
    for n in range(many):
        at = NOW_MS - (many - n) * 30 * DAY_MS // many
        who = {"member_id": f"m-{dice.randrange(MEMBERS)}", "cid": f"t-{dice.randrange(TITLES)}", "region": f"r-{dice.randrange(4)}"}
        what = {"kind": dice.choice(KINDS), "genres": dice.sample(GENRES, 2), "watched_ms": dice.randrange(7_200_000)}
        yield {"event_id": f"e-{n}", "event_time": at, **who, **what}, at


def _once(dice: random.Random, many: int) -> dict[str, float]:
    told = list(events(dice, many))
    engine, fifty_s = _filled(made(1), told)
    _, five_s = _filled(made(1)[::11], told)
    fuller, _ = _filled(made(1), list(events(dice, 10 * many)))
    table, fold_s = _table(engine)
    wide, _ = _table(_filled(made(4), told)[0])
    p50, p99 = _lookups(table, dice)
    members = set(engine.rows["member"])
    sizes = [sum(len(part) for key in members for part in one.packed("member", key)) / len(members) for one in (engine, fuller)]
    say(f"a lookup {p50:.1f} ms, p99 {p99:.1f} ms; {many / fifty_s:,.0f} events/s with fifty features, {many / five_s:,.0f} with five")
    return {
        "lookup_p99_ms": p99,
        "lookup_p50_ms": p50,
        "lookup_of_200_values_p99_ms": _lookups(wide, dice)[1],
        "fold_us": 1e6 * fold_s / len(table),
        "five_events_per_s": many / five_s,
        "fifty_events_per_s": many / fifty_s,
        "fifty_against_five": five_s / fifty_s,
        "state_bytes_per_member": sizes[0],
        "state_growth": sizes[1] / sizes[0],
    }


def _filled(features: list[Feature], told: list[tuple[dict[str, Any], int]]) -> tuple[Engine, float]:
    engine = Engine(plan(features))
    began = time.process_time()
    for event, arrived_ms in told:
        engine.take(TOPIC, event, arrived_ms)
    return engine, time.process_time() - began


def _table(engine: Engine) -> tuple[Table, float]:
    rows = [(group, key, engine.plan.layouts[group].id, *row.pack()) for group, kept in engine.rows.items() for key, row in kept.items()]
    table = Table(engine.plan)
    began = time.process_time()
    for row in rows:
        table.fold(*row)
    return table, time.process_time() - began


def _lookups(table: Table, dice: random.Random) -> tuple[float, float]:
    """p50 and p99 of a lookup of all values for a member and a thousand titles, in ms."""
    names, titles, took = list(table.plan.values), [f"t-{n}" for n in range(TITLES)], []
    for n in range(ROUNDS):
        dice.shuffle(titles)
        about = {"member": f"m-{dice.randrange(MEMBERS)}", "title": titles, "region": f"r-{n % 4}", "genre": GENRES}
        began = time.process_time()
        table.lookup(names, about, NOW_MS + n)
        took.append(1e3 * (time.process_time() - began))
    return float(np.quantile(took, 0.5)), float(np.quantile(took, 0.99))
