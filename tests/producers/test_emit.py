"""Emit: what is stamped, what is refused, what the ledger says — through librdkafka's mock cluster, and through a kill."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from infra.base.clock import FakeClock
from infra.base.registry import RegistryUnavailable
from producers.emit import Backpressure, DeliveryFailed, Emitter
from producers.ledger import RESERVE, Ledger
from schemas.catalogue import catalogue
from schemas.codec import Encoder, InvalidEvent
from schemas.envelope import fingerprint
from tests.broker import FakeRegistry, MockCluster, records
from tests.kit import eventually

TOPIC = "playback.report"
REPORT = {"sid": "s-1", "sn": 1, "e": "ps", "sta": "p"}
UNREACHABLE = {"bootstrap.servers": "127.0.0.1:1", "enable.idempotence": True, "log_level": 0}


def lines(emitter_or_path: Emitter | Path) -> list[str]:
    path = emitter_or_path if isinstance(emitter_or_path, Path) else emitter_or_path._ledger.path
    return path.read_text().splitlines()


def test_an_event_is_stamped_encoded_and_acknowledged_in_the_ledger(cluster: MockCluster, registry: FakeRegistry) -> None:
    clock = FakeClock()
    with Emitter("player-1", registry=registry, clock=clock) as emitter:
        emitter.send(TOPIC, REPORT, event_id="e-1", event_time_ms=clock.now_ms() - 5, correlation_id="c-1")
        emitter.send(TOPIC, REPORT)
        assert emitter.flush() == 0
        assert (emitter.counts.sent, emitter.counts.acknowledged, emitter.counts.in_flight) == (2, 2, 0)
    first, second = sorted(records(cluster, registry, TOPIC, 2), key=lambda record: record["seq"])
    assert {k: first[k] for k in ("event_id", "producer_id", "epoch", "seq", "correlation_id", "sid", "marker")} == {
        "event_id": "e-1", "producer_id": "player-1", "epoch": 1, "seq": 0, "correlation_id": "c-1", "sid": "s-1", "marker": False,
    }  # fmt: skip
    assert second["event_id"] == f"player-1-1-{TOPIC}-1"
    messages = {message.offset(): message for message in cluster.messages(TOPIC, 2)}
    header, reserved, *acknowledged, closed = lines(emitter)
    assert header.startswith("H {")
    assert reserved == f"R {TOPIC} {RESERVE}"
    assert sorted(acknowledged) == [
        f"A {TOPIC} {m.partition()} {m.offset()} {seq} {fingerprint(m.value())}" for seq, m in enumerate(messages.values())
    ]
    assert closed == f"C {TOPIC} 2"
    assert all(message.key() == b"s-1" and message.timestamp()[1] == clock.now_ms() for message in messages.values())


def test_each_start_is_a_new_epoch(cluster: MockCluster, registry: FakeRegistry) -> None:
    epochs = []
    for _ in range(3):
        with Emitter("player-1", registry=registry) as emitter:
            epochs.append(emitter.epoch)
    assert epochs == [1, 2, 3]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({**REPORT, "e": "zz"}, r"e: 'zz' is none of"),
        ({**REPORT, "sn": "one"}, r"sn"),
        ({**REPORT, "bitrate": 1}, r"no such field: bitrate"),
        ({"sn": 1, "e": "ps"}, r"sid"),
        ({**REPORT, "cid": "x" * 20_000_000}, r"more than Kafka takes"),
    ],
)
def test_an_event_that_does_not_fit_leaves_no_hole(cluster: MockCluster, registry: FakeRegistry, record: Any, words: str) -> None:
    with Emitter("player-1", registry=registry) as emitter:
        with pytest.raises((InvalidEvent, KeyError), match=words):
            emitter.send(TOPIC, record)
        emitter.send(TOPIC, REPORT)
    assert lines(emitter)[-1] == f"C {TOPIC} 1"
    assert [record["seq"] for record in records(cluster, registry, TOPIC, 1)] == [0]


def test_a_registry_outage_is_raised_and_over_when_it_is_over(cluster: MockCluster, registry: FakeRegistry) -> None:
    registry.down = True
    with Emitter("player-1", registry=registry) as emitter:
        with pytest.raises(RegistryUnavailable):
            emitter.bind(TOPIC)
        registry.down = False
        emitter.bind(TOPIC)
        registry.down = True
        emitter.send(TOPIC, REPORT)
    assert records(cluster, FakeRegistry(), TOPIC, 1)


def test_a_full_queue_refuses_and_takes_no_number(cluster: MockCluster, registry: FakeRegistry) -> None:
    producer = Producer({**UNREACHABLE, "queue.buffering.max.messages": 10, "delivery.timeout.ms": 300_000})
    emitter = Emitter("player-1", registry=registry, producer=producer)
    for _ in range(10):
        emitter.send(TOPIC, REPORT)
    with pytest.raises(Backpressure, match="10 events wait for Kafka"):
        emitter.send(TOPIC, REPORT)
    assert emitter.counts.sent == 10
    producer.purge()
    emitter.close(timeout_s=1)
    assert emitter.counts.failed == 10
    assert lines(emitter)[-1] == f"C {TOPIC} 10"


def test_what_is_given_up_is_counted_in_the_ledger_and_told_to_the_caller(cluster: MockCluster, registry: FakeRegistry) -> None:
    producer = Producer({**UNREACHABLE, "delivery.timeout.ms": 200})
    told: list[Exception | None] = []
    with Emitter("player-1", registry=registry, producer=producer) as emitter:
        emitter.send(TOPIC, REPORT, on_delivery=told.append)
        eventually(lambda: emitter.poll(0.1) or emitter.counts.failed == 1)
    assert isinstance(told[0], DeliveryFailed)
    assert [line.split()[:3] for line in lines(emitter) if line.startswith("F")] == [["F", TOPIC, "0"]]


def bulk(emitter: Emitter, *sizes: int) -> Callable[[int, int], list[bytes]]:
    """Framed reports with a title of each of these lengths."""
    encode = Encoder(catalogue().topic(TOPIC).event, emitter.schema_id(TOPIC))
    envelope = {"event_time": 0, "producer_id": emitter.producer_id}

    def write(epoch: int, first_seq: int) -> list[bytes]:
        return [
            encode({**REPORT, **envelope, "event_id": f"e-{seq}", "epoch": epoch, "seq": seq, "cid": "x" * size})
            for seq, size in enumerate(sizes, first_seq)
        ]

    return write


def test_many_events_at_once_stand_in_the_ledger_like_single_ones(cluster: MockCluster, registry: FakeRegistry) -> None:
    with Emitter("player-1", registry=registry) as emitter:
        emitter.send(TOPIC, REPORT)
        emitter.send_all(TOPIC, [b"s-1"] * 3, [1_000, 2_000, 3_000], bulk(emitter, 1, 2, 3))
        emitter.send(TOPIC, REPORT)
        assert emitter.flush() == 0
        assert (emitter.counts.sent, emitter.counts.acknowledged, emitter.counts.in_flight) == (5, 5, 0)
    messages = {message.offset(): message for message in cluster.messages(TOPIC, 5)}
    assert [messages[offset].timestamp()[1] for offset in (1, 2, 3)] == [1_000, 2_000, 3_000]
    assert sorted(line for line in lines(emitter) if line.startswith("A ")) == [
        f"A {TOPIC} {m.partition()} {m.offset()} {seq} {fingerprint(m.value())}" for seq, m in enumerate(messages.values())
    ]
    assert lines(emitter)[-1] == f"C {TOPIC} 5"


def test_of_many_events_those_that_kafka_does_not_take_are_given_up_in_the_ledger(cluster: MockCluster, registry: FakeRegistry) -> None:
    with Emitter("player-1", registry=registry) as emitter:
        with pytest.raises(InvalidEvent, match="more than Kafka takes"):
            emitter.send_all(TOPIC, [b"s-1"] * 3, [0] * 3, bulk(emitter, 1, 20_000_000, 1))
        assert emitter.flush() == 0
        assert (emitter.counts.sent, emitter.counts.acknowledged, emitter.counts.failed) == (3, 1, 2)
    assert [line.split()[2] for line in lines(emitter) if line.startswith("F ")] == ["1", "2"]
    assert len(cluster.messages(TOPIC, 1)) == 1


def test_of_many_events_those_without_an_answer_are_given_up_too(tmp_path: Path) -> None:
    producer = Producer({**UNREACHABLE, "delivery.timeout.ms": 200})
    with Emitter("player-1", producer=producer, ledger_root=tmp_path, schema_ids={TOPIC: 1}) as emitter:
        emitter.send_all(TOPIC, [b"s-1"] * 2, [0] * 2, bulk(emitter, 1, 1))
        eventually(lambda: emitter.flush(1) == 0)
        assert (emitter.counts.sent, emitter.counts.failed) == (2, 2)
    assert [line.split()[2] for line in lines(emitter) if line.startswith("F ")] == ["0", "1"]


def test_a_callback_that_raises_does_not_keep_the_others_from_theirs(cluster: MockCluster, registry: FakeRegistry) -> None:
    told: list[Exception | None] = []

    def broken(_: Exception | None) -> None:
        raise RuntimeError("my mistake")

    with Emitter("player-1", registry=registry) as emitter:
        emitter.send(TOPIC, REPORT, on_delivery=broken)
        emitter.send(TOPIC, REPORT, on_delivery=told.append)
        assert emitter.flush() == 0
    assert told == [None]


def test_a_callback_may_send(cluster: MockCluster, registry: FakeRegistry) -> None:
    with Emitter("player-1", registry=registry, background=True) as emitter:
        emitter.send(TOPIC, REPORT, on_delivery=lambda _: emitter.send(TOPIC, {**REPORT, "sn": 2}))
        eventually(lambda: emitter.counts.acknowledged == 2)


def test_markers_go_to_every_partition(cluster: MockCluster, registry: FakeRegistry) -> None:
    with Emitter("player-1", registry=registry) as emitter:
        emitter.mark(TOPIC, event_time_ms=1_700_000_000_000)
    messages = cluster.messages(TOPIC, catalogue().topic(TOPIC).partitions)
    assert {message.partition() for message in messages} == set(range(catalogue().topic(TOPIC).partitions))


def test_threads_share_an_emitter_without_hole_or_repeat(cluster: MockCluster, registry: FakeRegistry) -> None:
    each, threads = 2_000, 6

    def work() -> None:
        for n in range(each):
            emitter.send(TOPIC, {**REPORT, "sn": n})

    with Emitter("player-1", registry=registry, background=True) as emitter:
        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert emitter.flush() == 0
        assert emitter.counts.acknowledged == each * threads
    acknowledged = [line.split() for line in lines(emitter) if line.startswith("A")]
    assert sorted(int(fields[4]) for fields in acknowledged) == list(range(each * threads))
    assert len({(fields[2], fields[3]) for fields in acknowledged}) == each * threads


def test_closing_twice_is_closing_once(cluster: MockCluster, registry: FakeRegistry) -> None:
    emitter = Emitter("player-1", registry=registry, background=True)
    emitter.close()
    emitter.close()
    assert [line[0] for line in lines(emitter)] == ["H"]


SENDS_FOR_EVER = """
import sys
from pathlib import Path
from confluent_kafka import Producer
from producers.emit import Backpressure, Emitter
producer = Producer({"test.mock.num.brokers": 1, "log_level": 0, "linger.ms": 1})
emitter = Emitter("victim", producer=producer, ledger_root=Path(sys.argv[1]), schema_ids={"playback.report": 1}, background=True)
while True:
    try:
        emitter.send("playback.report", {"sid": "s-1", "sn": 1, "e": "t"})
    except Backpressure:
        emitter.poll(0.01)
