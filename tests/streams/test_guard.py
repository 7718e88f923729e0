"""The guard: what may go on does so unchanged, what may not is dead-lettered with the reason, an outage is no reason."""

from __future__ import annotations

import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Producer
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from infra.base.registry import RegistryUnavailable
from infra.base.status import serving
from schemas.catalogue import catalogue
from schemas.codec import Decoder, Encoder
from streams import guard as module
from streams.guard import DEAD_LETTERS, Guard, Inspector, Refused
from tests.broker import FakeRegistry, MockCluster
from tests.kit import eventually

NOW_MS = 1_700_000_000_000
REPORT = catalogue().topic("playback.report")
DAY_MS = 86_400_000


def event(registry: FakeRegistry, **other: Any) -> bytes:
    told = {"event_id": "e-1", "event_time": NOW_MS, "producer_id": "foreign", "epoch": 1, "seq": 0, "sid": "s-1", "sn": 1, "e": "t"}
    return Encoder(REPORT.event, registry.id_of(REPORT.name))({**told, **other})


def with_id(framed: bytes, schema_id: int) -> bytes:
    return struct.pack(">bI", 0, schema_id) + framed[5:]


def verdict(inspector: Inspector, framed: bytes | None, arrival_ms: int = NOW_MS) -> str:
    try:
        inspector(framed, arrival_ms)
    except Refused as refusal:
        return f"{refusal.reason}: {refusal}"
    return "forwarded"


def bad(registry: FakeRegistry) -> dict[str, bytes | None]:
    """Bad input of every kind, by the verdict it must get."""
    good = event(registry)
    return {
        "framing: there is no value": None,
        "framing: 0 bytes are too short": b"",
        "framing: magic byte is 0x01": b"\x01" + good[1:],
        "unknown_schema: the registry knows no schema 99999": with_id(good, 99_999),
        "unknown_schema: no registry gives out 4294967295": with_id(good, 2**32 - 1),
        "schema_mismatch: schema 1 belongs to": with_id(good, 1),
        "decode: EOFError": good[:-3],
        "decode: 1 bytes are left over": good + b"x",
        "decode: bl_ms is -5; an amount cannot be negative": event(registry, bl_ms=-5),
        "time_window: event_time 1700086400000 is 86400000 ms after": event(registry, event_time=NOW_MS + DAY_MS),
        "time_window: event_time 1699308800000 is 691200000 ms before": event(registry, event_time=NOW_MS - 8 * DAY_MS),
        "size: 1048577 bytes": b"\0" * ((1 << 20) + 1),
    }


def test_bad_input_of_every_kind_has_its_reason(registry: FakeRegistry) -> None:
    inspector = Inspector(REPORT, registry)
    for expected, framed in bad(registry).items():
        assert verdict(inspector, framed).startswith(expected)
    assert verdict(inspector, event(registry)) == "forwarded"


def test_a_symbol_that_the_contract_does_not_list_is_refused(registry: FakeRegistry) -> None:
    raw = event(registry).replace(b"\x02t", b"\x02x")
    assert verdict(Inspector(REPORT, registry), raw).startswith("decode: e is 'x', none of")


def test_a_time_that_no_calendar_has_is_out_of_the_window(registry: FakeRegistry) -> None:
    plain = {**REPORT.event.schema, "fields": [{**f, "type": "long"} if f["name"] == "event_time" else f for f in REPORT.event.fields]}
    strange = type(REPORT.event)(REPORT.event.domain, REPORT.event.name, plain)
    told = {"event_id": "e", "event_time": 2**62, "producer_id": "f", "epoch": 1, "seq": 0, "sid": "s", "sn": 1, "e": "t"}
    assert verdict(Inspector(REPORT, registry), Encoder(strange, registry.id_of(REPORT.name))(told)).startswith("time_window")


@pytest.mark.parametrize(("skew_ms", "right"), [(60_000, True), (60_001, False), (-7 * DAY_MS, True), (-7 * DAY_MS - 1, False)])
def test_the_window_is_closed(registry: FakeRegistry, skew_ms: int, right: bool) -> None:
    told = verdict(Inspector(REPORT, registry), event(registry, event_time=NOW_MS + skew_ms))
    assert told == "forwarded" if right else told.startswith("time_window")


def test_an_outage_is_no_verdict(registry: FakeRegistry) -> None:
    inspector = Inspector(REPORT, registry)
    good = event(registry)
    registry.down = True
    with pytest.raises(RegistryUnavailable):
        inspector(good, NOW_MS)
    registry.down = False
    assert verdict(inspector, good) == "forwarded"
    registry.down = True
    assert verdict(inspector, good) == "forwarded"


