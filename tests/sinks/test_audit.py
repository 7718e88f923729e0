"""The audit can fail: each way in which table and ledger can disagree is made, and must be named."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from clickhouse_connect.driver.client import Client

from infra.base import warehouse
from infra.base.settings import settings
from producers.ledger import Ledger
from schemas.catalogue import catalogue
from schemas.codec import HEADER, Encoder
from schemas.envelope import Stamp, fingerprint, marker
from schemas.project import landing_columns, landing_table
from sinks.audit import CannotAudit, TopicAudit, run, stored
from sinks.audit.ledgers import Incarnation, Ledgers

TOPIC = catalogue().topic("playback.report")
LETTERS = catalogue().topic("observability.dead_letter")
TABLE = TOPIC.table
PARTITIONS = 3
NOW_MS = 1_700_000_000_000


@pytest.fixture
def writer(place: str) -> Iterator[Client]:
    """A client with write rights on a database of one's own that has the tables an audit of the topic reads."""
    client = warehouse.writer("default")
    client.command(f"CREATE DATABASE {settings().database}")
    for topic in (TOPIC, LETTERS):
        client.command(landing_table(topic, settings().database, 0))
    yield client
    client.close()


class World:
    """Events that were sent by producers with ledgers, and the rows they became."""

    def __init__(self, writer: Client, root: Path) -> None:
        self.writer, self.root = writer, root
        self.ledgers: dict[str, Ledger] = {}
        self._offsets = [0] * PARTITIONS
        self._stamps: dict[str, Stamp] = {}
        self._rows: list[tuple[int, int, dict[str, Any]]] = []
        self._encode = Encoder(TOPIC.event, 1)

    def ledger(self, producer: str) -> Ledger:
        if producer not in self.ledgers:
            self.ledgers[producer] = Ledger(producer, NOW_MS, self.root)
            self._stamps[producer] = Stamp(producer, self.ledgers[producer].epoch)
        return self.ledgers[producer]

    def send(self, producer: str, count: int, *, acknowledge: bool = True, store: bool = True, fail: bool = False) -> None:
        """Send `count` events; those that fail take no offset."""
        ledger, stamp = self.ledger(producer), self._stamps[producer]
        for _ in range(count):
            seq = stamp.next_seq(TOPIC.name)
            event = stamp(TOPIC.name, {**marker(TOPIC.event), **self._fields(seq)}, NOW_MS + seq)
            ledger.reserve(TOPIC.name, seq)
            stamp.used(TOPIC.name)
            if fail:
                ledger.failed(TOPIC.name, seq, "_MSG_TIMED_OUT: Local: Message timed out")
                continue
            partition = seq % PARTITIONS
            offset = self._offsets[partition]
            self._offsets[partition] += 1
            if acknowledge:
                ledger.acknowledged(TOPIC.name, partition, offset, seq, fingerprint(self._encode(event)))
            if store:
                self._rows.append((partition, offset, event))
        ledger.flush()

    def _fields(self, seq: int) -> dict[str, Any]:
        """Some of everything that Avro and ClickHouse write differently: null, text beyond ASCII, array, map, double, negative."""
        return {
            "marker": False, "sid": f"sid-{seq % 5}", "sn": -seq, "e": "rr", "br_kbps": None if seq % 2 else 4000 + seq, "pr": seq / 3,
            "ec": ["a", "b"] if seq % 7 == 0 else [], "custom": {"org.example-é": "x" * (seq % 200)} if seq % 3 == 0 else {},
        }  # fmt: skip

    def stop(self, producer: str) -> None:
        """End in order."""
        self.ledgers[producer].close([(TOPIC.name, self._stamps[producer].next_seq(TOPIC.name))])

    def load(self, fields: list[str] | None = None) -> None:
        """What the loader does, by a shorter way."""
        names = fields or [field["name"] for field in TOPIC.event.fields]
        types = landing_columns(TOPIC)
        schema = {**TOPIC.event.schema, "fields": [f for f in TOPIC.event.fields if f["name"] in names]}
        for partition in range(PARTITIONS):
            rows = [(offset, event) for p, offset, event in self._rows if p == partition]
            if not rows:
                continue
            block = io.BytesIO()
            fastavro.writer(block, fastavro.parse_schema(schema), [{n: e[n] for n in names if n in e} for _, e in rows])
            structure = ", ".join(f"`{name}` {types[name]}" for name in names).replace("'", "\\'")
            columns = ", ".join(f"`{name}`" for name in names)
            offsets = f"[{', '.join(str(offset) for offset, _ in rows)}]"
            time = f"fromUnixTimestamp64Milli(toInt64({NOW_MS} + 1000 * {offsets}[rowNumberInAllBlocks() + 1]))"
            self.writer.command(
                f"INSERT INTO {settings().database}.{TABLE} (topic_partition, topic_offset, topic_time, ingested_at, {columns}) "
                f"SELECT {partition}, {offsets}[rowNumberInAllBlocks() + 1], {time}, now64(3), {columns} "
                f"FROM input('{structure}') FORMAT Avro",
                data=block.getvalue(),
            )
        self._rows.clear()

    def change(self, statement: str) -> None:
        """Tamper with the table."""
        self.writer.command(statement.format(table=f"{settings().database}.{TABLE}") + " SETTINGS mutations_sync = 1")

    def append(self, producer: str, line: str) -> None:
        """Tamper with a ledger."""
        with self.ledgers[producer].path.open("a") as file:
            file.write(line + "\n")

    def audit(self, **options: Any) -> TopicAudit:
        """The verdict on the topic, without waiting for a loader that is not there."""
        (result,) = run(topics=[TOPIC.name], ledgers=[self.root], settle_s=0, **options)
        return result


