"""Make a landing table anew from its topic or a recorded log, beside the one that is asked, and put it in that one's place in one step.

    1. `shadow_<run>_<table>`, as the contract declares it today, is filled with what the source holds of what the loader has finished
    2. what the table has at positions that the source does not hold is carried over: nothing is lost by a short log
    3. targets of the table's materialized views get shadows too: the views over the new rows, and what is older than those
    4. EXCHANGE TABLES; views follow the name. What the loader stored meanwhile is carried over, under the query id of its own
       statements, so that none of them is under way
    5. the same for each target
    6. the old tables are dropped

The loader may run all the while: it stores from the group's position on, the source is read up to there, and each position is carried
over only where it is missing. A shadow says in its comment that it is one, and the comment goes with it through the exchange. So after a
crash the table itself says how far things were: before the exchange the next backfill begins anew, after it the next one finishes it.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error as ClientError
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from infra.base import kafka, warehouse
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from infra.base.warehouse import BulkWriter, WarehouseError, WarehouseUnavailable
from schemas import project
from schemas.catalogue import Topic, catalogue
from sinks import migrate
from sinks.archive.layout import RecordedLog
from sinks.loader import lane
from sinks.loader.ranges import Committed
from sinks.loader.table import Block, LandingTable
from sinks.warehouse import sql

MARK = re.compile(r"headrace backfill ([0-9a-f]{8}): ")
"""How a shadow's comment begins, and that of a table that was one until its backfill is finished."""
SAME_QUERY_ID = 216
BUSY_S = 120.0
"""How long a partition's loader may be storing one block."""
CARRIED_OFFSETS = 5_000_000
"""Positions that one statement looks at: what it must remember stays small."""
COMPARED_ROWS = 100_000
WORKERS = 4

Progress = Callable[[int, int], None]
"""Called with records read and records to read."""


class CannotBackfill(Exception):
    """The backfill cannot begin or go on, and the table is as it was; the message says why and what to do."""


@dataclass(frozen=True)
class Backfilled:
    """What a backfill did: rows of the table now, those that the source gave, and messages that could not be read.

    `resumed`: all it did was to finish one that had been cut off after the exchange.
    """

    table: str
    rows: int
    anew: int
    left_out: int
    resumed: bool


class Source(Protocol):
    """Where records come from."""

    def count(self, partition: int, before: int) -> int:
        """How many records below offset `before` there are, at most."""
        ...

    def blocks(self, partition: int, before: int) -> Iterator[Block]:
        """Those records, in order."""
        ...


class FromTopic:
    """What the topic still holds."""

    def __init__(self, topic: Topic) -> None:
        self._name = settings().topic(topic.name)
        with closing(kafka.consumer("backfill")) as reader:
            ends = [reader.get_watermark_offsets(TopicPartition(self._name, p), timeout=30) for p in range(topic.partitions)]
        self._ends = [(int(low), int(high)) for low, high in ends]

    def __str__(self) -> str:
        return f"topic {self._name}"

    def count(self, partition: int, before: int) -> int:
        low, high = self._ends[partition]
        return max(0, min(before, high) - low)

    def blocks(self, partition: int, before: int) -> Iterator[Block]:
        if not self.count(partition, before):
            return
        limits = settings().loader
        with closing(kafka.consumer("backfill", enable_partition_eof=True, fetch_wait_max_ms=20)) as reader:
            reader.assign([TopicPartition(self._name, partition, self._ends[partition][0])])
            held: list[Message] = []
            size, ended = 0, False
            while not ended:
                for message in reader.consume(limits.max_rows, 0.2):
                    error = message.error()
                    if error is not None and error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                    if error is not None or message.offset() >= before:
                        ended = True
                        break
                    held.append(message)
                    size += len(message.value() or b"")
                if held and (ended or len(held) >= limits.max_rows or size >= limits.max_bytes):
                    yield Block([m.offset() for m in held], [m.timestamp()[1] for m in held], [m.value() or b"" for m in held])
                    held, size = [], 0


