"""Flags at the press of play: what members get, what is told of it, and what becomes of definitions that cannot be."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2 as httpx
import pytest
import yaml

from edge.flags import TOPIC, Definitions, Flags
from edge.gateway import Gateway, app
from edge.outbox import Outbox
from edge.pseudonym import pseudonym
from producers.emit import Emitter
from schemas.allocation.definition import dump, read
from schemas.allocation.engine import Context
from streams.folded import Unfit
from tests.broker import FakeRegistry, MockCluster, records
from tests.edge.test_gateway import OCAS, published, table

FLAG = {"kind": "flag", "key": "abr_rule", "owner": "o", "type": "string", "default": "policy", "unit": "member_id"}
HOLDOUT = {"kind": "holdout", "key": "h", "owner": "o", "unit": "member_id", "share": 0.5}
EXPERIMENT = {
    "kind": "experiment", "key": "rule", "owner": "o", "flag": "abr_rule", "unit": "member_id", "state": "running", "phase": 3,
    "segments": {"device_type": ["tv", "web"], "country": ["NL"]},
    "variations": [{"key": "control", "weight": 0.5, "value": "policy"}, {"key": "bola", "weight": 0.5, "value": "bola"}],
}  # fmt: skip


def told(written: dict[str, Any], **other: Any) -> dict[str, Any]:
    """Its `experiments.definition`."""
    definition = read(yaml.safe_dump(written))
    item = f"{definition.kind}/{definition.key}"
    about = {"item": item, "kind": definition.kind, "key": definition.key, "version": 1, "action": "PUBLISH", "author": "a"}
    return {"marker": False, **about, "document": dump(definition), **other}


def defined(*events: dict[str, Any], caught_up: bool = True) -> Definitions:
    """As they are read when a process begins: all, and then what follows from them."""
    definitions = Definitions()
    for event in events:
        definitions.into(definitions.table, event)
    definitions.settle(definitions.table)
    definitions.caught_up = caught_up
    return definitions


async def pressed(registry: FakeRegistry, definitions: Definitions, *presses: dict[str, Any]) -> list[httpx.Response]:
    with Emitter("gateway", registry=registry, background=True) as emitter:
        flags = Flags(definitions, Outbox(emitter, TOPIC))
        requests = Outbox(emitter, "control.request")
        gateway = Gateway(table(published()), requests, lambda: 1_795_600_000_000, OCAS, "http://collector:80", flags=flags)
        application = app(gateway)
        transport = httpx.ASGITransport(application)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
        ):
            answers = [await client.post("/play", json={"title": "bbb", **press}) for press in presses]
            async with asyncio.timeout(10):
                while flags.outbox.held:
                    await asyncio.sleep(0.02)
        return answers


async def test_a_member_gets_his_variation_and_is_exposed_to_it(cluster: MockCluster, registry: FakeRegistry) -> None:
    presses = [{"member": f"m-{n % 40}", "device_type": "tv", "region": "eu-west"} for n in range(80)]
    definitions = defined(told({**EXPERIMENT, "holdouts": ["h"]}), told(FLAG), told(HOLDOUT))
    answers = await pressed(registry, definitions, *presses, {"member": "m-1", "title": "zzz"})
    exposures = await asyncio.to_thread(records, cluster, registry, TOPIC, 80)
    given = [answer.json()["flags"] for answer in answers[:80]]
    assert given[:40] == given[40:]
    assert {flags["abr_rule"] for flags in given} == {"policy", "bola"}
    assert all(flags.keys() == {"abr_rule"} for flags in given)
    by_sid = {exposure["sid"]: exposure for exposure in exposures}
    for press, answer, flags in zip(presses, answers, given, strict=False):
        exposure = by_sid.pop(answer.json()["sid"])
        assert (exposure["unit"], exposure["unit_name"]) == (pseudonym(press["member"]), "member_id")
        assert exposure["segments"] == {"device_type": "tv"} or exposure["variations"] == {"holdout.h.0": "held"}
        assert exposure["event_time"].timestamp() * 1000 == 1_795_600_000_000
        if exposure["variations"]["holdout.h.0"] == "held":
            assert (exposure["variations"], flags["abr_rule"]) == ({"holdout.h.0": "held"}, "policy")
        else:
            dealt = {"control": "policy", "bola": "bola"}[exposure["variations"]["rule.3"]]
            assert flags["abr_rule"] == dealt
    assert by_sid == {}
    assert answers[80].status_code == 404


async def test_who_wants_no_experiment_is_in_none(cluster: MockCluster, registry: FakeRegistry) -> None:
    out: dict[str, Any] = {"member": "m-1", "experiments": False}
    answers = await pressed(registry, defined(told(EXPERIMENT), told(FLAG)), out, {"member": "m-1"}, {**out, "experiments": "no"})
    assert [answer.status_code for answer in answers] == [200, 200, 400]
    assert answers[0].json()["flags"] == {"abr_rule": "policy"}
    assert [one["sid"] for one in await asyncio.to_thread(records, cluster, registry, TOPIC, 1)] == [answers[1].json()["sid"]]


async def test_until_the_definitions_are_read_players_keep_their_own_and_nobody_is_exposed(
    cluster: MockCluster, registry: FakeRegistry
) -> None:
    early = await pressed(registry, defined(told(EXPERIMENT), told(FLAG), caught_up=False), {"member": "m-1"})
    late = await pressed(registry, defined(told(EXPERIMENT), told(FLAG)), {"member": "m-1"})
    assert (early[0].status_code, early[0].json()["flags"]) == (200, {})
    assert [one["sid"] for one in await asyncio.to_thread(records, cluster, registry, TOPIC, 1)] == [late[0].json()["sid"]]


def test_who_is_forced_is_not_told_and_flags_of_other_places_are_not_asked() -> None:
    elsewhere = {**FLAG, "key": "artwork", "asked_at": "home"}
    forced = {**EXPERIMENT, "forced": {"bola": ["m-1"]}}
    allocation = defined(told(FLAG), told(elsewhere), told(forced)).table.allocation
    assert allocation.flags == ("abr_rule",)
    decisions = [allocation.table.decide("abr_rule", _context("m-1"))]
    assert decisions[0].value == "bola"
    assert list(allocation.exposures(decisions, {"member_id": "m-1"})) == []


@pytest.mark.parametrize(("said", "segment"), [("tv", "tv"), ("TV", "other"), ("", "other"), ("other", "other"), ("'; --", "other")])
def test_segments_are_those_that_are_listed(said: str, segment: str) -> None:
    allocation = defined(told(FLAG), told(EXPERIMENT)).table.allocation
    attributes = {"member_id": "m-1", "device_type": said, "network_type": "fibre"}
    (exposure,) = allocation.exposures([allocation.table.decide("abr_rule", Context(attributes))], attributes)
    assert exposure["segments"] == {"device_type": segment}


def test_what_cannot_be_is_left_out_and_the_rest_goes_on() -> None:
    second = {**EXPERIMENT, "key": "other"}
    lame = {**EXPERIMENT, "key": "lame", "flag": "gone"}
    definitions = defined(told(second), told(lame), told(FLAG), told(EXPERIMENT))
    assert set(definitions.table.accepted) == {"flag/abr_rule", "experiment/other"}
    assert definitions.refused == 2
    definitions.fold(told({**EXPERIMENT, "key": "other", "state": "stopped"}, version=2))
    assert set(definitions.table.accepted) == {"flag/abr_rule", "experiment/other", "experiment/rule"}
    definitions.fold(told({**FLAG, "key": "gone"}))
    assert "experiment/lame" in definitions.table.accepted
    assert (definitions.refused, definitions.table.waiting) == (2, {})


def test_a_version_that_cannot_be_leaves_the_one_before_it() -> None:
    definitions = defined(told(FLAG), told(EXPERIMENT))
    before = definitions.table.allocation.table.decide("abr_rule", _context("m-1")).value
    for wrong in (
        told(FLAG, version=2, document=""),
        told(
            {**EXPERIMENT, "variations": [{"key": "a", "weight": 0.3, "value": "x"}, {"key": "b", "weight": 0.3, "value": "y"}]}, version=2
        ),
    ):
        definitions.fold(wrong)
        assert definitions.table.allocation.table.decide("abr_rule", _context("m-1")).value == before
    assert set(definitions.table.accepted) == {"flag/abr_rule", "experiment/rule"}
    definitions.fold(told(EXPERIMENT, version=3, document=""))
    assert definitions.table.accepted == {}


def test_a_document_that_is_none_is_refused_when_it_is_read() -> None:
    definitions = defined(told(FLAG), told(EXPERIMENT))
    for document, words in (
        ("{", "not JSON"),
        ('{"kind": "flag"}', "key: Field required"),
        (told(FLAG)["document"], "defines flag/abr_rule"),
    ):
        with pytest.raises(Unfit, match=words):
            definitions.fold(told(EXPERIMENT, document=document))
    assert len(definitions.table.accepted) == 2


def _context(member: str) -> Context:
    return Context({"member_id": member})
