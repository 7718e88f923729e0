"""The collector: what is accepted and refused, and that nothing is answered before Kafka has it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2 as httpx
import pytest
from confluent_kafka import Producer
from starlette.types import ASGIApp

from edge import collector as module
from edge.collector import Collector, app
from edge.interactions import Interactions
from edge.judge import Judge
from edge.pseudonym import pseudonym
from infra.base.clock import FakeClock
from infra.base.settings import settings
from producers.emit import Emitter
from tests.broker import FakeRegistry, MockCluster, records

NOW_MS = 1_700_000_000_000
REPORT = "playback.report"
DEAD_LETTERS = "observability.dead_letter"


def genres(cid: str) -> list[str]:
    """What a small catalogue knows."""
    return ["animation", "family"] if cid == "bbb" else []


def line(sn: int = 1, ts: int = NOW_MS, rest: str = "") -> str:
    return f'e=ps,sid="s-1",sn={sn},sta=p,ts={ts},v=2' + (f",{rest}" if rest else "")


def client_at(application: ASGIApp, address: str) -> httpx.AsyncClient:
    """Somebody at an address, who asks over ASGI."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(application, client=(address, 1)), base_url="http://collector")


@asynccontextmanager
async def running(registry: FakeRegistry, producer: Producer | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running collector."""
    async with serving(registry, producer) as application, client_at(application, "127.0.0.1") as client:
        yield client


@asynccontextmanager
async def serving(registry: FakeRegistry, producer: Producer | None = None) -> AsyncIterator[ASGIApp]:
    """A collector with its lifespan, once it is ready (at once with a producer that will never be)."""
    emitter = Emitter("collector-1", registry=registry, clock=FakeClock(NOW_MS), producer=producer, background=True)
    collector = Collector(emitter, Judge(settings()), Interactions(settings(), genres))
    if producer is not None:
        collector.marked_at = float("inf")
    application = app(collector)
    try:
        async with application.router.lifespan_context(application):
            async with asyncio.timeout(20):
                while not collector.ready:
                    await asyncio.sleep(0.05)
            yield application
    finally:
        emitter.close(timeout_s=0.1 if producer else 30)


async def post(client: httpx.AsyncClient, body: str | bytes, address: str = "/cmcd", **headers: str) -> httpx.Response:
    named = {"content-type": "application/cmcd", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await client.post(address, content=body.encode() if isinstance(body, str) else body, headers=named)


async def test_a_report_is_on_the_topic_when_202_is_answered(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry) as client:
        text = line(7, NOW_MS - 3_000, 'com.headrace-member="m-1",br=(3000;v)')
        answer = await post(client, text, x_correlation_id="c-1")
        assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "rejected": []})
        (record,) = records(cluster, registry, REPORT, 1)
    told = {k: record[k] for k in ("sid", "sn", "e", "sta", "br_kbps", "correlation_id", "producer_id", "target", "member_id")}
    assert told == {
        "sid": "s-1", "sn": 7, "e": "ps", "sta": "p", "br_kbps": 3000, "correlation_id": "c-1", "producer_id": "collector-1",
        "target": "event:default", "member_id": pseudonym("m-1"),
    }  # fmt: skip
    assert record["event_time"].timestamp() * 1000 == NOW_MS - 3_000


async def test_the_plain_member_id_is_nowhere(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry) as client:
        await post(client, line(rest='com.headrace-member="member-in-plain-words"'), "/cmcd?com.headrace-region=eu")
        (message,) = cluster.messages(REPORT, 1, lambda message: b"s-1" in message.value())
    assert b"member-in-plain-words" not in message.value()


async def test_a_retry_keeps_its_event_id(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry) as client:
        for _ in range(2):
            await post(client, line(7))
        await post(client, line(7), "/cmcd?target=backup")
        ids = [record["event_id"] for record in records(cluster, registry, REPORT, 3)]
    assert len(set(ids)) == 2


async def test_refused_lines_are_named_and_dead_lettered_and_the_rest_goes_on(cluster: MockCluster, registry: FakeRegistry) -> None:
    late, early, huge = line(3, NOW_MS - 8 * 86_400_000), line(4, NOW_MS + 61_000), line(5, rest=f'com.x-y="{"a" * 20_000}"')
    bad = ["nonsense==", line(2, rest="bl=(-5)"), late, early, huge, "e=t,v=2"]
    async with running(registry) as client:
        answer = await post(client, "\n".join([line(1), *bad, line(6)]))
        assert answer.status_code == 202
        assert answer.json()["accepted"] == 2
        assert [(r["line"], r["key"], r["rule"]) for r in answer.json()["rejected"]] == [
            (2, "nonsense", "syntax"), (3, "bl", "range"), (4, "ts", "time_window"), (5, "ts", "time_window"), (6, "*", "size"),
            (7, "ts", "required"),
        ]  # fmt: skip
        letters = records(cluster, registry, DEAD_LETTERS, len(bad))
    assert {letter["payload"].decode(): letter["reason"] for letter in letters} == dict(
        zip(bad, ["invalid_cmcd", "invalid_cmcd", "time_window", "time_window", "size", "invalid_cmcd"], strict=True)
    )
    assert {(letter["component"], letter["topic"]) for letter in letters} == {("collector", REPORT)}


@pytest.mark.parametrize(
    ("body", "headers", "status", "rule"),
    [
        (b"", {}, 400, "empty"),
        (b"\n \n", {}, 400, "empty"),
        (b"not gzip", {"content_encoding": "gzip"}, 400, "gzip"),
        (gzip.compress(b"\0" * (20 << 20)), {"content_encoding": "gzip"}, 413, "size"),
        (b"x" * (1 << 20) + b"x", {}, 413, "size"),
        (line().encode(), {"content_encoding": "br"}, 415, "encoding"),
        (line().encode(), {"content_type": "image/png"}, 415, "media_type"),
        (b"{", {"content_type": "application/json"}, 400, "syntax"),
    ],
)
async def test_a_body_that_holds_no_reports_is_refused_and_dead_lettered(
    cluster: MockCluster, registry: FakeRegistry, body: bytes, headers: dict[str, str], status: int, rule: str
) -> None:
    async with running(registry) as client:
        answer = await post(client, body, **headers)
        assert answer.status_code == status
        assert [(r["line"], r["rule"]) for r in answer.json()["rejected"]] == [(0, rule)]
        (letter,) = records(cluster, registry, DEAD_LETTERS, 1)
    assert letter["payload"] == body[: 1 << 20]
    assert letter["reason"] == ("size" if rule == "size" else "invalid_cmcd")


async def test_a_batch_of_which_nothing_is_right_is_400(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry) as client:
        answer = await post(client, "zz\nyy")
    assert answer.status_code == 400
    assert [r["line"] for r in answer.json()["rejected"]] == [1, 2]


async def test_gzip_json_and_plain_text_are_taken(cluster: MockCluster, registry: FakeRegistry) -> None:
    told = {"e": "ps", "sta": "p", "sid": "s-1", "sn": 3, "ts": NOW_MS, "v": 2}
    async with running(registry) as client:
        assert (await post(client, gzip.compress(line(1).encode()), content_encoding="gzip")).status_code == 202
        assert (await post(client, line(2), content_type="text/plain;charset=UTF-8")).status_code == 202
        assert (await post(client, json.dumps([told]), content_type="application/json")).status_code == 202
        assert sorted(record["sn"] for record in records(cluster, registry, REPORT, 3)) == [1, 2, 3]


async def test_the_address_stands_for_keys_that_a_player_cannot_send(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry) as client:
        answer = await post(client, line(rest='com.headrace-device="tv"'), "/cmcd?com.headrace-device=web&com.headrace-region=eu")
        assert answer.status_code == 202
        (record,) = records(cluster, registry, REPORT, 1)
        assert (record["device_type"], record["region"]) == ("tv", "eu")
        refused = await post(client, line(), "/cmcd?nonsense=1")
    assert refused.status_code == 400
    assert "nonsense" in refused.text


async def test_a_browser_on_any_page_may_report(cluster: MockCluster, registry: FakeRegistry) -> None:
    asked = {
        "origin": "http://page",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-correlation-id",
    }
    async with running(registry) as client:
        preflight = await client.options("/cmcd", headers=asked)
        answer = await post(client, line(), origin="http://page")
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "content-type" in preflight.headers["access-control-allow-headers"]
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_too_much_at_once_is_429(cluster: MockCluster, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IN_FLIGHT", 6)
    async with running(registry) as client:
        answer = await post(client, "\n".join(line(sn) for sn in range(4)))
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert (await post(client, "\n".join(line(sn) for sn in range(3)))).status_code == 202


async def test_a_flood_does_not_take_the_place_of_others(
    cluster: MockCluster, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka is away, so whatever is let in stays: of a flood no more than half, and never what a player beside it needs."""
    monkeypatch.setattr(module, "ACKNOWLEDGE_WITHIN_S", 0.5)
    monkeypatch.setattr(module, "MAX_IN_FLIGHT", 1_000)
    unreachable = Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    body = "\n".join(line(sn) for sn in range(20))
    async with (
        serving(registry, unreachable) as application,
        client_at(application, "10.0.0.1") as flood,
        client_at(application, "10.0.0.2") as player,
    ):
        flooding = [asyncio.create_task(post(flood, body)) for _ in range(200)]
        while not any(task.done() for task in flooding):
            await asyncio.sleep(0)
        answer = await post(player, body)
        assert "Kafka does not keep up" in answer.json()["error"], "the player was let in"
        answers = await asyncio.gather(*flooding)
        unreachable.purge()
    assert [a.status_code for a in answers].count(503) == 1_000 // 2 // 20
    refused = [a for a in answers if a.status_code == 429]
    assert len(refused) == 200 - 1_000 // 2 // 20
    assert all(a.headers["retry-after"] == "1" and "10.0.0.1" in a.json()["error"] for a in refused)


@pytest.mark.parametrize("queue", [1, 1_000])
async def test_a_kafka_that_does_not_acknowledge_is_503(
    cluster: MockCluster, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, queue: int
) -> None:
    monkeypatch.setattr(module, "ACKNOWLEDGE_WITHIN_S", 0.2)
    unreachable = Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0, "queue.buffering.max.messages": queue})
    async with running(registry, unreachable) as client:
        answer = await post(client, "\n".join(line(sn) for sn in range(5)))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert "Kafka does not keep up" in answer.json()["error"]
        assert (await client.get("/healthz")).json()["in_flight"] == 0
        unreachable.purge()