"""
LINE = re.compile(r"H \{.*\}|R \S+ \d+|A \S+ \d+ \d+ \d+ [0-9a-f]{16}|F \S+ \d+ .*|C \S+ \d+")


@pytest.mark.parametrize("acknowledged", [1, 3_000, 20_000])
def test_a_kill_leaves_whole_lines_and_a_bound_on_what_is_unknown(tmp_path: Path, acknowledged: int) -> None:
    victim = subprocess.Popen([sys.executable, "-c", SENDS_FOR_EVER, str(tmp_path)], stderr=subprocess.DEVNULL)
    ledger = tmp_path / "victim" / "1.ledger"
    try:
        eventually(lambda: ledger.read_text().count("\nA ") >= acknowledged)
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    *whole, _torn = ledger.read_text().split("\n")
    assert all(LINE.fullmatch(line) for line in whole)
    seqs = [int(line.split()[4]) for line in whole if line.startswith("A")]
    announced = max(int(line.split()[2]) for line in whole if line.startswith("R"))
    assert len(set(seqs)) == len(seqs)
    assert max(seqs) < announced
    assert not any(line.startswith("C") for line in whole)


@given(st.lists(st.sampled_from(["reserve", "acknowledged", "failed", "flush"]), max_size=40))
def test_whatever_is_noted_is_written_in_order(tmp_path_factory: pytest.TempPathFactory, calls: list[str]) -> None:
    ledger = Ledger("p", 0, tmp_path_factory.mktemp("ledger"))
    expected: list[str] = []
    reserved = 0
    notes: dict[str, Callable[[int], None]] = {
        "acknowledged": lambda seq: ledger.acknowledged("t", 0, seq, seq, "0" * 16),
        "failed": lambda seq: ledger.failed("t", seq, "first\nsecond"),
        "flush": lambda _: ledger.flush(),
    }
    for seq, call in enumerate(calls):
        if call == "reserve":
            ledger.reserve("t", seq)
            reserved = max(reserved, seq + 1)
        else:
            notes[call](seq)
            expected += {"acknowledged": [f"A t 0 {seq} {seq} {'0' * 16}"], "failed": [f"F t {seq} first second"], "flush": []}[call]
    ledger.close([("t", len(calls))])
    written = lines(ledger.path)
    assert [line for line in written if line[0] in "AF"] == expected
    assert written[-1] == f"C t {len(calls)}"
    assert sum(line.startswith("R") for line in written) == (1 if reserved else 0)


def test_two_incarnations_that_start_at_once_get_two_epochs(tmp_path: Path) -> None:
    ledgers = [Ledger("p", 0, tmp_path) for _ in range(20)]
    assert len({ledger.epoch for ledger in ledgers}) == 20


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "a" * 101])
def test_a_producer_id_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="use letters, digits"):
        Ledger(name, 0, tmp_path)
