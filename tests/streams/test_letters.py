"""Dead letters: mended only into what the door would let pass, sent once however often, with a step for each thing done."""

from __future__ import annotations

import pytest

from infra.base.clock import FakeClock
from schemas.catalogue import catalogue
from schemas.codec import Decoder
from streams.letters import STEPS, CannotMend, Desk, Letter, Repair, Sent
from tests.broker import FakeRegistry, MockCluster
from tests.streams.test_guard import DAY_MS, NOW_MS, event, with_id


@pytest.fixture
def desk(cluster: MockCluster, registry: FakeRegistry) -> Desk:
    """A desk on an empty trail."""
    from infra.base import kafka

    kafka.producer().list_topics(STEPS, timeout=10)
    return Desk(registry, FakeClock(NOW_MS))


def far(registry: FakeRegistry, letter_id: str = "far") -> Letter:
    """A letter whose event is a day ahead."""
    return Letter(letter_id, "playback.report", event(registry, event_time=NOW_MS + DAY_MS, event_id=f"e-{letter_id}"))


NOW = Repair({"event_time": "2023-11-14T22:13:20Z"})


def test_a_mended_letter_goes_through_the_door_once(cluster: MockCluster, registry: FakeRegistry, desk: Desk) -> None:
    assert desk.replay() == []
    assert desk.repair([far(registry), far(registry, "other")], NOW) == {"far": "", "other": ""}
    assert desk.replay(lambda letter_id: letter_id == "far") == [Sent("far", "playback.report.in")]
    assert Desk(registry, FakeClock(NOW_MS)).replay() == [Sent("other", "playback.report.in")]
    assert Desk(registry, FakeClock(NOW_MS)).replay() == []
    sent = cluster.messages("playback.report.in", 2)
    events = [Decoder(registry.schema, catalogue().topic("playback.report").event)(message.value()) for message in sent]
    assert {e["event_id"] for e in events} == {"e-far", "e-other"}
    assert {m.key() for m in sent} == {b"s-1"}
    assert sorted(dict(m.headers())["dead-letter"] for m in sent) == [b"far", b"other"]


def test_each_step_says_who_did_what(cluster: MockCluster, registry: FakeRegistry, desk: Desk) -> None:
    desk.repair([far(registry)], Repair({"event_time": "2023-11-14T22:13:20Z", "br_kbps": 7}, drop=["bl_ms"]))
    desk.repair([far(registry)], NOW)
    desk.replay()
    steps = desk.steps()
    assert [step["step"] for step in steps] == ["repaired", "repaired", "replayed"]
    assert len({step["event_id"] for step in steps}) == 3
    assert steps[0]["how"] == 'set event_time="2023-11-14T22:13:20Z", set br_kbps=7, drop bl_ms'
    assert all(step["who"] for step in steps)
    assert steps[2]["sent_to"] == "playback.report.in"
    assert "has been sent again already" in desk.repair([far(registry)], NOW)["far"]


def test_what_would_be_refused_again_is_not_taken(registry: FakeRegistry, desk: Desk) -> None:
    letter = far(registry)
    assert "refused again (time_window)" in desk.repair([letter], Repair({"br_kbps": 7}))["far"]
    assert "br_kbps: 'many' is not int or null" in desk.repair([letter], Repair({"br_kbps": "many"}))["far"]
    assert "no such field: colour" in desk.repair([letter], Repair({"colour": 1}))["far"]
    assert "give one with --payload" in desk.repair([Letter("half", letter.topic, letter.payload[:-3])], NOW)["half"]
    assert desk.steps() == []


def test_a_repair_that_has_grown_too_old_is_refused_at_the_door_of_the_desk(registry: FakeRegistry, desk: Desk) -> None:
    desk.repair([far(registry)], NOW)
    (sent,) = Desk(registry, FakeClock(NOW_MS + 8 * DAY_MS)).replay()
    assert "before its arrival" in sent.refused
    assert [step["step"] for step in desk.steps()] == ["repaired"]


def test_a_wrong_schema_id_is_put_right(registry: FakeRegistry, desk: Desk) -> None:
    letter = Letter("lost", "playback.report", with_id(event(registry), 99_999))
    assert desk.repair([letter], Repair(reframe=True)) == {"lost": ""}
    assert desk.steps()[0]["payload"] == event(registry)


def test_an_edited_event_takes_the_place_of_bytes_that_are_none(registry: FakeRegistry, desk: Desk) -> None:
    told = {
        "event_id": "e-1",
        "event_time": "2023-11-14T22:13:20Z",
        "producer_id": "f",
        "epoch": 1,
        "seq": 0,
        "sid": "s",
        "sn": 1,
        "e": "t",
    }
    assert desk.repair([Letter("text", "playback.report", b"sid=s")], Repair(event=told)) == {"text": ""}
    with pytest.raises(CannotMend, match="sid is missing"):
        Repair(event={k: v for k, v in told.items() if k != "sid"})(
            catalogue().topic("playback.report"), b"", desk._encoder("playback.report"), Decoder(registry.schema)
        )
