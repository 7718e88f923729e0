"""What simulated members do beside playing hangs together with what was true of their sessions."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from producers.simulator.doings import IMPRESSION, INTERACTION, SEARCH, TOPICS
from producers.simulator.experiments import Exposed
from producers.simulator.outputs import ToLines
from producers.simulator.schedule import Plan, Schedule, Second
from producers.simulator.world import load
from schemas.catalogue import catalogue
from schemas.codec import Encoder
from schemas.envelope import Stamp

START_MS = 1_767_225_600_000
Doings = dict[str, list[Exposed]]


@pytest.fixture(scope="module")
def seconds() -> list[Second]:
    world = load().model_copy(update={"members": 40})
    return list(Schedule(world, 1, Plan(START_MS, sessions=400, duplicates=0.1), does=True))


@pytest.fixture(scope="module")
def done(seconds: list[Second]) -> Doings:
    """By kind or topic, each once."""
    found: dict[str, dict[str, Exposed]] = defaultdict(dict)
    for one in (one for second in seconds for one in second.exposures):
        found[one.event.get("kind", one.topic)][one.event_id] = one
    return {name: list(some.values()) for name, some in found.items()}


def truths(seconds: list[Second]) -> dict[str, dict[str, Any]]:
    return {true["sid"]: true for second in seconds if second.truths is not None for true in second.truths.to_pylist()}


def test_each_fits_its_contract_and_arrives_after_it_happened(seconds: list[Second]) -> None:
    encoders = {name: Encoder(catalogue().topic(name).event, 1) for name in TOPICS}
    stamp, told = Stamp("simulator", 1), [one for second in seconds for one in second.exposures]
    for one in told:
        encoders[one.topic](stamp(one.topic, one.event, one.event_time, one.event_id, one.correlation_id))
        assert one.event_time <= one.at_ms <= one.event_time + 10_000
    assert len({one.event_id for one in told}) < len(told)  # some come twice


def test_plays_and_how_they_ended_are_those_of_the_sessions(seconds: list[Second], done: Doings) -> None:
    true = truths(seconds)
    plays = {one.event["sid"]: one for one in [*done["play"], *done["rewatch"]]}
    assert {sid: (one["member_id"], one["cid"], one["started_at"]) for sid, one in true.items()} == {
        sid: (one.event["member_id"], one.event["cid"], one.event_time) for sid, one in plays.items()
    }
    for kind, reason in (("completion", "ended"), ("skip", "quit")):
        assert {one.event["sid"]: one.event["watched_ms"] for one in done[kind]} == {
            sid: one["playing_ms"] for sid, one in true.items() if one["end_reason"] == reason
        }


def test_a_title_was_seen_or_searched_for_then_opened_then_played(done: Doings) -> None:
    seen = {one.event_id: one for one in done[IMPRESSION]}
    opened = {one.correlation_id: one for one in done["click"]}
    assert len(seen) + len(done[SEARCH]) == len(opened)
    for play in [*done["play"], *done["rewatch"]]:
        click = opened[play.correlation_id]
        assert click.event_time < play.event_time
        if impression := play.event.get("impression_id"):
            assert seen[impression].event["cid"] == play.event["cid"]
            assert seen[impression].event_time < click.event_time


def test_again_is_after_completion_and_what_was_played_before_is_told(done: Doings) -> None:
    completed = {(one.event["member_id"], one.event["cid"]) for one in done["completion"]}
    assert done["rewatch"]
    assert {(one.event["member_id"], one.event["cid"]) for one in done["rewatch"]} <= completed
    before = [one.event["previous_cids"] for one in done["play"]]
    assert any(len(some) > 1 for some in before)
    assert all(one.event["cid"] not in one.event["previous_cids"] for one in done["play"])


def test_lines_of_each_topic_stand_in_a_file_of_their_own(seconds: list[Second], done: Doings, tmp_path: Path) -> None:
    with ToLines(load(), tmp_path / "in.jsonl", TOPICS) as output:
        for second in seconds:
            output.expose(second.exposures)
    lines = [json.loads(line) for line in (tmp_path / "in.interaction.jsonl").read_text().splitlines()]
    assert {line["event_id"] for line in lines} == {one.event_id for some in done.values() for one in some if one.topic == INTERACTION}
    assert (tmp_path / "in.search.jsonl").read_text().count("\n") >= len(done[SEARCH])
