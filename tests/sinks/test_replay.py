"""Record and replay over real Kafka: what comes back is what was there."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import NewTopic
from typer.testing import CliRunner

from infra.base import kafka
from infra.base.clock import FakeClock
from infra.base.registry import RegistryClient
from infra.base.settings import Settings, settings
from infra.cli import app
from schemas.catalogue import catalogue
from schemas.codec import HEADER
from sinks.archive import CannotRecord, RecordedLog, Row, record
from sinks.replay import CannotReplay, replay, source_topics
from tests.sinks.recorded import NOW_MS, PARTITIONS, TOPIC, by_partition, kept, registry, rows_of

Use = Callable[[str], None]


@pytest.fixture
def use(stack: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Use]:
    """A function that makes a namespace this process's own."""

    def use(namespace: str) -> None:
        monkeypatch.setenv("HEADRACE_NAMESPACE", namespace)
        settings.cache_clear()

    yield use
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture
def origin(use: Use) -> str:
    """A new namespace, in use."""
    namespace = f"t{secrets.token_hex(4)}"
    use(namespace)
    return namespace


@pytest.fixture
def again(origin: str) -> str:
    """The name of a second namespace, in which nothing is yet."""
    return f"{origin}_again"


def some_rows(count: int) -> list[tuple[int, Row]]:
    """Rows framed with the id that the registry in use gives."""
    topic = catalogue().topic(TOPIC)
    with RegistryClient() as client:
        return rows_of(count, client.register(settings().topic(topic.subject), topic.event.schema))


def produce(rows: list[tuple[int, Row]]) -> None:
    """Put rows on the topic of the namespace in use."""
    name = settings().topic(TOPIC)
    kafka.ensure_topics([NewTopic(name, PARTITIONS, 1, config=catalogue().topic(TOPIC).config(replay=True))])
    producer = kafka.producer()
    for partition, row in rows:
        producer.produce(name, row.payload, row.key, partition=partition, timestamp=row.timestamp_ms, headers=row.headers)
    assert producer.flush(20) == 0