@pytest.fixture
def world(writer: Client, tmp_path: Path) -> World:
    """Two producers with 60 events each, stored and acknowledged; b ended in order."""
    world = World(writer, tmp_path)
    for producer in ("a", "b"):
        world.send(producer, 60)
    world.stop("b")
    world.load()
    return world


def test_everything_in_order_is_clean(world: World) -> None:
    result = world.audit()
    assert result.problems == []
    assert (result.acknowledged, result.stored, result.content_checked) == (120, 120, 120)
    assert sum(window.acknowledged for window in result.windows) == 120
    assert all((w.acknowledged, w.acknowledged_sum) == (w.stored, w.stored_sum) for w in result.windows)


def test_a_deleted_row_is_named(world: World) -> None:
    world.change("ALTER TABLE {table} DELETE WHERE producer_id = 'a' AND seq = 31")
    result = world.audit()
    assert result.problems == ["lost: producer a, epoch 1, seq 31: acknowledged at partition 1, offset 10 and not stored"]
    assert (result.lost, result.stored) == (1, 119)
    assert [w.acknowledged - w.stored for w in result.windows] == [1]


def test_the_last_row_of_a_partition_is_missed_too(world: World) -> None:
    world.change("ALTER TABLE {table} DELETE WHERE producer_id = 'b' AND seq = 59")
    assert world.audit().lost == 1


def test_a_doubled_row_is_named(world: World) -> None:
    world.change("INSERT INTO {table} SELECT * FROM {table} WHERE producer_id = 'b' AND seq = 7")
    result = world.audit()
    assert result.problems == [
        "duplicated: producer b, epoch 1, seq 7: stored at partition 1, offset 22 and again at partition 1, offset 22"
    ]
    assert result.duplicated == 1


def test_a_row_stored_twice_under_two_offsets_is_named(world: World) -> None:
    world.change("INSERT INTO {table} SELECT * REPLACE (900 AS topic_offset) FROM {table} WHERE producer_id = 'b' AND seq = 7")
    result = world.audit()
    assert result.duplicated == 1
    assert "seq 7" in result.problems[0]
    assert "offset 900" in result.problems[0]


@pytest.mark.parametrize(
    "change",
    [
        "sn = sn + 1",
        "sid = concat(sid, '!')",
        "br_kbps = 1",
        "pr = pr + 1e-9",
        "custom = map('k', 'v')",
        "bs = NOT bs",
        "ec = ['c']",
        "cid = ''",
    ],
)
def test_one_altered_field_is_named(world: World, change: str) -> None:
    column = change.split(" ")[0]
    if column == "sid":  # part of the sorting key: replaced by delete and insert
        world.change("INSERT INTO {table} SELECT * REPLACE (concat(sid, '!') AS sid) FROM {table} WHERE producer_id = 'a' AND seq = 12")
        world.change("ALTER TABLE {table} DELETE WHERE producer_id = 'a' AND seq = 12 AND sid NOT LIKE '%!'")
    else:
        world.change("ALTER TABLE {table} UPDATE " + change + " WHERE producer_id = 'a' AND seq = 12")
    result = world.audit()
    assert (result.altered, result.lost, result.duplicated) == (1, 0, 0)
    (problem,) = (p for p in result.problems if "older versions" not in p)
    assert re.fullmatch(
        r"altered: producer a, epoch 1, seq 12: the row at partition 0, offset 4 has fingerprint [0-9a-f]{16}, the ledger [0-9a-f]{16}",
        problem,
    )
    assert any(w.acknowledged_sum != w.stored_sum for w in result.windows)


