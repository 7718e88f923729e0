"""The gateway sends plays where steering says, and anywhere while that knows nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx

from edge.gateway import Gateway, app
from edge.outbox import Outbox
from edge.sign import Keys
from edge.steering.rank import Health
from edge.steering.routes import prefix
from edge.steering.steer import TOPIC, Steering
from edge.steering.tables import Tables
from producers.emit import Emitter
from streams.playback.features import Session, rows
from tests.broker import FakeRegistry, MockCluster, records
from tests.edge.steering.test_service import VIEWER, known
from tests.edge.steering.world import HOME, SERVERS

ANYWHERE = ["http://any-1:80", "http://any-2:80"]
PRESS = {"title": "bbb", "member": "m-1"}


@asynccontextmanager
async def running(registry: FakeRegistry, tables: Tables, keys: Keys | None = None) -> AsyncIterator[httpx.AsyncClient]:
    with Emitter("gateway", registry=registry, background=True) as emitter:
        now_ms = emitter.clock.now_ms
        steering = Steering(tables, Outbox(emitter, TOPIC), now_ms, keys, 60, frozenset(), [prefix("127.0.0.0/8")])
        outbox = Outbox(emitter, "control.request")
        application = app(Gateway(tables.titles, outbox, now_ms, ANYWHERE, "http://collector:80", steering=steering))
        transport = httpx.ASGITransport(application, client=("127.0.0.1", 1))
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
        ):
            yield client
            async with asyncio.timeout(10):
                while outbox.held or steering.outbox.held:
                    await asyncio.sleep(0.02)


def features(sessions: int) -> list[dict[str, Any]]:
    """Rows of abr_features after so many sessions on fibre, and as many that are half as fast on cellular."""
    plain = {"began_ms": 0, "over_ms": 0, "prefix": HOME, "isp_asn": None, "region": "", "freedom": 9, "scatter": 10**8, "stalled": False}
    fibre = Session(**plain, device_type="tv", network_type="fibre", mean=160_000, start_mean=160_000)
    cellular = replace(fibre, device_type="phone", network_type="cellular", mean=153_000, start_mean=153_000)
    at = datetime(2026, 3, 1, tzinfo=UTC)
    return [{**row, "event_time": at} for row in rows([fibre, cellular] * sessions)]


def hosts(urls: list[str]) -> list[str | None]:
    return [urlsplit(url).hostname for url in urls]


async def test_a_press_of_play_goes_where_steering_says(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry, known()) as client:
        ticket = (await client.post("/play", json=PRESS, headers=VIEWER)).json()
        (told,) = await asyncio.to_thread(records, cluster, registry, TOPIC, 1)
        manifest = await client.get("/manifest/bbb.m3u8", headers=VIEWER)
    assert hosts(ticket["manifest_urls"])[0] in ("in-2", "in-3", "in-4")
    assert hosts(ticket["manifest_urls"])[-4:] == ["ix-1", "ix-2", "far-1", "origin"]
    assert hosts(ticket["hls_urls"]) == hosts(ticket["manifest_urls"])
    assert (ticket["manifest_urls"][0].endswith("/bbb/v2/manifest.mpd"), ticket["hls_urls"][0].endswith("/bbb/v2/master.m3u8")) == (
        True,
        True,
    )
    assert (told["sid"], told["correlation_id"], told["client_prefix"]) == (ticket["sid"], ticket["correlation_id"], HOME)
    assert [c["oca_id"] for c in told["candidates"] if c["rank"]] == hosts(ticket["manifest_urls"])
    assert urlsplit(manifest.headers["location"]).hostname in ("in-2", "in-3", "in-4")


async def test_a_ticket_says_what_throughput_may_be_expected_once_anything_is_known(cluster: MockCluster, registry: FakeRegistry) -> None:
    tables = known()
    async with running(registry, tables) as client:
        before = (await client.post("/play", json=PRESS, headers=VIEWER)).json()
        for row in features(20):
            tables.priors.fold({"marker": False, **row})
        tickets = [
            (await client.post("/play", json={**PRESS, **used}, headers=VIEWER)).json()
            for used in ({}, {"device_type": "tv", "network_type": "fibre"}, {"device_type": "phone", "network_type": "cellular"})
        ]
        refused = await client.post("/play", json={**PRESS, "device_type": 4}, headers=VIEWER)
    assert "prior" not in before
    anything, fast, slow = (ticket["prior"]["mean_log_kbps"] for ticket in tickets)
    assert slow < anything < fast
    assert set(tickets[0]["prior"]) == {"mean_log_kbps", "sd_log_kbps", "weight"}
    assert (refused.status_code, refused.json()["error"]) == (400, "device_type: a string of at most 200 characters, or left out")


async def test_urls_are_signed_for_the_session_that_was_made(cluster: MockCluster, registry: FakeRegistry) -> None:
    keys = Keys({"k": b"secret"})
    async with running(registry, known(), keys) as client:
        ticket = (await client.post("/play", json=PRESS, headers=VIEWER)).json()
    for url in (*ticket["manifest_urls"], *ticket["hls_urls"]):
        assert keys.verify(urlsplit(url).path, "", 0)[1].sid == ticket["sid"]


async def test_while_steering_knows_no_server_sessions_are_spread_over_the_settings(cluster: MockCluster, registry: FakeRegistry) -> None:
    tables = known()
    for oca_id in SERVERS:
        tables.ocas.table.remove(oca_id)
    async with running(registry, tables) as client:
        ticket = (await client.post("/play", json=PRESS, headers=VIEWER)).json()
    assert sorted(map(str, hosts(ticket["manifest_urls"]))) == ["any-1", "any-2"]


async def test_where_nobody_may_take_a_play_any_server_is_better_than_none(cluster: MockCluster, registry: FakeRegistry) -> None:
    tables = known()
    tables.healths.table.update({oca_id: Health("DOWN", 0.0, "region loss") for oca_id in SERVERS})
    async with running(registry, tables) as client:
        ticket = (await client.post("/play", json=PRESS, headers=VIEWER)).json()
        (told,) = await asyncio.to_thread(records, cluster, registry, TOPIC, 1)
    assert sorted(map(str, hosts(ticket["manifest_urls"]))) == ["any-1", "any-2"]
    assert (told["best_oca_id"], told["rejected"]) == ("", 8)


async def test_an_address_that_is_none_is_refused_in_words(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry, known()) as client:
        answer = await client.post("/play", json=PRESS, headers={"x-forwarded-for": "me"})
    assert (answer.status_code, "'me' is no IPv4" in answer.json()["error"]) == (400, True)
