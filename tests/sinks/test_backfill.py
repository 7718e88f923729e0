"""Backfill: a table made anew beside the old one, while it is loaded, and cut off at every statement."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.httpclient import HttpClient

from infra.base import warehouse
from infra.base.registry import RegistryClient
from infra.base.warehouse import BulkWriter
from schemas.codec import Encoder
from sinks import archive
from sinks.backfill import CannotBackfill, backfill
from sinks.loader.table import Block, LandingTable
from tests.kit import eventually
from tests.sinks.loading import PARTITIONS, loaded, loading, produce, reports, seqs
from tests.sinks.reports import NOW_MS, TOPIC, encoder, newer, poison, register, report

TABLE = TOPIC.table


@pytest.fixture
def stored(world: Encoder) -> Encoder:
    """A thousand reports in the table and what `copied` makes of them."""
    copied()
    produce(reports(world, range(1_000)))
    with loading():
        eventually(loaded(1_000))
    return world


def copied() -> None:
    """A view that copies reports whose number does not end in 9."""
    client = warehouse.writer()
    client.command(
        "CREATE TABLE mirror (topic_partition Int32, topic_offset Int64, seq Int64) ENGINE = MergeTree ORDER BY seq COMMENT 'a copy'"
    )
    client.command(
        f"CREATE MATERIALIZED VIEW mirrored TO mirror AS SELECT topic_partition, topic_offset, seq FROM {TABLE} WHERE seq % 10 != 9"
    )


def content() -> list[Any]:
    """Everything in the table but when it was stored, in order of position."""
    sql = f"SELECT * EXCEPT ingested_at FROM {TABLE} WHERE seq >= 0 ORDER BY topic_partition, topic_offset"
    return list(warehouse.reader().query(sql).result_rows)


def mirrored() -> list[int]:
    """Numbers in the view's target, repeats included."""
    return [row[0] for row in warehouse.reader().query("SELECT seq FROM mirror WHERE seq >= 0 ORDER BY seq").result_rows]


def without_nines(count: int) -> list[int]:
    return [n for n in range(count) if n % 10 != 9]


def spoil() -> None:
    """Lose rows, double some, alter others, in the table and in the view's target."""
    client = warehouse.writer()
    client.command(f"DELETE FROM {TABLE} WHERE seq % 7 = 0")
    client.command(f"INSERT INTO {TABLE} SELECT * FROM {TABLE} WHERE seq % 11 = 0 SETTINGS insert_deduplicate = 0")
    client.command(f"ALTER TABLE {TABLE} UPDATE cid = 'forged' WHERE seq % 13 = 0 SETTINGS mutations_sync = 2")
    client.command("DELETE FROM mirror WHERE seq < 500")


def left_behind() -> list[str]:
    """Shadows, and comments that speak of one."""
    sql = "SELECT name FROM system.tables WHERE database = currentDatabase() AND (name LIKE 'shadow%' OR comment LIKE '%backfill%')"
    return [row[0] for row in warehouse.reader().query(sql).result_rows]


def test_a_spoiled_table_and_its_views_target_come_out_as_they_were(stored: Encoder) -> None:
    before = content()
    spoil()
    done = backfill(TABLE)
    assert (done.rows, done.anew, done.left_out, done.resumed) == (1_001, 1_001, 0, False)
    assert content() == before
    assert mirrored() == without_nines(1_000)
    assert not left_behind()
    comments = dict(warehouse.reader().query("SELECT name, comment FROM system.tables WHERE database = currentDatabase()").result_rows)
    assert (comments[TABLE], comments["mirror"]) == (TOPIC.description, "a copy")


def test_a_log_gives_what_it_holds_and_the_rest_stays(stored: Encoder, tmp_path: Path) -> None:
    archive.record(tmp_path / "log", topics=[TOPIC.name])
    produce(reports(stored, range(1_000, 1_200)))
    with loading():
        eventually(loaded(1_200))
    before = content()
    warehouse.writer().command(f"ALTER TABLE {TABLE} UPDATE cid = 'forged' WHERE seq IN (3, 1100) SETTINGS mutations_sync = 2")
    warehouse.writer().command(f"DELETE FROM {TABLE} WHERE seq IN (5, 1101)")
    done = backfill(TABLE, tmp_path / "log")
    assert (done.rows, done.anew) == (1_200, 1_001)
    changed = [new for new in content() if new not in before]
    assert len(content()) == 1_199
    assert [row for row in changed if "forged" in row] == changed
    assert len(changed) == 1
    assert mirrored() == without_nines(1_200)


def test_nothing_is_lost_or_doubled_while_the_loader_goes_on(stored: Encoder) -> None:
    stop = threading.Event()
    count = 1_000

    def go_on() -> None:
        nonlocal count
        while not stop.is_set():
            produce(reports(stored, range(count, count + 40)))
            count += 40

    source = threading.Thread(target=go_on)
    with loading():
        source.start()
        try:
            for _ in range(2):
                backfill(TABLE)
        finally:
            stop.set()
            source.join(30)
        eventually(loaded(count), within=60)
    assert mirrored() == without_nines(count)
    assert not left_behind()


