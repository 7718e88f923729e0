"""What members do with titles, as it comes to the door: what is kept and refused, and that the rest of a body goes on."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import suppress
from typing import Any

import httpx2 as httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.interactions import TOPICS, Interactions, identity
from edge.judge import MAX_LINE, Rejected
from edge.pseudonym import pseudonym
from infra.base import warehouse
from infra.base.settings import Settings, settings
from schemas.catalogue import catalogue
from schemas.codec import Encoder, InvalidEvent
from schemas.envelope import Stamp
from tests.broker import FakeRegistry, MockCluster, records
from tests.edge.test_collector import DEAD_LETTERS, NOW_MS, genres, post, running
from tests.kit import eventually

CLICK = {"event": "interaction", "id": "c-1", "ts": NOW_MS, "member": "web-1", "cid": "bbb", "kind": "click"}
SEEN = {
    "event": "impression", "id": "i-1", "ts": NOW_MS, "member": "web-1", "cid": "bbb", "page_id": "p-1", "row": 0, "position": 2,
    "row_kind": "trending", "model_version": "fallback", "propensity": 0.25,
}  # fmt: skip
TYPED = {"event": "search", "id": "s-1", "ts": NOW_MS, "member": "web-1", "query": " Big  BUNNY ", "results": 1}


def judged(sent_ms: int | None = None, **event: Any) -> Any:
    return Interactions(settings(), genres).event(orjson.dumps(event), NOW_MS, sent_ms)


def test_what_clients_cannot_say_the_door_says() -> None:
    told = judged(**{**CLICK, "kind": "play", "impression_id": "i-1", "region": "eu-1", "previous_cids": ["life"]})
    who = pseudonym("web-1")
    assert told.topic == "recommendations.interaction"
    assert told.fields == {
        "cid": "bbb", "kind": "play", "previous_cids": ["life"], "member_id": who, "genres": ["animation", "family"], "region": "eu-1",
        "impression_id": judged(**SEEN).event_id,
    }  # fmt: skip
    assert told.event_id == identity(who, "c-1") == judged(**CLICK).event_id
    assert told.event_id != judged(**{**CLICK, "member": "web-2"}).event_id


def test_a_clock_that_is_wrong_is_put_right_where_it_is_known() -> None:
    off_ms = 86_400_000
    assert judged(NOW_MS + off_ms, **{**CLICK, "ts": NOW_MS + off_ms - 700}).event_time_ms == NOW_MS - 700
    with pytest.raises(Rejected, match=r"ts is 86399300 ms ahead: mend the clock, or say `\?sent=`"):
        judged(**{**CLICK, "ts": NOW_MS + off_ms - 700})


def test_what_was_typed_is_kept_in_lower_case_and_without_spaces_too_many() -> None:
    assert judged(**TYPED).fields["query"] == "big bunny"


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({**CLICK, "event": "sleep"}, "event is one of impression, interaction, search"),
        ({**CLICK, "event": ["interaction"]}, "event is one of"),
        ({**CLICK, "id": ""}, "id is a text of 1 to 200 characters"),
        ({**CLICK, "member": 7}, "member is a text of 1 to 200 characters"),
        ({**CLICK, "ts": "now"}, "ts is a whole number"),
        ({**CLICK, "ts": True}, "ts is a whole number"),
        ({**CLICK, "member_id": "0" * 64}, "interaction has no field member_id"),
        ({**CLICK, "genres": ["war"]}, "interaction has no field genres"),
        ({**CLICK, "seq": 7}, "interaction has no field seq"),
        ({**CLICK, "cid": "b" * 201}, "cid has 201 characters; 200 are the most"),
        ({**CLICK, "cid": ""}, "cid is the title's"),
        ({**CLICK, "cid": None}, "interaction needs cid"),
        ({**CLICK, "rating_halves": 3}, "rating_halves goes with rating, and only with that: kind is click"),
        ({**CLICK, "kind": "rating"}, "rating_halves goes with rating"),
        ({**CLICK, "kind": "rating", "rating_halves": 11}, "rating_halves is 11: from 1 to 10"),
        ({**CLICK, "kind": "skip"}, "watched_ms goes with completion and skip"),
        ({**CLICK, "kind": "skip", "watched_ms": -1}, "watched_ms is -1"),
        ({**CLICK, "previous_cids": ["life"]}, "previous_cids are 5 titles at most, none twice, of play and rewatch only"),
        ({**CLICK, "kind": "play", "previous_cids": ["a", "a"]}, "previous_cids are 5 titles at most"),
        ({**CLICK, "kind": "play", "previous_cids": list("abcdef")}, "previous_cids are 5 titles at most"),
        ({**SEEN, "propensity": 0}, "propensity is 0"),
        ({**SEEN, "propensity": 1.5}, "propensity is 1.5"),
        ({k: v for k, v in SEEN.items() if k != "row"}, "impression needs row"),
        ({**TYPED, "query": "  "}, "query is what was typed: a text of 1 to 100 characters"),
        ({**TYPED, "query": "b" * 101}, "query is what was typed"),
    ],
)
def test_what_is_wrong_is_said(event: dict[str, Any], words: str) -> None:
    with pytest.raises(Rejected, match=words):
        judged(**event)


@pytest.mark.parametrize("raw", [b"{", b"[]", b"7", b'{"a":"\xff"}', b"x" * (MAX_LINE + 1)])
def test_what_is_no_event_is_refused(raw: bytes) -> None:
    with pytest.raises(Rejected):
        Interactions(settings()).event(raw, NOW_MS)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from([CLICK, SEEN, TYPED]), st.dictionaries(st.sampled_from(sorted({*CLICK, *SEEN, *TYPED, "impression_id"})), ANY))
def test_whatever_comes_is_an_event_or_refused(event: dict[str, Any], other: dict[str, Any]) -> None:
    """Either the judge or the contract's encoder says no, and nothing else is raised."""
    with suppress(Rejected, InvalidEvent):
        told = judged(**{**event, **other})
        topic = catalogue().topic(told.topic)
        Encoder(topic.event, 1)(Stamp("collector-1", 1)(told.topic, told.fields, told.event_time_ms, told.event_id))
        assert told.fields["member_id"] != other.get("member", event["member"])


