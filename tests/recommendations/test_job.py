"""The job's operators against the engine, without Flink: the same bytes of each row, whatever features there are and whatever comes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from schemas.catalogue import catalogue
from schemas.recommendations import definition
from schemas.recommendations.definition import MOST_NUMBER, WINDOWS, Feature, features
from streams.recommendations import engine, kept, tiles
from streams.recommendations.engine import BETWEEN, Engine
from streams.recommendations.plan import Plan, plan
from tests import jvm
from tests.recommendations.made import FIELDS, FROM_MS, HALF_LIVES, feature

CASES, EVENTS = 16, 250
TOPICS = ("recommendations.interaction", "recommendations.impression", "recommendations.search", "recommendations.feature_served")
SMALL = {"MOST_A_DAY": 30, "MOST_KEYS": 3, "MOST_DISTINCT": 5, "MOST_IN_TILE": 4}
"""Bounds that a small case reaches."""
FILTERS: list[dict[str, Any]] = [
    {}, {"kind": ["play", "skip"]}, {"kind": "play", "region": {"present": True}}, {"watched_ms": {"at_least": 10, "below": 5_000_000}},
    {"genres": {"present": True}, "watched_ms": {"present": True}}, {"region": ["r-1", "r-\U0001f600"]},
]  # fmt: skip
TEXTS = ["r-1", "r-2", "\ue000", "\U0001f600", "r-\U0001f600", "ä", "", "x" * 129, f"a{BETWEEN}b", "é" * 64, "n"]
Event = tuple[str, dict[str, Any], int]


def some(random: Random) -> Plan:
    """Features of every aggregation, of random keys, filters and windows; a few of two topics."""
    found: list[Feature] = []
    for n in range(random.randrange(1, 12)):
        aggregation, told = random.choice(list(FIELDS.items()))
        window = random.choice(list(WINDOWS))
        more: dict[str, Any] = {"aggregation": aggregation, **told, "filter": random.choice(FILTERS)}
        if aggregation in ("distinct", "top_k"):
            more["field"] = random.choice(["cid", "genres", "watched_ms", "device_type"])
        if more["aggregation"] == "decayed":
            more["half_life"] = HALF_LIVES[window]
        key = random.choice([["member"], ["title"], ["member", "genre"], ["member", "region"], ["title", "genre", "region"]])
        if "region" in key:
            more["filter"] = {"region": {"present": True}, **more["filter"]}
        if aggregation == "count" and not {"kind", "watched_ms"} & set(more["filter"]) and random.random() < 0.5:
            more["sources"] = ["recommendations.interaction", "recommendations.impression"]
        found.append(feature(f"a{n}", key=key, windows=[window], **more))
    return plan([*found, feature("searches", sources=["recommendations.search"], filter={"results": {"below": 3}})])


def comes(random: Random, many: int) -> Iterator[Event]:
    """(topic, event, when it arrived), in an order of arrival: some late, ahead, twice, without what is asked for, or beyond all bounds."""
    arrived, earlier = FROM_MS, [""]
    for n in range(many):
        arrived += random.choice([0, 1, 1_000, 60_000, 20 * 60_000, 7_200_000])
        at = arrived - random.choice([0, 1_000, 3_600_000, random.randrange(40 * 86_400_000), -1_000])
        if random.random() < 0.3:
            at = at // 300_000 * 300_000 + random.choice([-1, 0, 1])
        event_id = random.choice(earlier[-20:]) if n and random.random() < 0.1 else f"e-{n}"
        earlier.append(event_id)
        said = {
            "event_id": event_id, "event_time": at, "member_id": f"m-{int(3 * random.random() ** 2)}", "cid": f"t-{random.randrange(20)}",
            "kind": random.choice(["play", "skip", "click"]), "genres": random.choices(TEXTS, k=random.randrange(6)),
            "region": random.choice([None, *TEXTS]), "device_type": random.choice([None, *TEXTS]), "results": random.randrange(5),
            "watched_ms": random.choice([None, 0, -5, random.randrange(7_200_000), MOST_NUMBER, MOST_NUMBER + 1, -(2**40)]),
        }  # fmt: skip
        topic = random.choices(TOPICS[:3], [8, 2, 1])[0]
        has = {field["name"] for field in catalogue().topic(topic).event.fields}
        yield topic, {name: value for name, value in said.items() if name in has}, arrived


def line(made: Plan, topic: str, event: dict[str, Any], arrived_ms: int) -> str:
    """The event as the job's view has it."""
    declared = catalogue().topic(topic)
    has = {field["name"] for field in declared.event.fields}
    fields = [event.get(name) if name in has and kept.kind(declared, name) == what else None for name, what in kept.asked(made)]
    return json.dumps([topic, event[declared.key], event["event_id"], event["event_time"], arrived_ms, *fields])


def said(made: Plan, log: list[Event]) -> list[str]:
    """What the engine makes of a log, as Replay.java prints it."""
    whole = Engine(made)
    for topic, event, arrived_ms in log:
        if topic in made.topics:
            whole.take(topic, event, arrived_ms)
    rows = {
        f"{group}{BETWEEN}{key}": (made.layouts[group].id, *map(bytes.hex, row.pack()))
        for group, of in whole.rows.items()
        for key, row in of.items()
    }
    counts = ", ".join(f"{name}={n}" for name, n in sorted(whole.counts.items()) if n)
    return [*("\t".join([item, *row]) for item, row in sorted(rows.items(), key=lambda one: one[0].encode("utf-16-be"))), f"\t{{{counts}}}"]


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs Replay.java."""
    return jvm.command(tmp_path_factory.mktemp("replay"), "recommendations", "Replay")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a small case reaches."""
    for name, bound in SMALL.items():
        for module in (definition, engine, tiles):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, bound)


def run(command: list[str], cases: list[tuple[Random, Plan, list[Event]]]) -> list[list[str]]:
    """What each case comes to; now and then everything is written to its state and read again."""
    lines = []
    for random, made, log in cases:
        lines.append(kept.argument(made, 1))
        for topic, event, arrived_ms in log:
            if topic in made.topics:
                lines.append(line(made, topic, event, arrived_ms))
            if random.random() < 0.05:
                lines.append("null")
        lines.append('"end"')
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = [[]]
    for told in done.stdout.removesuffix("\n").split("\n"):
        found[-1].append(told)
        if told.startswith("\t"):
            found.append([])
    return found[:-1]


@pytest.mark.usefixtures("small")
def test_rows_are_the_engines_byte_for_byte(replay: list[str]) -> None:
    cases = [(random, some(random), list(comes(random, EVENTS))) for random in map(Random, range(CASES))]
    reasons = set()
    for seed, ((_, made, log), streamed) in enumerate(zip(cases, run(replay, cases), strict=True)):
        expected = said(made, log)
        assert streamed == expected, f"seed {seed}"
        reasons |= {one.partition("=")[0] for one in expected[-1].strip("\t{}").split(", ")}
    assert reasons == {"taken", "twice", "beyond_most", "ahead", "no_key", "too_long", "out_of_bounds"}


def test_so_are_those_of_this_installation(replay: list[str]) -> None:
    random, made = Random(1), plan(features())
    log = list(comes(random, 1_500))
    (streamed,) = run(replay, [(random, made, log)])
    assert streamed == said(made, log)