def test_a_column_that_the_table_has_gained_is_kept(stored: Encoder) -> None:
    new = encoder(register(schema=newer()), schema=newer())
    produce([(0, report(new, 1_000, hdr="pq"))])
    with loading():
        eventually(loaded(1_001))
    before = content()
    backfill(TABLE)
    assert content() == before


class Killed(BaseException):
    """The process is gone: nothing that it would still do is done."""


class Death:
    """Ends our part before the `at`th statement that changes something; `exchanging` is what the loader does before an EXCHANGE."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, exchanging: Callable[[], None]) -> None:
        self._left, self._exchanging, self._others = at, exchanging, False
        for owner, name in ((HttpClient, "command"), (BulkWriter, "run")):
            patch.setattr(owner, name, self._dying(getattr(owner, name)))

    def _dying(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def instead(client: Any, statement: str, *args: Any, **options: Any) -> Any:
            if not self._others:
                self._left -= not statement.startswith("SELECT")
                if self._left < 0:
                    raise Killed
                if statement.startswith("EXCHANGE"):
                    self._others = True
                    self._exchanging()
                    self._others = False
            return act(client, statement, *args, **options)

        return instead


def test_killed_at_each_statement_it_leaves_a_whole_table_and_the_next_one_ends_it(world: Encoder) -> None:
    copied()
    produce([(0, report(world, n)) for n in range(50)])
    with loading():
        eventually(loaded(50))
    encode, count = encoder(register()), 50

    def loader_goes_on() -> None:
        """A block that the loader stores in the old table, in the last moment."""
        nonlocal count
        if TABLE not in exchanged:
            exchanged.append(TABLE)
            with RegistryClient() as registry, closing(LandingTable(TOPIC, registry)) as table:
                table.insert(0, Block([count + 1], [NOW_MS], [report(encode, count)]), f"last moment {count}")
            count += 1

    for at in range(40):
        exchanged: list[str] = []
        warehouse.writer().command(f"DELETE FROM {TABLE} WHERE seq = 7")
        with pytest.MonkeyPatch.context() as patch, suppress(Killed):
            Death(patch, at, loader_goes_on)
            backfill(TABLE)
            break
        left = seqs()
        assert {n for n in range(50) if n not in left} <= {7}
        assert backfill(TABLE).resumed <= (7 in left)
        assert seqs() == list(range(count))
        assert mirrored() == without_nines(count)
        assert not left_behind()
    else:
        pytest.fail("the backfill never ended by itself")
    assert count > 52
    assert mirrored() == without_nines(count)


def test_what_cannot_be_is_refused_in_words(world: Encoder, tmp_path: Path) -> None:
    with pytest.raises(CannotBackfill, match="qoe_sessions is not a landing table; they are control_"):
        backfill("qoe_sessions")
    with pytest.raises(CannotBackfill, match=r"there is no .*\.delivery_access"):
        backfill("delivery_access")
    with pytest.raises(CannotBackfill, match=r"the loader has not loaded .*playback\.report yet"):
        backfill(TABLE)


def test_a_log_of_another_topic_or_world_is_refused(stored: Encoder, tmp_path: Path) -> None:
    archive.record(tmp_path / "log", topics=[TOPIC.name])
    before = content()
    warehouse.writer().command(f"ALTER TABLE {TABLE} UPDATE event_id = concat('x', event_id) WHERE 1 SETTINGS mutations_sync = 2")
    with pytest.raises(CannotBackfill, match=r"1,001 of 1,001 rows of .* are other events than .* holds at their positions"):
        backfill(TABLE, tmp_path / "log")
    assert len(content()) == len(before)
    assert not left_behind()
    archive.record(tmp_path / "letters", topics=["observability.dead_letter"])
    with pytest.raises(CannotBackfill, match=r"holds no playback\.report; it holds observability\.dead_letter"):
        backfill(TABLE, tmp_path / "letters")
    log = archive.RecordedLog.open(tmp_path / "letters")
    log.namespace = "elsewhere"
    log.save()
    with pytest.raises(CannotBackfill, match="was recorded in namespace 'elsewhere'"):
        backfill("observability_dead_letter", tmp_path / "letters")


def test_messages_that_nobody_can_read_are_left_out(stored: Encoder) -> None:
    bad = [message for message, _ in poison(report(stored, 0)).values()]
    produce([(n % PARTITIONS, message) for n, message in enumerate(bad)])
    produce(reports(stored, range(1_000, 1_100)))
    with loading() as shell:
        eventually(lambda: sum(table["dead_letters"] for table in shell.report()["tables"]) == len(bad))
        eventually(loaded(1_100))
    before = content()
    spoil()
    assert backfill(TABLE).left_out == len(bad)
    assert content() == before


def test_a_backfill_that_is_interrupted_leaves_the_table_alone(stored: Encoder) -> None:
    before = content()
    with pytest.raises(CannotBackfill, match="interrupted"):
        backfill(TABLE, stop=lambda: True)
    assert content() == before
    assert not left_behind()