def test_a_row_that_moved_is_named(world: World) -> None:
    world.change("INSERT INTO {table} SELECT * REPLACE (901 AS topic_offset) FROM {table} WHERE producer_id = 'a' AND seq = 3")
    world.change("ALTER TABLE {table} DELETE WHERE producer_id = 'a' AND seq = 3 AND topic_offset != 901")
    assert world.audit().problems == [
        "altered: producer a, epoch 1, seq 3: stored at partition 0, offset 901, acknowledged at partition 0, offset 1"
    ]


@pytest.mark.parametrize(
    ("producer", "line", "words"),
    [
        ("b", "A playback.report 1 400 60 0123456789abcdef", "b, epoch 1, seq 60: acknowledged at partition 1, offset 400"),
        ("a", "A playback.report 1 400 7 0123456789abcdef", "a, epoch 1, seq 7: acknowledged at partition 1, offset 400"),
        ("a", "A playback.report 0 0 60 0123456789abcdef", "a, epoch 1, seq 60: acknowledged at partition 0, offset 0"),
        ("a", "F playback.report 7 not so", "a, epoch 1, seq 7: acknowledged at partition 1, offset 2 by the ledger, and given up by it"),
    ],
)  # fmt: skip
def test_a_forged_ledger_line_is_named(world: World, producer: str, line: str, words: str) -> None:
    world.append(producer, line)
    result = world.audit()
    assert result.forged == 1
    assert any(problem.startswith("forged: producer ") and words in problem for problem in result.problems)


def test_a_forged_fingerprint_is_named(world: World) -> None:
    path = world.ledgers["a"].path
    path.write_text(re.sub(r"^(A \S+ \d+ \d+ 9 )[0-9a-f]{16}$", r"\g<1>0123456789abcdef", path.read_text(), flags=re.MULTILINE))
    result = world.audit()
    assert result.altered == 1
    assert "producer a, epoch 1, seq 9" in result.problems[0]
    assert "the ledger 0123456789abcdef" in result.problems[0]


def test_an_unreadable_line_is_named_and_a_torn_one_forgiven(world: World) -> None:
    path = world.ledgers["a"].path
    lines = path.read_text().splitlines()
    lines[5] = "A playback.report 1 x 3"
    path.write_text("\n".join(lines) + "\nA playback.rep")
    result = world.audit()
    assert [p for p in result.problems if "unreadable" in p] == [f"unreadable: {path}, line 6, cannot be read: 'A playback.report 1 x 3'"]
    assert result.unacknowledged == 1  # the send on that line


def test_what_was_in_flight_at_a_kill_is_counted_apart(world: World) -> None:
    world.send("a", 5, acknowledge=False)
    world.send("a", 3, acknowledge=False, store=False)
    world.send("a", 1)
    world.load()
    result = world.audit()
    assert result.problems == []
    assert (result.unacknowledged, result.unknown, result.acknowledged, result.stored) == (5, 3, 121, 126)


def test_a_reported_failure_is_no_loss(world: World) -> None:
    world.send("a", 4, fail=True)
    world.send("a", 2)
    world.load()
    result = world.audit()
    assert result.problems == []
    assert (result.failed, result.lost, result.unknown) == (4, 0, 0)


def test_a_row_that_was_never_announced_is_named(world: World) -> None:
    world.change("INSERT INTO {table} SELECT * REPLACE (5000 AS seq, 77 AS topic_offset) FROM {table} WHERE producer_id = 'a' AND sn = -9")
    assert world.audit().problems == [
        "unattempted: producer a, epoch 1, seq 5000: stored at partition 0, offset 77, never announced by its ledger"
    ]


