"""dash.js, hls.js and Shaka, each in Chromium at the real gateway, cache server and collector: all that they say is in ClickHouse."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2 as httpx
import pytest

from infra.base import warehouse
from infra.base.settings import Settings, settings
from producers.emit import Emitter
from producers.encoders import encode
from producers.encoders.events import emit
from producers.experiments.publish import written
from schemas.allocation.definition import Experiment
from schemas.cmcd import SHARDS
from tests import clip
from tests.board.browser import browser, page, until
from tests.kit import eventually
from tests.players.standard import CALLED, PLAYERS, page_server, versions

pytestmark = [pytest.mark.stack, pytest.mark.browser]

CLIP = replace(clip.CLIP, cid="three-players", name="Test picture for three players", seconds=8)
Identity = tuple[str, int]
"""Target and sn within a session."""


@pytest.fixture(scope="module")
def gateway(stack: Settings) -> Iterator[str]:
    """The address of the stack's gateway, which knows the clip."""
    with Emitter("encoder") as emitter:
        emit(encode.prepare([CLIP]), emitter)
    eventually(lambda: CLIP.cid in httpx.get(f"{stack.edge.gateway_url}/titles").text)
    yield stack.edge.gateway_url
    shutil.rmtree(settings().cache / "titles" / CLIP.cid)


@dataclass
class Wire:
    """What the browser has sent to its end, as the browser tells it: our own code reads none of it."""

    collector: str
    oca_by_origin: dict[str, str]
    sent: dict[str, set[Identity]] = field(default_factory=dict)
    videos: dict[str, int] = field(default_factory=dict)

    def note(self, request: Any) -> None:
        """A request that was answered."""
        if request.url.startswith(self.collector):
            for line in (request.post_data or "").splitlines():
                self._say(line, "event:default")
            return
        headers = ",".join(text for name, text in request.headers.items() if name in SHARDS)
        said = headers or ",".join(parse_qs(urlsplit(request.url).query).get("CMCD", []))
        if said:
            sid = self._say(said, f"request:{self.oca_by_origin[urlsplit(request.url).netloc]}")
            self.videos[sid] = self.videos.get(sid, 0) + bool(re.search(r"(^|,)ot=a?v(,|$)", said))

    def _say(self, text: str, target: str) -> str:
        sid, sn = (re.search(rf'(?:^|,){key}="?([^,"]+)', text) for key in ("sid", "sn"))
        assert sid, f"a report without a session: {text}"
        assert sn, f"a report without a number: {text}"
        self.sent.setdefault(sid[1], set()).add((target, int(sn[1])))
        return sid[1]


def rows(sql: str, sid: str) -> list[tuple[Any, ...]]:
    with warehouse.reader() as client:
        return list(client.query(sql, parameters={"sid": sid}).result_rows)


def stored(sid: str) -> set[Identity]:
    """What is in ClickHouse of a session; fails on a report that is there twice under two names."""
    found = rows("SELECT DISTINCT event_id, target, sn FROM playback_report WHERE sid = {sid:String} AND NOT marker", sid)
    known = {(target, sn) for _, target, sn in found}
    assert len(known) == len(found)
    return known


def test_all_that_three_players_say_is_in_clickhouse(stack: Settings, gateway: str) -> None:
    wire = Wire(stack.edge.collector_url, {urlsplit(url).netloc: f"oca-{n}" for n, url in enumerate(stack.edge.oca_urls, 1)})
    tickets = {name: httpx.post(f"{gateway}/play", json={"title": CLIP.cid, "member": name}).json() for name in PLAYERS}
    with page_server() as url, browser() as chrome, page(chrome) as tab:
        tab.on("requestfinished", wire.note)
        tab.goto(url)
        for name, ticket in tickets.items():
            addresses = {"dash": ticket["manifest_urls"][0], "hls": ticket["hls_urls"][0]}
            collector = f"{ticket['collector_url']}?com.headrace-device=web&com.headrace-player={CALLED[name]}"
            told = {"sid": ticket["sid"], "cid": ticket["cid"], "collector": collector, **addresses}
            tab.evaluate("([name, told]) => play(name, told)", [name, told])
        until(tab, "Object.values(playing).every(({ ended }) => ended)", within=60)
        assert set(versions(tab)) == set(PLAYERS)
        for name, ticket in tickets.items():
            assert_complete(wire, ticket["sid"], name)
        for name in ("dashjs", "hlsjs"):  # Shaka 5.2.12 never says that it plays or has ended: its session ends by silence
            assert_quality(wire, tickets[name]["sid"], CALLED[name])


def test_what_members_were_dealt_is_in_clickhouse(stack: Settings, gateway: str) -> None:
    """The stack has published the product's own experiments; whoever presses play is told what he gets, and the warehouse, who got what."""
    eventually(lambda: httpx.get(f"{gateway}/healthz").json()["definitions"]["accepted"] >= len(written()))
    press = {"title": CLIP.cid, "device_type": "tv", "region": "eu-west"}
    flags = {(told := httpx.post(f"{gateway}/play", json={**press, "member": f"m-{n}"}).json())["sid"]: told["flags"] for n in range(20)}
    given = {one.key: {variation.key: variation.value for variation in one.variations} for one in written() if isinstance(one, Experiment)}

    def exposed() -> list[Any]:
        sql = """
        SELECT unit, variations, segments, member_id FROM experiments_exposure JOIN control_request USING (sid)
        WHERE sid = {sid:String} AND NOT experiments_exposure.marker
        """
        found = [row for sid in flags for row in rows(sql, sid)]
        assert len(found) == len(flags)
        return found

    for (unit, variations, segments, member), told in zip(eventually(exposed), flags.values(), strict=True):
        assert unit == member
        assert segments == {"device_type": "tv", "region": "eu-west"}
        held = variations["holdout.playback_2026.0"] == "held"
        assert ("policy_or_bola.0" in variations, "fast_start.0" in variations) == (not held, not held)
        for experiment, flag in (("policy_or_bola", "abr_rule"), ("fast_start", "start_bitrate_kbps"), ("same_or_same", "nothing")):
            if f"{experiment}.0" in variations:
                assert told[flag] == given[experiment][variations[f"{experiment}.0"]]
    assert len({told["abr_rule"] for told in flags.values()}) == 2


def assert_complete(wire: Wire, sid: str, player: str) -> None:
    """Everything sent in either mode is stored, nothing of it as a dead letter."""

    def all_stored() -> bool:
        assert sorted(wire.sent[sid] - stored(sid)) == [], player
        return True

    assert eventually(all_stored)
    assert {target.partition(":")[0] for target, _ in wire.sent[sid]} == {"event", "request"}, player
    assert rows("SELECT detail FROM observability_dead_letter WHERE position(payload, {sid:String}) > 0", sid) == [], player


def assert_quality(wire: Wire, sid: str, player: str) -> None:
    """The session has its row: each segment once, whoever told of it."""
    names = "end_reason, segments, failed_start, device_type, player, startup_ms"

    def closed() -> tuple[Any, ...]:
        found = rows(f"SELECT {names} FROM qoe_sessions WHERE sid = {{sid:String}}", sid)
        assert found, f"{player} has no row"
        return found[0]

    *found, startup_ms = eventually(closed)
    assert found == ["ended", wire.videos[sid], False, "web", player]
    assert 0 < startup_ms < 60_000