class FromLog:
    """A recorded log. Raises CannotBackfill where it is not one of this topic; reading it raises Damaged, FileNotFoundError."""

    def __init__(self, path: Path, topic: Topic) -> None:
        self._log = RecordedLog.open(path)
        self._topic = topic.name
        if self._topic not in self._log.partitions:
            held = ", ".join(sorted(self._log.partitions)) or "nothing"
            raise CannotBackfill(f"{path} holds no {self._topic}; it holds {held}")
        if self._log.namespace != settings().namespace:
            raise CannotBackfill(
                f"{path} was recorded in namespace {self._log.namespace!r} and this is {settings().namespace!r}: "
                "its positions are those of another topic. `headrace replay` puts it onto topics of its own"
            )

    def __str__(self) -> str:
        return str(self._log.path)

    def count(self, partition: int, before: int) -> int:
        return sum(min(s.rows, before - s.first) for s in self._log.of(self._topic, partition) if s.first < before)

    def blocks(self, partition: int, before: int) -> Iterator[Block]:
        for batch in self._log.batches(self._topic, partition, settings().loader.max_rows):
            offsets = batch.column("offset").to_pylist()
            payloads = [payload or b"" for payload in batch.column("payload").to_pylist()]
            block, beyond = Block(offsets, batch.column("timestamp_ms").to_pylist(), payloads).split(sum(o < before for o in offsets))
            if block.offsets:
                yield block
            if beyond.offsets:
                return


def backfill(
    name: str,
    log: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, total: None,
) -> Backfilled:
    """Make landing table `name` anew from the recorded log `log`, or from its topic. Blocks until it is in its place.

    Raises CannotBackfill; WarehouseError, WarehouseUnavailable and what clients raise for outages, KafkaException, Damaged,
    FileNotFoundError. Whatever is raised: the table is the old one or the new one, whole; the same call goes on from there.
    """
    topic = next((t for t in catalogue().landed() if t.table == name), None)
    if topic is None:
        raise CannotBackfill(f"{name} is not a landing table; they are {', '.join(sorted(t.table for t in catalogue().landed()))}")
    with closing(warehouse.writer()) as client, RegistryClient() as registry:
        if not migrate.columns(client, name):
            raise CannotBackfill(f"there is no {settings().database}.{name}: `headrace up` or `python -m sinks.migrate` makes it")
        if (cut_off := _Run.of_table(topic, client, registry)) is not None:
            cut_off.finish()
            return Backfilled(name, cut_off.rows(name), 0, 0, resumed=True)
        source = FromTopic(topic) if log is None else FromLog(log, topic)
        run = _Run(topic, client, registry, secrets.token_hex(4))
        run.sweep()
        try:
            anew, left_out = run.fill(source, finished(topic), stop, progress)
        except BaseException:
            with suppress(ClientError):  # the next one sweeps
                run.sweep()
            raise
        run.finish()
        return Backfilled(name, run.rows(name), anew, left_out, resumed=False)


def finished(topic: Topic) -> dict[int, int]:
    """Partition → the offset below which the loader has finished, where it has. Raises CannotBackfill where it has nowhere."""
    name = settings().topic(topic.name)
    with closing(kafka.consumer("loader")) as group:
        committed = group.committed([TopicPartition(name, p) for p in range(topic.partitions)], timeout=30)
    found = {at.partition: at.offset for at in committed if at.offset > 0}
    if not found:
        raise CannotBackfill(f"the loader has not loaded {name} yet: there is nothing to make anew")
    return found