def test_what_the_loader_set_aside_is_accounted_for(world: World) -> None:
    world.change("ALTER TABLE {table} DELETE WHERE producer_id = 'a' AND seq = 31")
    world.writer.command(
        f"INSERT INTO {settings().database}.{LETTERS.table} (component, topic, source_partition, source_offset, reason) "
        "VALUES ('loader', 'playback.report', 1, 10, 'decode')"
    )
    result = world.audit()
    assert result.problems == []
    assert (result.dead_lettered, result.lost) == (1, 0)


def test_a_window_of_arrival_time_is_judged_alone(world: World) -> None:
    world.change("ALTER TABLE {table} DELETE WHERE producer_id = 'a' AND seq IN (3, 30)")  # offsets 1 and 10 of partition 0
    early = world.audit(to_ms=NOW_MS + 5_000)
    assert (early.lost, early.acknowledged) == (1, 5 * PARTITIONS)
    assert world.audit(from_ms=NOW_MS + 15_000).lost == 0
    assert world.audit(from_ms=NOW_MS + 15_000).acknowledged == 120 - 15 * PARTITIONS


def test_content_can_be_sampled_or_left_out(world: World) -> None:
    world.change("ALTER TABLE {table} UPDATE sn = sn + 1 WHERE 1")
    assert world.audit(content="none").clean
    sampled = world.audit(content="sample")
    assert 0 < sampled.content_checked < 40
    assert sampled.altered == sampled.content_checked


@pytest.mark.parametrize(("limit", "to"), [("CHUNK_ROWS", 17), ("CHUNK_BYTES", 5_000)])
def test_many_rows_and_large_ones_are_read_in_pieces(world: World, monkeypatch: pytest.MonkeyPatch, limit: str, to: int) -> None:
    answers: list[int] = []
    read = stored.fingerprints

    def reading(container: bytes) -> tuple[bytes, bytes]:
        answers.append(len(container))
        return read(container)

    monkeypatch.setattr(stored, limit, to)
    monkeypatch.setattr(stored, "fingerprints", reading)
    result = world.audit()
    assert len(answers) > 3
    assert result.problems == []
    assert result.content_checked == 120


def test_what_an_older_version_of_the_contract_wrote_is_not_altered(
    writer: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(writer, tmp_path)
    older = [field for field in TOPIC.event.fields if field["name"] not in ("custom", "sf")]
    schema = {**TOPIC.event.schema, "fields": older}
    parsed = fastavro.parse_schema(schema, _force=True)

    def encode(event: dict[str, Any]) -> bytes:
        out = io.BytesIO(HEADER.pack(0, 1))
        out.seek(HEADER.size)
        fastavro.schemaless_writer(out, parsed, event)
        return out.getvalue()

    monkeypatch.setattr(world, "_encode", encode)
    world.send("a", 30)
    world.load([field["name"] for field in older])
    monkeypatch.setattr("infra.base.registry.RegistryClient.history", lambda self, subject: [(1, schema), (2, TOPIC.event.schema)])
    result = world.audit()
    assert result.problems == []
    assert result.content_checked == 30


def test_what_cannot_be_audited_is_refused_in_words(world: World, tmp_path: Path) -> None:
    with pytest.raises(CannotAudit, match=r"no topic 'playback\.reprot' is declared"):
        run(topics=["playback.reprot"], ledgers=[tmp_path])
    with pytest.raises(CannotAudit, match="has no landing table"):
        run(topics=["playback.session_state"], ledgers=[tmp_path])
    with pytest.raises(CannotAudit, match="no ledgers there"):
        run(topics=[TOPIC.name], ledgers=[tmp_path / "elsewhere"])


def test_a_ledger_is_read_on_from_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinks.audit.ledgers.CHUNK_BYTES", 100)
    ledger, ledgers = Ledger("a", NOW_MS, tmp_path), Ledgers([tmp_path])
    for seq in range(20):
        ledger.reserve("t.t", seq)
        ledger.acknowledged("t.t", 0, seq, seq, f"{seq:016x}")
        ledger.flush()
        if seq == 9:
            ledgers.read()
    ledgers.read()
    acknowledged = ledgers.sends["t.t"][Incarnation("a", 1)].acknowledged
    assert acknowledged["digest"].tolist() == list(range(20))
    assert acknowledged["first_read"].tolist() == [True] * 10 + [False] * 10