async def test_without_a_registry_nothing_is_ready_until_it_comes(cluster: MockCluster, registry: FakeRegistry) -> None:
    registry.down = True
    emitter = Emitter("collector-1", registry=registry, clock=FakeClock(NOW_MS), background=True)
    collector = Collector(emitter, Judge(settings()), Interactions(settings(), genres))
    application = app(collector)
    transport = httpx.ASGITransport(application)
    async with application.router.lifespan_context(application), httpx.AsyncClient(transport=transport, base_url="http://c") as client:
        assert (await client.get("/healthz")).status_code == 503
        assert (await post(client, line())).status_code == 503
        registry.down = False
        async with asyncio.timeout(20):
            while (await client.get("/healthz")).status_code != 200:
                await asyncio.sleep(0.05)
        assert (await post(client, line())).status_code == 202
    emitter.close()


async def test_markers_come_every_second_to_each_partition(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry):
        markers = await asyncio.to_thread(cluster.messages, REPORT, 8)
    assert {message.partition() for message in markers} == {0, 1, 2, 3}


async def test_many_clients_at_once_each_get_their_own_answer(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry) as client:
        answers = await asyncio.gather(*(post(client, "\n".join([line(n * 10 + k) for k in range(n % 5)] + ["zz"])) for n in range(60)))
        assert [answer.json()["accepted"] for answer in answers] == [n % 5 for n in range(60)]
        assert len(records(cluster, registry, REPORT, sum(n % 5 for n in range(60)))) == 120