def bodies(rows: list[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """Rows without their framing, partition by partition: a subject of another namespace may have another id."""
    return [(p, row._replace(payload=row.payload and row.payload[HEADER.size :])) for p, row in by_partition(rows)]


def found_in(namespace: str, use: Use, out: Path) -> list[tuple[int, Row]]:
    """What is on a namespace's topic."""
    use(namespace)
    record(out, topics=[TOPIC])
    return kept(out)


@pytest.mark.stack
def test_what_is_recorded_and_replayed_comes_back_equal(use: Use, again: str, tmp_path: Path) -> None:
    rows = some_rows(50)
    produce(rows)
    recording = record(tmp_path / "log", topics=[TOPIC])
    assert (recording.records, recording.complete) == (50, True)
    assert kept(tmp_path / "log") == by_partition(rows)

    done = replay(tmp_path / "log", namespace=again)
    assert (done.records, done.topics, done.complete) == (50, {TOPIC: 50}, True)
    assert bodies(found_in(again, use, tmp_path / "second")) == bodies(rows)


@pytest.mark.stack
def test_another_registry_gives_its_own_ids_to_the_same_bodies(
    use: Use, origin: str, again: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some_rows(20)
    produce(rows)
    record(tmp_path / "log", topics=[TOPIC])
    with registry(first_id=4001) as url:
        monkeypatch.setenv("HEADRACE_REGISTRY__URL", url)
        use(origin)
        replay(tmp_path / "log", namespace=again)
        found = found_in(again, use, tmp_path / "second")
    expected = [
        (p, row._replace(payload=row.payload and HEADER.pack(0, 4001) + row.payload[HEADER.size :])) for p, row in by_partition(rows)
    ]
    assert found == expected


@pytest.mark.stack
def test_a_record_whose_schema_nobody_knew_goes_on_unchanged_and_is_counted(use: Use, again: str, tmp_path: Path) -> None:
    rows = some_rows(6)
    rows.append((0, Row(3, NOW_MS + 600, b"k", None, HEADER.pack(0, 999_999) + b"?")))
    rows.append((1, Row(3, NOW_MS + 601, b"k", None, b"no framing at all")))
    produce(rows)
    record(tmp_path / "log", topics=[TOPIC])
    assert RecordedLog.open(tmp_path / "log").schemas[999_999] is None
    assert replay(tmp_path / "log", namespace=again).unknown_schema == 1
    assert bodies(found_in(again, use, tmp_path / "second")) == bodies(rows)


@pytest.mark.stack
def test_a_selection_by_time_is_exact_although_timestamps_are_out_of_order(again: str, tmp_path: Path) -> None:
    rows = some_rows(50)
    produce(rows)
    bounds = {"from_ms": NOW_MS + 1_000, "to_ms": NOW_MS + 2_000}
    record(tmp_path / "part", topics=[TOPIC], **bounds)
    wanted = [(p, row) for p, row in by_partition(rows) if bounds["from_ms"] <= row.timestamp_ms < bounds["to_ms"]]
    assert kept(tmp_path / "part") == wanted

    record(tmp_path / "all", topics=[TOPIC])
    assert replay(tmp_path / "all", namespace=again, **bounds).records == len(wanted)


@pytest.mark.stack
def test_speed_is_log_time_per_time(again: str, tmp_path: Path) -> None:
    produce(some_rows(50))
    record(tmp_path / "log", topics=[TOPIC])
    clock = FakeClock()
    began = clock.now_ms()
    replay(tmp_path / "log", namespace=again, speed=2, clock=clock)
    assert 2_450 <= clock.now_ms() - began <= 2_550  # 4.9 s of log at twice its speed, the last record not before it is due


@pytest.mark.stack
@pytest.mark.parametrize(("ahead_ms", "takes_ms"), [(7_000, 9_450), (-1_000, 1_450), (-60_000, 0)])
def test_a_replay_begins_when_it_is_told_to_and_makes_up_for_what_is_overdue(
    again: str, tmp_path: Path, ahead_ms: int, takes_ms: int
) -> None:
    produce(some_rows(50))
    record(tmp_path / "log", topics=[TOPIC])
    clock = FakeClock()
    began = clock.now_ms()
    assert replay(tmp_path / "log", namespace=again, speed=2, begin_ms=began + ahead_ms, clock=clock).records == 50
    assert takes_ms <= clock.now_ms() - began <= takes_ms + 100


def test_a_beginning_without_a_speed_is_refused_in_words() -> None:
    told = CliRunner().invoke(app, ["replay", "day.log", "--begin", "2026-01-31T18:00"], env={"TERMINAL_WIDTH": "200"})
    assert told.exit_code == 2
    assert "--begin goes with a --speed" in told.output


@pytest.mark.stack
def test_an_interrupted_replay_is_resumed_without_a_loss_or_a_double(use: Use, again: str, tmp_path: Path) -> None:
    rows = some_rows(50)
    produce(rows)
    record(tmp_path / "log", topics=[TOPIC])
    asked = iter([False] * 6)
    first = replay(tmp_path / "log", namespace=again, speed=20, clock=FakeClock(), stop=lambda: next(asked, True))
    assert not first.complete
    assert 0 < first.records < 50
    with pytest.raises(CannotReplay, match="not empty"):
        replay(tmp_path / "log", namespace=again)
    second = replay(tmp_path / "log", namespace=again, resume=True)
    assert (second.skipped, second.records) == (first.records, 50 - first.records)
    assert bodies(found_in(again, use, tmp_path / "second")) == bodies(rows)


@pytest.mark.stack
def test_resuming_another_log_is_refused(again: str, tmp_path: Path) -> None:
    produce(some_rows(50))
    record(tmp_path / "all", topics=[TOPIC])
    record(tmp_path / "part", topics=[TOPIC], from_ms=NOW_MS + 3_000)
    replay(tmp_path / "part", namespace=again)
    with pytest.raises(CannotReplay, match="something else than the beginning of this log"):
        replay(tmp_path / "all", namespace=again, resume=True)


@pytest.mark.stack
def test_an_interrupted_recording_is_resumed(origin: str, tmp_path: Path) -> None:
    rows = some_rows(50)
    produce(rows[:30])
    assert not record(tmp_path / "log", topics=[TOPIC], stop=lambda: True).complete
    produce(rows[30:])
    with pytest.raises(CannotRecord, match="exists and is not written over"):
        record(tmp_path / "log", topics=[TOPIC])
    with pytest.raises(CannotRecord, match="same selection"):
        record(tmp_path / "log", topics=[TOPIC], resume=True, to_ms=NOW_MS)
    assert record(tmp_path / "log", topics=[TOPIC], resume=True).complete
    assert kept(tmp_path / "log") == by_partition(rows[:30])  # to the ends found when it began
    with pytest.raises(CannotRecord, match="is complete"):
        record(tmp_path / "log", topics=[TOPIC], resume=True)


@pytest.mark.stack
def test_following_takes_what_comes_until_told_to_stop(origin: str, tmp_path: Path) -> None:
    rows = some_rows(40)
    produce(rows[:10])
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        if done == 10 and 10 not in seen:
            produce(rows[10:])
        seen.append(done)

    done = record(tmp_path / "log", topics=[TOPIC], follow=True, progress=progress, stop=lambda: 40 in seen)
    assert (done.records, done.complete) == (40, True)
    assert kept(tmp_path / "log") == by_partition(rows)


@pytest.mark.stack
def test_an_empty_topic_makes_an_empty_log(origin: str, again: str, tmp_path: Path) -> None:
    produce([])
    assert record(tmp_path / "log", topics=[TOPIC]).records == 0
    assert replay(tmp_path / "log", namespace=again).records == 0


@pytest.mark.stack
def test_what_cannot_be_done_is_refused_in_words(use: Use, again: str, tmp_path: Path) -> None:
    produce(some_rows(10))
    record(tmp_path / "log", topics=[TOPIC])
    with pytest.raises(CannotReplay, match="lower-case letters"):
        replay(tmp_path / "log", namespace="No Such")
    with pytest.raises(CannotReplay, match="greater than 0"):
        replay(tmp_path / "log", namespace=again, speed=0)
    with pytest.raises(CannotReplay, match=r"holds no playback\.report; it holds encoding\.source"):
        replay(tmp_path / "log", namespace=again, topics=["playback.report"])
    with pytest.raises(CannotReplay, match="not empty"):
        replay(tmp_path / "log", namespace=None)
    with pytest.raises(CannotRecord, match="declared"):
        record(tmp_path / "typo", topics=["playback.reprot"])
    with pytest.raises(CannotRecord, match="not on"):
        record(tmp_path / "absent", topics=["playback.report"])
    assert not (tmp_path / "absent").exists()


def test_what_jobs_write_is_not_replayed() -> None:
    assert source_topics(catalogue(), ["playback.report", "playback.qoe_session", "observability.dead_letter"]) == ["playback.report"]
