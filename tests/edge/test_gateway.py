"""The gateway: who may play what from where, in words when not, and a request event for each."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx
import pytest

from edge.gateway import Gateway, app, rank
from edge.outbox import Outbox
from edge.pseudonym import pseudonym
from edge.titles import Titles
from producers.emit import Emitter
from tests.broker import FakeRegistry, MockCluster, records
from tests.kit import eventually

OCAS = ["http://oca-1:80", "http://oca-2:80", "http://oca-3:80"]


def published(cid: str = "bbb", version: int = 1, **other: Any) -> dict[str, Any]:
    below = f"{cid}/v{version}"
    paths = {"dash_path": f"{below}/manifest.mpd", "hls_path": f"{below}/master.m3u8"}
    told = {"cid": cid, "version": version, "title": f"The {cid}", "duration_ms": 5_000, "rungs": 3, "bytes": 1, "sha256": "0", **paths}
    return {**told, **other}


def table(*events: dict[str, Any], caught_up: bool = True) -> Titles:
    titles = Titles()
    for event in events:
        titles.fold({"marker": False, **event})
    titles.caught_up = caught_up
    return titles


@asynccontextmanager
async def running(registry: FakeRegistry, titles: Titles, oca_urls: list[str] = OCAS) -> AsyncIterator[httpx.AsyncClient]:
    with Emitter("gateway", registry=registry, background=True) as emitter:
        gateway = Gateway(titles, Outbox(emitter, "control.request"), emitter.clock.now_ms, oca_urls, "http://collector:80")
        application = app(gateway)
        transport = httpx.ASGITransport(application)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
        ):
            yield client
            async with asyncio.timeout(10):
                while gateway.outbox.held:
                    await asyncio.sleep(0.02)


async def test_a_press_of_play_gets_a_ticket(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry, table(published())) as client:
        answer = await client.post("/play", json={"title": "bbb", "member": "m-1"})
        by_name = await client.get("/play", params={"title": "The bbb", "member": "m-1"}, headers={"x-correlation-id": "mine"})
        asked = await asyncio.to_thread(records, cluster, registry, "control.request", 2)
    ticket = answer.json()
    assert answer.status_code == 200
    assert sorted(ticket["manifest_urls"]) == [f"{oca}/bbb/v1/manifest.mpd" for oca in OCAS]
    assert sorted(ticket["hls_urls"]) == [f"{oca}/bbb/v1/master.m3u8" for oca in OCAS]
    assert {k: ticket[k] for k in ("cid", "title", "duration_ms", "collector_url")} == {
        "cid": "bbb", "title": "The bbb", "duration_ms": 5_000, "collector_url": "http://collector:80/cmcd",
    }  # fmt: skip
    assert answer.headers["x-correlation-id"] == ticket["correlation_id"]
    assert (by_name.json()["correlation_id"], by_name.headers["x-correlation-id"]) == ("mine", "mine")
    assert by_name.json()["sid"] != ticket["sid"]
    told = {record["correlation_id"]: record for record in asked}
    first = told[ticket["correlation_id"]]
    assert {k: first[k] for k in ("route", "method", "path", "rc", "member_id", "sid", "cid")} == {
        "route": "play", "method": "POST", "path": "/play", "rc": 200, "member_id": pseudonym("m-1"), "sid": ticket["sid"], "cid": "bbb",
    }  # fmt: skip
    assert first["latency_us"] > 0


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"title": "zzz", "member": "m"}', 404, "no title 'zzz'"),
        (b"nonsense", 400, "not JSON"),
        (b"[]", 400, "title is missing"),
        (b'{"title": "bbb"}', 400, "member is missing"),
        (b'{"title": "bbb", "member": ""}', 400, "member is missing"),
        (b'{"title": 5, "member": "m"}', 400, "title is missing"),
        (b'{"title": "bbb", "member": "' + b"m" * 201 + b'"}', 400, "1 to 200 characters"),
        (b'{"title": "' + b"b" * 20_000 + b'"}', 413, "at most"),
        (b"[" * 10_000, 400, "not JSON"),
    ],
)
async def test_a_press_that_gets_no_says_why(cluster: MockCluster, registry: FakeRegistry, body: bytes, status: int, words: str) -> None:
    async with running(registry, table(published())) as client:
        answer = await client.post("/play", content=body)
        (asked,) = await asyncio.to_thread(records, cluster, registry, "control.request", 1)
    assert answer.status_code == asked["rc"] == status
    assert words in answer.json()["error"]
    assert answer.headers["x-correlation-id"] == asked["correlation_id"] != ""


async def test_a_table_that_has_not_been_read_is_no_reason_for_404(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry, table(published(), caught_up=False)) as client:
        assert (await client.get("/healthz")).status_code == 503
        unknown = await client.post("/play", json={"title": "zzz", "member": "m"})
        known = await client.post("/play", json={"title": "bbb", "member": "m"})
    assert (unknown.status_code, unknown.headers["retry-after"], known.status_code) == (503, "2", 200)


async def test_without_cache_servers_it_says_so(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry, table(published()), []) as client:
        answer = await client.post("/play", json={"title": "bbb", "member": "m"})
    assert (answer.status_code, "oca_urls" in answer.text) == (503, True)


async def test_titles_manifests_and_reports_find_their_way(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry, table(published(), published("life"))) as client:
        assert [title["cid"] for title in (await client.get("/titles")).json()["titles"]] == ["bbb", "life"]
        for asked, path in (("bbb", "manifest.mpd"), ("bbb.mpd", "manifest.mpd"), ("bbb.m3u8", "master.m3u8")):
            answer = await client.get(f"/manifest/{asked}")
            assert answer.status_code == 307
            assert answer.headers["location"] in [f"{oca}/bbb/v1/{path}" for oca in OCAS]
        report = await client.post("/cmcd?target=x", content=b"")
        assert (report.status_code, report.headers["location"]) == (307, "http://collector:80/cmcd?target=x")
        nowhere = await client.get("/nowhere")
        assert (nowhere.status_code, "POST /play" in nowhere.json()["error"]) == (404, True)
        asked_for = await asyncio.to_thread(records, cluster, registry, "control.request", 6)
    assert Counter(record["route"] for record in asked_for) == {"titles": 1, "manifest": 3, "cmcd": 1, "none": 1}


async def test_presses_are_answered_while_kafka_and_registry_are_away(cluster: MockCluster, registry: FakeRegistry) -> None:
    registry.down = True
    async with running(registry, table(published())) as client:
        for _ in range(3):
            assert (await client.post("/play", json={"title": "bbb", "member": "m"})).status_code == 200
        assert (await client.get("/healthz")).json()["events_held"] == 3
        registry.down = False
    assert len(records(cluster, registry, "control.request", 3)) == 3


def test_the_newest_version_counts_in_whatever_order_it_came() -> None:
    titles = table(published(version=2), published(version=1), {**published(version=9), "marker": True})
    assert [(title.version, title.dash_path) for title in titles.all()] == [(2, "bbb/v2/manifest.mpd")]


def test_the_table_is_read_from_the_topic(cluster: MockCluster, registry: FakeRegistry) -> None:
    with Emitter("encoder", registry=registry) as emitter:
        emitter.send("encoding.published", published(), partition=0)
    titles = Titles()
    reading = threading.Thread(target=titles.follow, args=(registry.schema,))
    reading.start()
    try:
        eventually(lambda: titles.find("bbb"))
        assert titles.caught_up
        with Emitter("encoder", registry=registry) as emitter:
            emitter.send("encoding.published", published("life"), partition=0)
        eventually(lambda: titles.find("The life"))
    finally:
        titles.stop()
        reading.join()


def test_sessions_are_spread_over_the_cache_servers_and_stay_where_they_are() -> None:
    sids = [f"s-{n}" for n in range(3_000)]
    first = Counter(rank(OCAS, sid)[0] for sid in sids)
    assert all(900 < count < 1_100 for count in first.values())
    left = OCAS[:2]
    assert all(rank(left, sid)[0] == rank(OCAS, sid)[0] for sid in sids if rank(OCAS, sid)[0] in left)
    assert all(sorted(rank(OCAS, sid)) == OCAS for sid in sids)
