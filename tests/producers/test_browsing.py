"""What members do beside playing: that it hangs together, and that the collector's door takes all of it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from edge.interactions import Interactions, Told
from infra.base.settings import settings
from producers.players.browsing import Browsing, page, plain_page
from producers.players.clock import LoopClock, run_virtual
from producers.players.crowd import Crowd, Summary
from producers.players.player import Device
from producers.players.transport import Answer, Incoming, NoAnswer
from schemas.catalogue import catalogue
from schemas.codec import Encoder
from schemas.envelope import Stamp
from tests.producers.fake_edge import FakeEdge

NOW_MS = 1_700_000_000_000
ROWS = {
    "page_id": "p-1",
    "rows": [
        {"row": 0, "row_kind": "trending", "model_version": "popularity-1", "items": [{"cid": f"t-{n}", "position": n} for n in range(9)]},
        {"row": 1, "row_kind": "new", "model_version": "popularity-1", "items": [
            {"cid": "a", "position": 0, "propensity": 0.5, "artwork_variant": "x"}, {"cid": "b", "position": 1, "propensity": None},
        ]},
        {"row": 2, "row_kind": "popular", "model_version": "fallback", "items": [{"cid": "c", "position": 0}]},
    ],
}  # fmt: skip


class Served(FakeEdge):
    """Serves a page, and has a door that judges what members do."""

    def __init__(self, home: bool = True) -> None:
        super().__init__()
        self.home = home
        self.judge = Interactions(settings())
        self.told: list[Told] = []

    @asynccontextmanager
    async def get(self, url: str) -> AsyncIterator[Incoming]:
        if not url.startswith("http://home/"):
            async with super().get(url) as answer:
                yield answer
        elif self.home:
            assert "/home?member=member-00" in url
            yield _Page()
        else:
            raise NoAnswer("connection refused")

    async def post(self, url: str, content: bytes, content_type: str, address: str = "") -> Answer:
        if url != "http://collector/interactions":
            return await super().post(url, content, content_type, address)
        some = [self.judge.event(line, json.loads(line)["ts"]) for line in content.splitlines()]
        self.told += some
        return Answer(202, {}, json.dumps({"accepted": len(some)}).encode())


class _Page:
    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012  (read only)

    async def body(self) -> AsyncIterator[bytes]:
        yield json.dumps(ROWS).encode()


def watch(edge: Served, seconds: float = 150) -> Summary:
    async def run() -> Summary:
        urls = ("http://home", "http://collector/interactions")
        crowd = Crowd(6, 1, "http://gateway", ["a", "b"], edge, LoopClock(NOW_MS), [], False, [], None, 0, *urls)
        return await crowd.run(seconds)

    return run_virtual(run())


@pytest.mark.parametrize("home", [True, False])
def test_a_crowd_tells_what_it_saw_opened_played_and_watched(home: bool) -> None:
    edge = Served(home)
    summary = watch(edge)
    assert summary.doings.made == summary.doings.taken == len(edge.told)
    for told in edge.told:  # nothing of it is refused by its contract
        Encoder(catalogue().topic(told.topic).event, 1)(Stamp("collector-1", 1)(told.topic, told.fields, told.event_time_ms, told.event_id))
    assert max(Counter(told.event_id for told in edge.told).values()) == 1
    of_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for told in edge.told:
        of_kind[told.fields.get("kind", told.topic)].append(told.fields)
    seen = {told.event_id: told.fields for told in edge.told if told.topic == "recommendations.impression"}
    assert all(seen[click["impression_id"]]["cid"] == click["cid"] for click in of_kind["click"])
    plays = {one["sid"]: one for one in of_kind["play"] + of_kind["rewatch"]}
    assert plays.keys() == {outcome.sid for outcome in summary.outcomes}
    ended = {outcome.sid: outcome for outcome in summary.outcomes if outcome.state == "e"}
    assert {one["sid"]: one["watched_ms"] for one in of_kind["completion"]} == {sid: one.playing_ms for sid, one in ended.items()}
    assert of_kind["rewatch"]
    assert of_kind["rating"]
    assert {one["model_version"] for one in seen.values()} == ({"popularity-1"} if home else {"fallback"})


def browsing() -> Browsing:
    return Browsing(Device("m-1", "tv", "eu", 1, 720), 1, 7)


def test_a_member_sees_what_stands_before_the_title_and_no_more_than_a_screen_of_each_row() -> None:
    events = list(browsing().looks(page(ROWS), "b", NOW_MS))
    seen = [(one["row"], one["cid"], one.get("propensity"), one.get("artwork_variant")) for one in events if one["event"] == "impression"]
    assert seen == [*((0, f"t-{n}", None, None) for n in range(6)), (1, "a", 0.5, "x"), (1, "b", None, None)]
    assert events[-1].items() >= {"kind": "click", "cid": "b"}.items()


def test_what_is_not_on_the_page_is_searched_for() -> None:
    events = list(browsing().looks(plain_page("p", ["x", "y"]), "b", NOW_MS))
    assert [one["event"] for one in events if one.get("kind", "click") == "click"] == ["impression", "impression", "search", "interaction"]
    assert events[-2]["query"] == "b"
    assert "impression_id" not in events[-1]
    assert [one["event"] for one in browsing().looks(plain_page("p", []), "b", NOW_MS)] == ["search", "interaction"]


def test_what_was_completed_is_watched_again_and_what_failed_says_nothing() -> None:
    member = browsing()
    assert member.presses("a", "s-1", NOW_MS)["kind"] == "play"
    assert list(member.leaves("a", "s-1", "f", 7, NOW_MS)) == []
    assert member.presses("a", "s-2", NOW_MS)["previous_cids"] == []
    assert next(member.leaves("a", "s-2", "e", 40_000, NOW_MS)).items() >= {"kind": "completion", "watched_ms": 40_000}.items()
    played = [member.presses(cid, "s", NOW_MS) for cid in ("b", "c", "d", "e", "f", "g", "a")]
    assert (played[-1]["kind"], played[-1]["previous_cids"]) == ("rewatch", ["g", "f", "e", "d", "c"])
    assert next(member.leaves("g", "s", "q", 9, NOW_MS))["kind"] == "skip"


@pytest.mark.parametrize("told", [None, {}, {"page_id": 1, "rows": [{"items": [{}]}]}, {"page_id": 1, "rows": [7]}])
def test_what_is_no_page_is_refused(told: Any) -> None:
    with pytest.raises(ValueError, match="this is no page"):
        page(told)
