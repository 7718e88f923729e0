"""A topic folded into memory: what is read, what is left out, how old it is, and that it answers while it is read again."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from infra.base import kafka
from producers.emit import Emitter
from schemas.codec import HEADER
from streams.folded import Folded, Unfit
from tests.broker import FakeRegistry, MockCluster
from tests.kit import eventually


class Loads(Folded[dict[str, float]]):
    """Load by server; a negative one cannot be."""

    topic = "delivery.oca_health"

    def new(self) -> dict[str, float]:
        return {}

    def into(self, table: dict[str, float], record: Mapping[str, Any]) -> None:
        if record["load"] < 0:
            raise Unfit("negative")
        table[record["oca_id"]] = record["load"]


def health(oca_id: str, load: float) -> dict[str, Any]:
    return {"oca_id": oca_id, "state": "UP", "reason": "", "load": load, "failed_sessions": 0, "requests": 0}


@contextmanager
def following(table: Folded[Any], registry: FakeRegistry) -> Iterator[None]:
    thread = threading.Thread(target=table.follow, args=(registry.schema,))
    thread.start()
    try:
        yield
    finally:
        table.stop()
        thread.join()


def test_it_holds_what_is_on_the_topic_and_leaves_out_what_cannot_be(cluster: MockCluster, registry: FakeRegistry) -> None:
    with Emitter("job", registry=registry) as emitter:
        for oca_id, load in (("oca-1", 0.5), ("oca-2", -1.0), ("oca-1", 0.7)):
            emitter.send(Loads.topic, health(oca_id, load), partition=0)
        emitter.mark(Loads.topic)
        assert emitter.flush() == 0
        loads = Loads()
        with following(loads, registry):
            eventually(lambda: loads.caught_up)
            assert (loads.table, loads.refused) == ({"oca-1": 0.7}, 1)
            emitter.send(Loads.topic, health("oca-3", 0.1), partition=0)
            eventually(lambda: "oca-3" in loads.table)


def exists(registry: FakeRegistry) -> None:
    """The mock broker makes a topic when somebody writes to it."""
    with Emitter("job", registry=registry) as emitter:
        emitter.mark(Loads.topic)


def test_a_topic_of_nothing_but_markers_is_read_to_its_end(cluster: MockCluster, registry: FakeRegistry) -> None:
    exists(registry)
    loads = Loads()
    with following(loads, registry):
        eventually(lambda: loads.caught_up)
    assert loads.table == {}


def test_it_grows_old_while_the_broker_is_away(registry: FakeRegistry, cluster: MockCluster) -> None:
    exists(registry)
    now_s = [100.0]
    loads = Loads(lambda: now_s[0])
    now_s[0] += 3
    assert loads.age_ms == 3_000, "it has never been complete"
    with following(loads, registry):
        eventually(lambda: loads.age_ms == 0)
        for _ in range(3):
            now_s[0] += 2
            eventually(lambda: loads.age_ms == 0)  # the broker was asked, and nothing is missing
        cluster.go_away()
        now_s[0] += 60
        eventually(lambda: loads.age_ms == 60_000)
        now_s[0] += 2
        assert loads.age_ms == 62_000


def test_while_it_is_read_again_the_old_table_answers(cluster: MockCluster, registry: FakeRegistry) -> None:
    loads = Loads()
    with Emitter("job", registry=registry) as emitter, following(loads, registry):
        emitter.send(Loads.topic, health("oca-1", 0.5), partition=0)
        eventually(lambda: "oca-1" in loads.table and loads.caught_up)
        before = loads.table
        before["gone"] = 1.0  # what a topic that was made anew no longer has
        registry.down = True
        foreign = kafka.producer()
        foreign.produce(Loads.topic, HEADER.pack(0, registry.id_of("control.request")) + b"x", partition=0)
        foreign.flush(10)
        asked = registry.asked
        eventually(lambda: registry.asked > asked + 1)  # what the id means is not known, and it has begun again
        assert loads.table is before
        registry.down = False
        eventually(lambda: loads.table is not before)
        assert (loads.table, loads.caught_up, loads.refused) == ({"oca-1": 0.5}, True, 1)


def test_it_is_read_again_when_asked(cluster: MockCluster, registry: FakeRegistry) -> None:
    loads = Loads()
    with Emitter("job", registry=registry) as emitter, following(loads, registry):
        emitter.send(Loads.topic, health("oca-1", 0.5), partition=0)
        eventually(lambda: "oca-1" in loads.table and loads.caught_up)
        before = loads.table
        loads.read_again()
        eventually(lambda: loads.table is not before)
        assert loads.table == {"oca-1": 0.5}


def test_markers_change_nothing() -> None:
    loads = Loads()
    loads.fold({"marker": True})
    with pytest.raises(Unfit, match="negative"):
        loads.fold({"marker": False, **health("oca-1", -1.0)})
    assert loads.table == {}