async def test_bad_ones_are_told_one_by_one_and_the_rest_is_on_the_topics(cluster: MockCluster, registry: FakeRegistry) -> None:
    bad = [{**CLICK, "id": "c-2", "kind": "sleep"}, {**CLICK, "id": "c-3", "device_type": 7}, {**CLICK, "id": "c-4", "gener": 1}]
    body = json.dumps([SEEN, bad[0], CLICK, bad[1], TYPED, bad[2]])
    async with running(registry) as client:
        answer = await post(client, body, f"/interactions?sent={NOW_MS}", content_type="text/plain;charset=UTF-8", x_correlation_id="k-1")
        assert answer.status_code == 202
        assert answer.json()["accepted"] == 3
        assert [(one["line"], one["key"]) for one in answer.json()["rejected"]] == [(2, "*"), (4, "*"), (6, "gener")]
        (seen,), (click,), (typed,) = (records(cluster, registry, topic, 1) for topic in TOPICS.values())
        letters = records(cluster, registry, DEAD_LETTERS, 3)
    assert click["member_id"] == seen["member_id"] == typed["member_id"] == pseudonym("web-1")
    assert (seen["propensity"], seen["genres"], seen["correlation_id"]) == (0.25, ["animation", "family"], "k-1")
    assert typed["query"] == "big bunny"
    assert {(one["reason"], one["topic"]) for one in letters} == {("decode", "recommendations.interaction")}
    assert sorted(json.loads(one["payload"])["id"] for one in letters) == ["c-2", "c-3", "c-4"]


async def test_a_body_that_is_none_is_refused_whole(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry) as client:
        for body, address in (("", "/interactions"), ("nonsense", "/interactions"), (json.dumps(CLICK), "/interactions?sent=soon")):
            answer = await post(client, body, address, content_type="application/json")
            assert answer.status_code == 400, body
        assert "`sent` is the client's clock" in answer.json()["rejected"][0]["message"]
        assert len(records(cluster, registry, DEAD_LETTERS, 3)) == 3


@pytest.mark.stack
def test_what_a_member_did_is_in_clickhouse_with_what_the_catalogue_says_of_the_title(stack: Settings) -> None:
    now_ms, member = time.time_ns() // 1_000_000, f"web-{uuid.uuid4()}"
    shared = {"ts": now_ms - 5_000, "member": member, "region": f"r-{member}"}
    body = json.dumps([{**SEEN, **shared}, {**CLICK, **shared, "kind": "sleep"}, {**CLICK, **shared, "impression_id": "i-1"}])

    def told() -> str:
        sent = time.time_ns() // 1_000_000
        answer = httpx.post(f"{stack.edge.collector_url}/interactions?sent={sent}", content=body, timeout=20)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 2)
        genres = "SELECT any(genres) FROM recommendations_interaction WHERE member_id = {m:String} AND notEmpty(genres)"
        return str(warehouse.reader().query(genres, {"m": pseudonym(member)}).result_rows[0][0])

    eventually(lambda: "animation" in told(), within=60, every=1)  # again and again: the collector may not have read the catalogue yet
    joined = (
        "SELECT uniqExact(i.event_id), any(s.row_kind) FROM recommendations_interaction AS i "
        "JOIN recommendations_impression AS s ON s.event_id = i.impression_id WHERE i.member_id = {m:String}"
    )
    eventually(lambda: warehouse.reader().query(joined, {"m": pseudonym(member)}).result_rows == [(1, "trending")])