def test_an_unknown_id_is_asked_for_once_in_a_while(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    inspector = Inspector(REPORT, registry)
    unknown = with_id(event(registry), 99_999)
    before = registry.asked
    assert {verdict(inspector, unknown) for _ in range(100)} == {"unknown_schema: the registry knows no schema 99999"}
    assert registry.asked == before + 1
    monkeypatch.setattr(module, "UNKNOWN_FOR_S", -1.0)
    registry._published[99_999] = ("playback.report-value", REPORT.event.schema)
    assert verdict(inspector, unknown) == "forwarded"


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_bytes_get_a_verdict(registry: FakeRegistry, data: st.DataObject) -> None:
    good = event(registry)
    cut = data.draw(st.integers(0, len(good)))
    framed = data.draw(st.one_of(st.binary(max_size=200), st.just(good[:cut]), st.binary(max_size=40).map(lambda tail: good[:cut] + tail)))
    reason = verdict(Inspector(REPORT, registry), framed).partition(":")[0]
    assert reason in ("forwarded", "framing", "unknown_schema", "schema_mismatch", "decode", "time_window")


@contextmanager
def running(registry: FakeRegistry) -> Iterator[Guard]:
    guard = Guard([REPORT], registry, "guard-0")
    thread = threading.Thread(target=guard.run)
    thread.start()
    try:
        yield guard
    finally:
        guard.stop()
        thread.join()


def put(cluster: MockCluster, *values: bytes | None) -> None:
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "message.max.bytes": 10_000_000})
    for value in values:
        producer.produce(REPORT.door_name, value, key=b"s-1", headers=[("h", b"1")], timestamp=NOW_MS)
    assert producer.flush(20) == 0


def test_what_may_go_on_does_so_unchanged(cluster: MockCluster, registry: FakeRegistry) -> None:
    good = event(registry)
    put(cluster, good)
    with running(registry):
        (message,) = cluster.messages(REPORT.name, 1)
    assert (message.value(), message.key(), message.timestamp()[1], message.headers()) == (good, b"s-1", NOW_MS, [("h", b"1")])


def test_what_may_not_is_dead_lettered_with_its_bytes_and_the_rest_goes_on(cluster: MockCluster, registry: FakeRegistry) -> None:
    put(cluster, *bad(registry).values(), event(registry))
    with running(registry) as guard:
        letters = [Decoder(registry.schema)(message.value()) for message in cluster.messages(DEAD_LETTERS, len(bad(registry)))]
        cluster.messages(REPORT.name, 1)
        eventually(lambda: guard.status()[1]["forwarded"] == 1)
    kept = {(letter["reason"], letter["payload"]) for letter in letters}
    assert kept == {(expected.partition(":")[0], (framed or b"")[: 1 << 20]) for expected, framed in bad(registry).items()}
    assert {(letter["component"], letter["topic"], letter["key_bytes"]) for letter in letters} == {("guard", "playback.report.in", b"s-1")}
    assert len({letter["event_id"] for letter in letters}) == len(letters)
    ready, told = guard.status()
    assert ready
    assert told["dead_letters"] == Counter(letter["reason"] for letter in letters)


def test_while_the_registry_is_away_nothing_moves_and_nothing_is_refused(cluster: MockCluster, registry: FakeRegistry) -> None:
    put(cluster, event(registry))
    with running(registry) as guard:
        cluster.messages(REPORT.name, 1)
        registry.down = True
        put(cluster, with_id(event(registry), 99_999), event(registry))
        eventually(lambda: "registry" in (guard.status()[1]["waiting_for"] or ""))
        assert not guard.status()[0]
        registry.down = False
        cluster.messages(REPORT.name, 2)
        eventually(lambda: guard.status() == (True, {"waiting_for": None, "forwarded": 2, "dead_letters": {"unknown_schema": 1}}))


class StuckOnce:
    """A producer that hangs where it hands the offsets over, as librdkafka does (issue 5456), until `freed`."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self.freed = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def send_offsets_to_transaction(self, *arguments: Any) -> None:
        assert self.freed.wait(30)
        self._producer.send_offsets_to_transaction(*arguments)


def test_a_guard_whose_offsets_are_never_answered_ends(
    cluster: MockCluster, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = module.kafka.producer
    stuck: list[StuckOnce] = []

    def producer(**options: Any) -> StuckOnce:
        stuck.append(StuckOnce(make(**options)))
        return stuck[-1]

    monkeypatch.setattr(module, "STUCK_S", 0.05)
    monkeypatch.setattr(module.kafka, "producer", producer)
    monkeypatch.setattr(module, "_end", lambda words: stuck[0].freed.set())
    put(cluster, event(registry))
    with running(registry):
        cluster.messages(REPORT.name, 1)
    assert stuck[0].freed.is_set()


def test_the_status_page_answers(cluster: MockCluster, free_url: str) -> None:
    told: dict[str, Any] = {"forwarded": 3}
    ready = True
    with serving(free_url, lambda: (ready, told)):
        with urllib.request.urlopen(f"{free_url}/status") as answer:
            assert json.load(answer) == {"ready": True, "forwarded": 3}
        ready = False
        with pytest.raises(urllib.error.HTTPError, match="503") as refusal:
            urllib.request.urlopen(f"{free_url}/healthz")
        refusal.value.close()
        with pytest.raises(SystemExit, match="cannot be served"), serving(free_url, lambda: (ready, told)):
            pass


@pytest.fixture
def free_url() -> str:
    """An address on loopback where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