class _Run:
    """One backfill of one table, by the name of its shadows."""

    def __init__(self, topic: Topic, client: Client, registry: RegistryClient, run: str) -> None:
        self._topic, self._client, self._registry, self._run = topic, client, registry, run
        self._database = settings().database
        self._live = LandingTable(topic, registry)
        self._views = self._live.views()
        self._tables = [topic.table, *dict.fromkeys(view.target for view in self._views)]

    @classmethod
    def of_table(cls, topic: Topic, client: Client, registry: RegistryClient) -> _Run | None:
        """The backfill that has put `topic`'s table in its place and was cut off before it had finished."""
        mark = MARK.match(_comment(client, topic.table))
        return None if mark is None else cls(topic, client, registry, mark[1])

    def rows(self, name: str) -> int:
        """Rows of a table."""
        return int(self._client.command(f"SELECT count() FROM {self._of(name)}"))

    def sweep(self) -> None:
        """Drop shadows of these tables, of this backfill and of any that was cut off before its exchange."""
        for name in self._tables:
            for (left,) in self._client.query(
                "SELECT name FROM system.tables WHERE database = {database:String} AND match(name, {like:String})",
                parameters={"database": self._database, "like": f"^shadow_[0-9a-f]{{8}}_{name}$"},
            ).result_rows:
                self._client.command(f"DROP TABLE IF EXISTS {self._of(str(left))} SYNC")

    def fill(self, source: Source, before: Mapping[int, int], stop: Callable[[], bool], progress: Progress) -> tuple[int, int]:
        """Make and fill all shadows. Returns rows from the source, and messages that could not be read."""
        table = self._topic.table
        shadow = self._shadow(table)
        self._client.command(project.landing_table(self._topic, self._database, migrate.ttl_days(self._topic), name=shadow))
        migrate.merge_seldom(self._client, shadow)
        self._match_columns(shadow, table)
        self._mark(shadow, self._topic.description)
        left_out = self._load(source, before, stop, progress)
        anew = self.rows(shadow)
        if not anew:
            raise CannotBackfill(f"{source} holds nothing of what the loader has finished: {self._database}.{table} stays as it is")
        self._refuse_another_topic(source)
        self._carry(table, shadow)
        for target in self._tables[1:]:
            self._client.command(f"CREATE TABLE {self._of(self._shadow(target))} AS {self._of(target)}")
            self._mark(self._shadow(target), _comment(self._client, target))
        for view in self._views:
            over = re.sub(rf"(`?{self._database}`?\.)`?{table}`?(?![A-Za-z0-9_])", rf"\1`{shadow}`", view.query)
            for partition, first, last in self._spans(shadow):
                self._copy(f"({over})", self._shadow(view.target), view.columns, _within(partition, first, last))
        for target in self._tables[1:]:
            for partition, first, last in self._spans(target):
                # What the loader stores meanwhile is not older: it comes through the view.
                missing = self._missing(_within(partition, first, min(last, before.get(partition, 0) - 1)), shadow)
                self._copy(self._of(target), self._shadow(target), migrate.columns(self._client, target), missing)
        return anew, left_out

    def finish(self) -> None:
        """Exchange what is not exchanged yet, carry over what came meanwhile, drop the old tables. Each step may be done twice."""
        table = self._topic.table
        self._exchange(table)
        if migrate.columns(self._client, self._shadow(table)):
            # Before the targets' turn: a view must not bring a row into a new target that the loader brings there, too.
            self._carry(self._shadow(table), table, alone=True)
            for target in self._tables[1:]:
                self._exchange(target)
            for view in self._views:
                for partition, first, last in self._spans(table):
                    missing = self._missing(_within(partition, first, last), view.target)
                    self._copy(f"({view.query})", view.target, view.columns, missing, self._live.query_id(partition))
        for name in reversed(self._tables):
            self._client.command(f"DROP TABLE IF EXISTS {self._of(self._shadow(name))} SYNC")
            self._comment_on(name, MARK.sub("", _comment(self._client, name), count=1))

    def _exchange(self, name: str) -> None:
        """Put a table's shadow in its place, unless it is there."""
        shadow = self._shadow(name)
        if not MARK.match(_comment(self._client, name)) and migrate.columns(self._client, shadow):
            self._match_columns(shadow, name)
            self._client.command(f"EXCHANGE TABLES {self._of(name)} AND {self._of(shadow)}")
            self._match_columns(name, shadow)  # a field that came between these statements

    def _load(self, source: Source, before: Mapping[int, int], stop: Callable[[], bool], progress: Progress) -> int:
        """Fill the landing table's shadow, with the loader's own protocol; returns how many messages are dead letters."""
        total = sum(source.count(partition, offset) for partition, offset in before.items())
        read = dict.fromkeys(before, 0)
        halted = threading.Event()
        limits = settings().loader

        def one(partition: int) -> int:
            left_out = 0
            judged = lane.Limits(limits.max_dead_ratio, limits.max_dead_consecutive)
            steps = lane.Protocol(self._topic.name, partition, judged).run(Committed(0, None))
            coming = source.blocks(partition, before[partition])
            block, answer = Block([], [], []), None
            while not stop() and not halted.is_set():
                match steps.send(answer):
                    case lane.Fetch():
                        read[partition] += len(block.offsets)
                        progress(sum(read.values()), total)
                        if (following := next(coming, None)) is None:
                            return left_out
                        block, answer = following, following.offsets
                    case lane.Bury(letters):
                        left_out, answer = left_out + len(letters), None
                    case effect:
                        answer = _perform(effect, table, partition, block)
            raise CannotBackfill(f"interrupted: {self._database}.{self._topic.table} is as it was")

        def or_halt(partition: int) -> int:
            try:
                return one(partition)
            except BaseException:
                halted.set()
                raise

        with (
            closing(LandingTable(self._topic, self._registry, self._shadow(self._topic.table))) as table,
            ThreadPoolExecutor(WORKERS, thread_name_prefix="backfill") as pool,
        ):
            try:
                return sum(pool.map(or_halt, before))
            except lane.Stopped as reason:
                raise CannotBackfill(f"{source}: {reason}; {self._database}.{self._topic.table} is as it was") from None

    def _refuse_another_topic(self, source: Source) -> None:
        """Positions mean something within one topic only: most rows at the same position must be the same event."""
        table = self._topic.table
        both, different = self._client.query(
            f"SELECT count(), countIf(old.event_id != new.event_id) FROM {self._of(table)} AS old INNER JOIN "
            f"(SELECT topic_partition, topic_offset, event_id FROM {self._of(self._shadow(table))} LIMIT {COMPARED_ROWS}) AS new "
            "USING (topic_partition, topic_offset)"
        ).result_rows[0]
        if different * 2 > both:
            raise CannotBackfill(
                f"{different:,} of {both:,} rows of {self._database}.{table} are other events than {source} holds at their positions: "
                "the topic was made anew since, and the table stays as it is"
            )

    def _carry(self, old: str, new: str, alone: bool = False) -> None:
        """Copy rows of `old` whose positions `new` does not have. `alone`: while the loader does nothing there."""
        names = migrate.columns(self._client, old)
        for partition, first, last in self._spans(old):
            missing = self._missing(_within(partition, first, last), new)
            self._copy(self._of(old), new, names, missing, self._live.query_id(partition) if alone else "")

    def _missing(self, within: str, name: str) -> str:
        """The condition that a position lies `within`, and not in table `name`."""
        return f"{within} AND topic_offset NOT IN (SELECT topic_offset FROM {self._of(name)} WHERE {within})"

    def _copy(self, origin: str, target: str, columns: Iterable[str], where: str, query_id: str = "") -> None:
        names = ", ".join(f"`{name}`" for name in columns)
        statement = f"INSERT INTO {self._of(target)} ({names}) SELECT {names} FROM {origin} WHERE {where}"
        deadline = time.monotonic() + BUSY_S
        with closing(BulkWriter()) as writer:
            while True:
                try:
                    # Without deduplication: the log of tokens may remember a block whose part is gone. Months may be many.
                    writer.run(statement, query_id=query_id, insert_deduplicate=0, max_partitions_per_insert_block=0)
                    return
                except WarehouseError as error:
                    if error.code != SAME_QUERY_ID or time.monotonic() > deadline:
                        raise
                time.sleep(0.02)

    def _spans(self, name: str) -> Iterator[tuple[int, int, int]]:
        """(partition, first, last) of a table's positions, in pieces of CARRIED_OFFSETS."""
        for partition, lowest, highest in self._client.query(
            f"SELECT topic_partition, min(topic_offset), max(topic_offset) FROM {self._of(name)} GROUP BY topic_partition ORDER BY 1"
        ).result_rows:
            for first in range(lowest, highest + 1, CARRIED_OFFSETS):
                yield partition, first, min(first + CARRIED_OFFSETS - 1, highest)

    def _match_columns(self, name: str, other: str) -> None:
        """Give `name` the columns of `other`."""
        try:
            migrate.add_columns(self._client, name, migrate.columns(self._client, name), migrate.columns(self._client, other))
        except migrate.MigrationError as error:
            raise CannotBackfill(str(error)) from None

    def _mark(self, shadow: str, words: str) -> None:
        self._comment_on(shadow, f"headrace backfill {self._run}: {words}")

    def _comment_on(self, name: str, words: str) -> None:
        self._client.command(f"ALTER TABLE {self._of(name)} MODIFY COMMENT {sql.literal(words)}")

    def _shadow(self, name: str) -> str:
        """Not below a domain's name, or `landed` would count it."""
        return f"shadow_{self._run}_{name}"

    def _of(self, name: str) -> str:
        return f"`{self._database}`.`{name}`"


def _perform(effect: lane.Effect, table: LandingTable, partition: int, block: Block) -> Any:
    """What a lane wants of the shadow. Nothing is buried or committed: the loader did that when it came by."""
    match effect:
        case lane.Insert(offsets, token):
            try:
                return table.insert(partition, block.at(offsets), token)
            except WarehouseUnavailable:
                return lane.Answer.UNKNOWN
        case lane.Stored(among):
            return table.stored(partition, among)
        case lane.Screen(offsets):
            return table.screen(block.at(offsets))
    return None


def _within(partition: int, first: int, last: int) -> str:
    return f"topic_partition = {partition} AND topic_offset BETWEEN {first} AND {last}"


def _comment(client: Client, name: str) -> str:
    return migrate.said_of(client, name, "comment")
