"""The steering service over HTTP: answers with reasons, steering manifests, refusals in words, and one event for each decision."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2 as httpx
import pytest

from edge.outbox import Outbox
from edge.sign import Denied, Keys
from edge.steering.manifest import BUSY_TTL_S, TTL_S
from edge.steering.rank import Health
from edge.steering.routes import prefix
from edge.steering.service import Service, app
from edge.steering.steer import TOPIC, Steering
from edge.steering.tables import Healths, Tables
from producers.emit import Emitter
from streams.folded import Unfit
from tests.broker import FakeRegistry, MockCluster, records
from tests.edge.steering.standard import applied, violations
from tests.edge.steering.test_routes import route
from tests.edge.steering.test_tables import OCA, content
from tests.edge.steering.world import ANNOUNCED, HOME, SERVERS
from tests.edge.test_gateway import published

VIEWER = {"x-forwarded-for": "198.51.100.7"}
KEYS = Keys({"k": b"secret"})


def known() -> Tables:
    """The small network, with one title of two versions that in-1 does not hold."""
    tables = Tables()
    for version in (1, 2):
        tables.titles.fold({"marker": False, **published(version=version)})
    for server in SERVERS.values():
        told = {name: value for name, value in server._asdict().items() if name in OCA}
        tables.ocas.fold({**OCA, **told})
        tables.contents.fold(content(server.oca_id, server.oca_id != "in-1", version=2))
        tables.contents.fold(content(server.oca_id, True, version=1))
    for oca_id, to, path_class, as_path, med in ANNOUNCED:
        tables.routes.fold({"marker": False, **route(oca_id, to, path_class, as_path, med)})
    for table in tables.all:
        table.caught_up = True
    return tables


@asynccontextmanager
async def running(registry: FakeRegistry, tables: Tables, **changes: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    with Emitter("steering", registry=registry, background=True) as emitter:
        steering = Steering(tables, Outbox(emitter, TOPIC), emitter.clock.now_ms, None, 60, frozenset(), [prefix("127.0.0.0/8")])
        service = Service(replace(steering, **changes))
        application = app(service)
        transport = httpx.ASGITransport(application, client=("127.0.0.1", 1))
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url="http://steering") as client,
        ):
            yield client, service
            async with asyncio.timeout(10):
                while service.steering.outbox.held:
                    await asyncio.sleep(0.02)


async def test_an_answer_says_what_throughput_may_be_expected(cluster: MockCluster, registry: FakeRegistry) -> None:
    tables = known()
    row = {
        "item": "i", "level": "GLOBAL", "client_prefix": "", "isp_asn": None, "region": "", "hour": 0, "device_type": "",
        "network_type": "", "starts": 50.0, "start_mean_log_throughput": 15.0, "start_var_log_throughput": 0.1,
        "within_log_throughput": 0.2, "event_time": datetime(2026, 3, 1, tzinfo=UTC), "marker": False,
    }  # fmt: skip
    async with running(registry, tables) as (client, _):
        before = (await client.post("/steer", json={"cid": "bbb"}, headers=VIEWER)).json()
        tables.priors.fold(row)
        after = (await client.post("/steer", json={"cid": "bbb"}, headers=VIEWER)).json()
        phones = {"hour": None, "device_type": "phone", "network_type": "cellular", "start_mean_log_throughput": 13.0}
        tables.priors.fold({**row, "item": "j", **phones})
        on = {"device_type": "phone", "network_type": "cellular"}
        phone, other = [(await client.post("/steer", json={"cid": "bbb", **used}, headers=VIEWER)).json() for used in (on, {})]
    assert "prior" not in before
    assert phone["prior"]["mean_log_kbps"] < after["prior"]["mean_log_kbps"] - 1.0
    assert other["prior"] == after["prior"]
    assert after["prior"]["mean_log_kbps"] == pytest.approx(15.0 - math.log(1000), abs=1e-4)
    with pytest.raises(Unfit, match=r"playback.abr_features 'i': starts nan.*stays as it was"):
        tables.priors.fold({**row, "starts": math.nan})


async def test_a_question_gets_ranked_servers_with_reasons_and_leaves_an_event(cluster: MockCluster, registry: FakeRegistry) -> None:
    tables = known()
    tables.healths.table["in-2"] = Health("DOWN", 0.0, "silent for 3 s")
    async with running(registry, tables) as (client, _):
        answer = await client.post("/steer", json={"cid": "bbb", "sid": "s-1"}, headers={**VIEWER, "x-correlation-id": "c-1"})
        (told,) = await asyncio.to_thread(records, cluster, registry, TOPIC, 1)
    found = answer.json()
    assert answer.status_code == 200
    assert sorted(c["oca_id"] for c in found["candidates"][:2]) == ["in-3", "in-4"]
    assert [c["oca_id"] for c in found["candidates"][2:]] == ["ix-1", "ix-2", "far-1", "origin"]
    first = found["candidates"][0]
    assert first["reason"] == "embedded by /24, AS path 0, MED 0"
    assert (first["manifest_url"], first["hls_url"]) == (
        f"http://{first['oca_id']}:80/bbb/v2/manifest.mpd", f"http://{first['oca_id']}:80/bbb/v2/master.m3u8",
    )  # fmt: skip
    rejected = {r["oca_id"]: r["reason"] for r in found["rejected"]}
    assert rejected == {"in-1": "content: it has not got this version", "in-2": "health: DOWN, silent for 3 s"}
    common = {"cid": "bbb", "version": 2, "client_prefix": HOME, "isp_asn": 64501, "stale_ms": 0}
    assert {**found, **common, "contents_known": True, "rejected_count": 2} == found
    assert {**told, **common, "sid": "s-1", "region": "eu-west", "protocol": "PLAY", "rejected": 2} == told
    assert (told["correlation_id"], told["best_oca_id"], told["best_tier"]) == ("c-1", first["oca_id"], "EMBEDDED_FLASH")
    assert [(c["oca_id"], c["rank"], c["reason"]) for c in told["candidates"]] == [
        *((c["oca_id"], n, c["reason"]) for n, c in enumerate(found["candidates"], 1)),
        *((oca_id, 0, reason) for oca_id, reason in rejected.items()),
    ]
    assert told["took_us"] > 0


async def test_the_same_session_gets_the_same_answer(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry, known()) as (client, _):
        answers = [(await client.post("/steer", json={"cid": "bbb", "sid": "s-9"}, headers=VIEWER)).json() for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]


async def test_urls_are_signed_for_the_session(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry, known(), keys=KEYS, now_ms=lambda: 1_000_000) as (client, _):
        found = (await client.post("/steer", json={"cid": "bbb", "sid": "s-1"}, headers=VIEWER)).json()
    for candidate in found["candidates"]:
        path, grant = KEYS.verify(urlsplit(candidate["manifest_url"]).path, "198.51.100.7", 1_059)
        assert (path, grant.below, grant.sid) == ("/bbb/v2/manifest.mpd", "/bbb/v2/", "s-1")
        with pytest.raises(Denied, match="expired"):
            KEYS.verify(urlsplit(candidate["hls_url"]).path, "198.51.100.7", 1_060)


async def test_who_the_client_is(cluster: MockCluster, registry: FakeRegistry) -> None:
    async def prefix_of(forwarded: str | None, peer: str = "127.0.0.1") -> str:
        transport = httpx.ASGITransport(application, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://steering") as client:
            headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
            answer = (await client.post("/steer", json={"cid": "bbb"}, headers=headers)).json()
            return str(answer["client_prefix"])

    async with running(registry, known()) as (_, service):
        application = app(service)
        assert await prefix_of("198.51.100.7") == HOME
        assert await prefix_of("203.0.113.9, 198.51.100.7, 127.0.0.9") == HOME, "what stands before is the client's own word"
        assert await prefix_of("198.51.100.7", peer="203.0.113.9") == "0.0.0.0/0", "a stranger is not believed"
        assert await prefix_of(None, peer="198.51.100.7") == HOME
        assert await prefix_of("127.0.0.1") == "0.0.0.0/0"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"nonsense", 400, "not JSON"),
        (b"[" * 10_000, 400, "not JSON"),
        (b"[]", 400, "a question is a JSON object"),
        (b"{}", 400, "cid is missing"),
        (b'{"cid": 5}', 400, "cid is missing"),
        (b'{"cid": "a\\nb"}', 400, "cid is missing"),
        (b'{"cid": "bbb", "sid": ""}', 400, "sid: a string"),
        (b'{"cid": "bbb", "sid": "a\\nb"}', 400, "sid: a string"),
        (b'{"cid": "bbb", "version": 0}', 400, "version: a whole number"),
        (b'{"cid": "bbb", "version": true}', 400, "version: a whole number"),
        (b'{"cid": "bbb", "version": 1}', 404, "version 1 of 'bbb' is not the one that is played: 2 is"),
        (b'{"cid": "bbb", "latitude_deg": 91, "longitude_deg": 0}', 400, "latitude_deg: a number from -90 to 90"),
        (b'{"cid": "bbb", "latitude_deg": 50}', 400, "longitude_deg: a number"),
        (b'{"cid": "bbb", "latitude_deg": NaN, "longitude_deg": 0}', 400, "the body is not JSON"),
        (b'{"cid": "bbb", "device_type": 5}', 400, "device_type: a string"),
        (b'{"cid": "bbb", "network_type": ""}', 400, "network_type: a string"),
        (b'{"cid": "bbb", "member": "m"}', 400, "member: a question has cid"),
        (b'{"cid": "zzz"}', 404, "no title 'zzz' is published; there are 1"),
        (b'{"cid": "' + b"b" * 20_000 + b'"}', 413, "at most"),
    ],
)
async def test_a_question_that_gets_no_says_why(registry: FakeRegistry, body: bytes, status: int, words: str) -> None:
    async with running(registry, known()) as (client, _):
        answer = await client.post("/steer", content=body, headers=VIEWER)
        assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
        assert (await client.post("/steer", json={"cid": "bbb"}, headers=VIEWER)).status_code == 200, "the rest goes on"


async def test_an_address_that_is_none_or_nobodys_is_refused_in_words(registry: FakeRegistry) -> None:
    tables = known()
    async with running(registry, tables) as (client, _):
        nonsense = await client.post("/steer", json={"cid": "bbb"}, headers={"x-forwarded-for": "999.1.1.1"})
        assert (nonsense.status_code, "'999.1.1.1' is no IPv4 or IPv6 address" in nonsense.text) == (400, True)
        stranger = (await client.post("/steer", json={"cid": "bbb"}, headers={"x-forwarded-for": "2001:db8::1"})).json()
        assert ([c["oca_id"] for c in stranger["candidates"]], stranger["client_prefix"]) == (["origin"], "")
        tables.ocas.table.remove("origin")
        nobody = await client.post("/steer", json={"cid": "bbb"}, headers={"x-forwarded-for": "2001:db8::1"})
        assert (nobody.status_code, "announced a prefix of this address" in nobody.json()["error"]) == (503, True)
        for oca_id in SERVERS:
            tables.healths.table[oca_id] = Health("DOWN", 0.0, "region loss")
        dead = await client.post("/steer", json={"cid": "bbb"}, headers=VIEWER)
        assert (dead.status_code, "in-2: health: DOWN, region loss" in dead.json()["error"]) == (503, True)
        assert dead.json()["rejected_count"] == 7


async def test_stale_tables_go_on_answering_and_say_so(registry: FakeRegistry) -> None:
    now_s = [0.0]
    tables = known()
    tables.healths = Healths(lambda: now_s[0])
    async with running(registry, tables) as (client, _):
        now_s[0] = 42.0
        answer = await client.post("/steer", json={"cid": "bbb"}, headers=VIEWER)
        assert (answer.status_code, answer.json()["stale_ms"]) == (200, 42_000)
        assert (await client.get("/healthz")).json()["tables"]["delivery.oca_health"]["age_ms"] == 42_000


async def test_while_nobody_says_what_it_holds_everybody_may_be_asked(registry: FakeRegistry) -> None:
    tables = known()
    tables.contents.table.clear()
    async with running(registry, tables) as (client, _):
        found = (await client.post("/steer", json={"cid": "bbb"}, headers=VIEWER)).json()
    assert (found["contents_known"], found["rejected_count"], len(found["candidates"]) > 5) == (False, 0, True)


async def test_who_may_pull_is_a_policy(registry: FakeRegistry) -> None:
    tables = known()
    for oca_id in SERVERS:
        tables.contents.fold(content(oca_id, False, version=2))
    tables.contents.fold(content("in-2", True, version=2))
    async with running(registry, tables, pulls=frozenset({"IX_STORAGE"})) as (client, _):
        found = (await client.post("/steer", json={"cid": "bbb"}, headers=VIEWER)).json()
    assert [c["oca_id"] for c in found["candidates"]] == ["in-2", "ix-1", "ix-2", "far-1", "origin"]
    assert found["candidates"][1]["reason"].endswith("it would have to pull it")


async def test_before_the_tables_are_read_it_says_so(registry: FakeRegistry) -> None:
    async with running(registry, Tables()) as (client, _):
        assert (await client.get("/healthz")).status_code == 503
        answer = await client.post("/steer", json={"cid": "bbb"}, headers=VIEWER)
        assert (answer.status_code, answer.headers["retry-after"], "has not been read" in answer.text) == (503, "2", True)


# --- content steering ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "said", "protocol"),
    [
        ("/steering.hls", {"_HLS_pathway": "cdn-a", "_HLS_throughput": "5000000"}, "HLS"),
        ("/steering.dash", {"_DASH_pathway": '"cdn-a,cdn-b"', "_DASH_throughput": "5000000,"}, "DASH"),
    ],
)
async def test_players_that_ask_by_themselves_get_the_same_decision(
    cluster: MockCluster, registry: FakeRegistry, path: str, said: dict[str, str], protocol: str
) -> None:
    async with running(registry, known()) as (client, _):
        query = {"cid": "bbb", "sid": "s-1", "pathways": "cdn-a,cdn-b", **said}
        answer = await client.get(path, params=query, headers=VIEWER)
        again = await client.get(f"/{answer.json()['RELOAD-URI']}&{urlencode(said)}", headers=VIEWER)
        asked = await client.post("/steer", json={"cid": "bbb", "sid": "s-1"}, headers=VIEWER)
        told = await asyncio.to_thread(records, cluster, registry, TOPIC, 3)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.headers["content-type"] == "application/json"
    assert violations(answer.json(), {"cdn-a", "cdn-b"}) == []
    assert answer.json()["PATHWAY-PRIORITY"] == [c["oca_id"] for c in asked.json()["candidates"]]
    assert answer.json()["TTL"] == TTL_S
    assert again.json() == answer.json(), "RELOAD-URI keeps session, version and pathways"
    urls = applied(answer.json(), {"cdn-a": "http://a.example/bbb/v2/manifest.mpd", "cdn-b": "http://b.example/"})
    assert list(urls.values()) == [c["manifest_url"] for c in asked.json()["candidates"]]
    assert sorted(event["protocol"] for event in told) == sorted([protocol, protocol, "PLAY"])


async def test_a_session_stays_on_its_pathway_and_leaves_it_when_it_is_slow_or_gone(registry: FakeRegistry) -> None:
    tables = known()
    async with running(registry, tables) as (client, _):

        async def priority(**said: str) -> list[str]:
            answer = await client.get("/steering.hls", params={"cid": "bbb", "sid": "s-1", **said}, headers=VIEWER)
            return list(answer.json()["PATHWAY-PRIORITY"])

        first, second = (await priority())[:2]
        assert (await priority(_HLS_pathway=second))[:2] == [second, first]
        tables.healths.table[second] = Health("DOWN", 0.0, "silent")
        assert second not in await priority(_HLS_pathway=second)


async def test_an_older_version_is_steered_for_those_who_play_it_and_a_newer_one_is_not_there(registry: FakeRegistry) -> None:
    async with running(registry, known()) as (client, _):
        old = await client.get("/steering.hls", params={"cid": "bbb", "version": "1", "sid": "s-1"}, headers=VIEWER)
        assert violations(old.json(), {"."}) == []
        assert "version=1" in old.json()["RELOAD-URI"]
        new = await client.get("/steering.hls", params={"cid": "bbb", "version": "3"}, headers=VIEWER)
        assert (new.status_code, "no version 3 of 'bbb' yet" in new.json()["error"]) == (404, True)


@pytest.mark.parametrize(
    ("path", "query", "words"),
    [
        ("/steering.hls", "cid=bbb&_HLS_throughput=fast", "_HLS_throughput='fast'"),
        ("/steering.hls", "cid=bbb&_HLS_pathway=a&_HLS_pathway=b", "_HLS_pathway is there twice"),
        ("/steering.dash", "cid=bbb&_DASH_pathway=a", "in double quotes"),
        ("/steering.hls", "cid=bbb&pathways=a,a", "each once"),
        ("/steering.hls", "cid=bbb&version=x", "version: a whole number"),
        ("/steering.hls", "cid=bbb&version=" + "9" * 5_000, "version: a whole number"),
        ("/steering.dash", "sid=s", "cid is missing"),
        ("/steering.dash", "cid=bbb&sid=a%0Ab", "sid: a string"),
    ],
)
async def test_queries_that_are_none_are_refused_in_words(registry: FakeRegistry, path: str, query: str, words: str) -> None:
    async with running(registry, known()) as (client, _):
        answer = await client.get(f"{path}?{query}", headers=VIEWER)
    assert (answer.status_code, words in answer.json()["error"]) == (400, True), answer.text


async def test_a_busy_service_asks_players_to_come_back_later_and_never_says_429(registry: FakeRegistry) -> None:
    async with running(registry, known()) as (client, service):
        service.lag_s = 1.0
        answer = await client.get("/steering.hls", params={"cid": "bbb"}, headers=VIEWER)
        assert (answer.status_code, answer.json()["TTL"]) == (200, BUSY_TTL_S)


async def test_tables_are_read_again_for_this_machine_only(registry: FakeRegistry) -> None:
    async with running(registry, known()) as (client, service):
        assert (await client.post("/admin/reload", headers={"origin": "http://page.example"})).status_code == 403
        transport = httpx.ASGITransport(app(service), client=("198.51.100.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://steering") as stranger:
            assert (await stranger.post("/admin/reload")).status_code == 403
        answer = await client.post("/admin/reload")
        assert (answer.status_code, "delivery.route" in answer.json()["reading"]) == (202, True)
