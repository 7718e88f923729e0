"""Experiments by HTTP: what a member would get, what is done and by whom, and who may not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx
import pytest
import yaml

from edge.experiments import Experiments
from edge.flags import Definitions
from edge.gateway import Gateway, app
from edge.outbox import Outbox
from edge.pseudonym import pseudonym
from infra.base.registry import RegistryClient
from producers import emit
from producers.emit import Emitter
from producers.experiments.publish import CHANGE, DEFINITION, desk, publish
from schemas.allocation.definition import read
from schemas.catalogue import catalogue
from tests.broker import FakeRegistry, MockCluster, records
from tests.edge.test_flags import EXPERIMENT, FLAG, defined, told
from tests.edge.test_gateway import OCAS, published, table

WHO = {"author": "ada", "reason": "because"}


@asynccontextmanager
async def running(
    registry: FakeRegistry, definitions: Definitions, peer: str = "127.0.0.1", token: str = ""
) -> AsyncIterator[httpx.AsyncClient]:
    with Emitter("gateway", registry=registry, background=True) as emitter:
        experiments = Experiments(definitions, lambda: 0, token)
        gateway = Gateway(table(published()), Outbox(emitter, "control.request"), lambda: 0, OCAS, "http://c", experiments=experiments)
        transport = httpx.ASGITransport(app(gateway), client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield client


async def test_what_a_member_would_get_and_why(cluster: MockCluster, registry: FakeRegistry) -> None:
    async with running(registry, defined(told(FLAG), told(EXPERIMENT))) as client:
        answer = (await client.get("/experiments/flags", params={"member": "m-1"})).json()
        whose = await client.get("/experiments/flags")
    assert answer["unit"] == pseudonym("m-1")
    dealt = answer["flags"]["abr_rule"]
    assert dealt in [
        {"value": value, "reason": "experiment", "by": "rule", "variation": key} for value, key in (("policy", "control"), ("bola", "bola"))
    ]
    assert whose.status_code == 400
    async with running(registry, defined(told(FLAG), caught_up=False)) as client:
        assert (await client.get("/experiments/flags", params={"member": "m-1"})).status_code == 503


async def test_an_experiment_is_stopped_and_started_again(
    cluster: MockCluster, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emit, "RegistryClient", lambda: registry)
    for name in ("schema", "lookup"):
        monkeypatch.setattr(RegistryClient, name, lambda _, *given, name=name: getattr(FakeRegistry, name)(registry, *given))
    for topic in (DEFINITION, CHANGE):
        cluster.make(topic, catalogue().topic(topic).partitions)
    with Emitter("experiments", registry=registry) as emitter:
        publish(emitter, desk(registry.schema, "ada").publish([_read(FLAG), _read(EXPERIMENT)]), registry.schema)
    async with running(registry, defined()) as client:
        stopped = await client.post("/experiments/rule/stop", json=WHO)
        again = await client.post("/experiments/rule/stop", json=WHO)
        back = await client.post("/experiments/rule/roll-back", json={"author": "bob"})
    assert stopped.json() == {"changes": [{"item": "experiment/rule", "version": 2, "action": "STOP", "undoes": None}]}
    assert (again.status_code, "experiment rule is stopped" in again.json()["error"]) == (409, True)
    assert back.json() == {"changes": [{"item": "experiment/rule", "version": 3, "action": "ROLL_BACK", "undoes": 1}]}
    changes = await asyncio.to_thread(records, cluster, registry, CHANGE, 4)
    assert [(change["action"], change["author"], change["reason"]) for change in changes] == [
        ("PUBLISH", "ada", ""), ("PUBLISH", "ada", ""), ("STOP", "ada", "because"), ("ROLL_BACK", "bob", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("peer", "token", "headers", "status"),
    [
        ("192.0.2.1", "", {}, 403),
        ("192.0.2.1", "", {"authorization": "Bearer "}, 403),
        ("192.0.2.1", "right", {"authorization": "Bearer wrong"}, 403),
        ("127.0.0.1", "", {"x-forwarded-for": "192.0.2.1"}, 403),
        ("127.0.0.1", "", {"origin": "http://elsewhere"}, 403),
        ("192.0.2.1", "right", {"authorization": "Bearer right"}, 404),
        ("127.0.0.1", "right", {}, 404),
    ],
)
async def test_strangers_may_not(
    cluster: MockCluster, registry: FakeRegistry, peer: str, token: str, headers: dict[str, str], status: int
) -> None:
    async with running(registry, defined(), peer, token) as client:
        answer = await client.post("/experiments/rule/explode", json=WHO, headers=headers)
    assert answer.status_code == status


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"author": ""}', b'{"author": 7}', b"nonsense"])
async def test_who_does_it_is_asked(cluster: MockCluster, registry: FakeRegistry, body: bytes) -> None:
    async with running(registry, defined()) as client:
        assert (await client.post("/experiments/rule/stop", content=body)).status_code == 400


def _read(written: dict[str, Any]) -> Any:

    return read(yaml.safe_dump(written))
