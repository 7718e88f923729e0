"""The outbox: time markers for those who wait for event time, and none that overtakes what is held."""

from __future__ import annotations

import asyncio

from edge.outbox import Outbox, meanwhile
from infra.base.clock import FakeClock
from producers.emit import Emitter
from schemas.catalogue import catalogue
from tests.broker import FakeRegistry, MockCluster

TOPIC = catalogue().topic("delivery.steering")


async def test_a_marker_goes_to_each_partition_and_only_from_those_who_are_asked_to(cluster: MockCluster, registry: FakeRegistry) -> None:
    for marks in (True, False):
        with Emitter(f"steering-{marks}", registry=registry, clock=FakeClock(), background=True) as emitter:
            async with meanwhile(Outbox(emitter, TOPIC.name, marks=marks).drain()), asyncio.timeout(10):
                while marks and emitter.counts.acknowledged < TOPIC.partitions:
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0)
            assert emitter.counts.sent == TOPIC.partitions * marks


async def test_no_marker_overtakes_what_is_held(cluster: MockCluster, registry: FakeRegistry) -> None:
    with Emitter("steering-1", registry=registry, background=True) as emitter:
        outbox = Outbox(emitter, TOPIC.name, marks=True)
        outbox.put({"cid": "of no contract"}, 1, "")
        assert outbox.held == 1
        async with meanwhile(outbox.drain()), asyncio.timeout(10):
            while emitter.counts.acknowledged < TOPIC.partitions:
                await asyncio.sleep(0.02)
        assert (outbox.held, outbox.lost) == (0, 1)
