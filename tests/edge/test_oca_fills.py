"""What is left of a fill plan, and what a cache server tells of its content: by example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.oca.content import Change, Content
from edge.oca.filler import Step
from edge.oca.fills import Eviction, FillPlan, Order
from edge.oca.telling import CONTENT, FILL, Telling
from infra.base.registry import RegistryUnavailable
from schemas.assets import AssetId, checksums

A, B, C = (AssetId(cid, 1) for cid in "abc")


def told(plan_id: str, fills: list[tuple[str, int]], evictions: list[tuple[str, int]] = []) -> dict[str, Any]:  # noqa: B006
    return {
        "plan_id": plan_id,
        "fills": [{"cid": cid, "version": 1, "source": "ix", "source_url": "http://ix", "start_ms": at} for cid, at in fills],
        "evictions": [{"cid": cid, "version": 1, "at_ms": at, "why": "REPLACED"} for cid, at in evictions],
    }


def test_a_plan_is_carried_out_in_its_time_and_what_goes_goes_first() -> None:
    plan = FillPlan()
    plan.take(told("1", [("a", 100), ("b", 200)], [("c", 200)]))
    assert plan.due(99) is None
    assert plan.due(150) == Order(A, "http://ix", "ix", "1", 100)
    assert plan.due(150) is None
    assert plan.due(250) == Eviction(C, 200, "REPLACED")
    assert plan.due(250) == Order(B, "http://ix", "ix", "1", 200)
    assert plan.due(999) is None


def test_a_later_plan_replaces_what_is_left_and_the_same_one_changes_nothing() -> None:
    plan = FillPlan()
    plan.take(told("1", [("a", 0), ("b", 0)]))
    assert plan.due(1) == Order(A, "http://ix", "ix", "1", 0)
    plan.take(told("1", [("a", 0), ("b", 0)]))
    assert len(plan) == 1
    plan.take(told("2", [("c", 0)]))
    assert plan.due(1) == Order(C, "http://ix", "ix", "2", 0)


class Kafka:
    """An emitter that is away at first."""

    def __init__(self) -> None:
        self.away = True
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def send(self, topic: str, record: dict[str, Any], **_: Any) -> None:
        if self.away:
            raise RegistryUnavailable("not yet")
        self.sent.append((topic, record))


def held(content: Content, folder: Path, asset: AssetId) -> None:
    place = content.filling(asset)
    place.mkdir(parents=True)
    (place / "1.m4s").write_bytes(b"body")
    content.admit(checksums(place, asset, 1))


def test_content_is_told_as_what_differs_from_what_was_told_before(tmp_path: Path) -> None:
    kafka = Kafka()
    telling = Telling("oca-1", kafka)  # type: ignore[arg-type]
    content = Content(tmp_path, 1_000, telling.changed)
    held(content, tmp_path, A)
    known = {A: 4, B: 9, C: 4}  # the backbone thinks that it holds three; it has lost two, and one of them comes again
    kafka.away = False
    held(content, tmp_path, C)
    telling._tell_content(content, known)
    assert [(topic, r["cid"], r["held"], r["reason"], r["bytes"]) for topic, r in kafka.sent] == [(CONTENT, "b", False, "FOUND", 9)]
    content.evict(A, "REPLACED")
    content.pull(C, "bad audio")
    telling._tell_content(content, known)
    assert [(r["cid"], r["held"], r["reason"]) for _, r in kafka.sent[1:]] == [("a", False, "EVICTED"), ("c", False, "PULLED")]
    telling._tell_content(content, known)
    assert len(kafka.sent) == 3


def test_steps_wait_for_kafka_and_name_their_order(tmp_path: Path) -> None:
    kafka = Kafka()
    telling = Telling("oca-1", kafka)  # type: ignore[arg-type]
    content = Content(tmp_path, 1_000, telling.changed)
    telling.ordered(Order(A, "http://ix", "ix", "17", 0))
    telling.stepped(Step("completed", A, "http://ix", 1_000, 4, 4, 4))
    telling.changed(Change("held", A, 4, "verified"))
    telling._tell(content, None)
    assert kafka.sent == []
    kafka.away = False
    telling._tell(content, None)
    ((topic, record),) = kafka.sent
    assert (topic, record["plan_id"], record["source"], record["kind"], record["fetched_bytes"]) == (FILL, "17", "ix", "COMPLETED", 4)
