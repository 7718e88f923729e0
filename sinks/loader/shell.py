"""The loader's process: a group consumer that drives one lane a partition.

Only this thread touches the consumer. What a lane wants from the store runs in a small pool; an effect that meets an outage is
tried again after a growing pause, for ever, without holding a worker. All intents that are due go into one commit.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import accumulate, chain, groupby
from typing import Any

from clickhouse_connect.driver.exceptions import Error as ClientError
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.base import kafka, log
from infra.base.clock import Clock, WallClock
from infra.base.registry import RegistryClient, RegistryError, RegistryUnavailable
from infra.base.settings import settings
from infra.base.warehouse import WarehouseError, WarehouseUnavailable
from schemas.catalogue import Topic
from sinks.loader.lane import (
    Answer,
    Bury,
    Done,
    Effect,
    Fetch,
    Highest,
    Insert,
    Intend,
    Lane,
    Limits,
    Mend,
    Protocol,
    Screen,
    Stopped,
    Stored,
)  # fmt: skip
from sinks.loader.letters import DeadLetters
from sinks.loader.ranges import Committed, Range, UnreadableIntent, intent_text, read_intent
from sinks.loader.recovery import StoredTwice
from sinks.loader.status import Progress, tables
from sinks.loader.table import Block, LandingTable

OUTAGES = (
    WarehouseUnavailable, WarehouseError, ClientError, RegistryUnavailable, RegistryError, KafkaException, TimeoutError, OSError,
)  # fmt: skip
PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""How long an effect that met an outage waits before it is tried again; the last one for ever."""

Key = tuple[str, int]
TICK_S = 0.05
IDLE_TICK_S = 0.5
CONSUME_ROWS = 50_000
WORKERS = 4
CROWDED_S = 3.0
IDLE_COMMIT_S = 1.0
RELEASE_S = 20.0
GATHER_MS = 100
"""What comes first after a pause waits this long: a Flink job's rows come all at once, when its checkpoint commits them."""
LINGER_PER_ACTIVE_MS = 80
MOST_LINGERS = 2
"""Each partition that is being loaded lets all of them wait so long, up to so many times `linger_ms`: an insert costs 30 ms of a core
whatever it holds, and many quiet tables are no reason for many small inserts."""
ACTIVE_S = 10.0


@dataclass
class Track:
    """One assigned partition: what has come, and where its lane stands."""

    topic: Topic
    partition: int
    table: LandingTable
    progress: Progress
    arrived: deque[Block] = field(default_factory=deque)
    rows: int = 0
    size: int = 0
    since: float = 0.0
    taken_at: float = 0.0
    read_to: int = -1
    lane: Lane | None = None
    effect: Effect | None = None
    future: Future[Any] | None = None
    block: Block = field(default_factory=lambda: Block([], [], []))
    intended_at: float = 0.0
    done_to: int = -1
    committed_to: int = -1
    committed_at: float = 0.0
    tries: int = 0
    again_at: float = 0.0
    paused: bool = False

    @property
    def busy(self) -> bool:
        """Whether this partition needs looking after even if no message comes."""
        return self.rows > 0 or self.done_to > self.committed_to or not (isinstance(self.effect, Fetch) or self.progress.stopped)

    @property
    def resting(self) -> bool:
        """Whether the group may be told of what is done, because nothing is about to be stored."""
        return isinstance(self.effect, Fetch) and self.effect.through is None and self.done_to > self.committed_to

    def add(self, block: Block) -> None:
        """Messages that have come."""
        if not self.rows:
            self.since = time.monotonic()
        self.arrived.append(block)
        self.rows += len(block.offsets)
        self.size += block.size
        self.read_to = max(self.read_to, block.offsets[-1])

    def due(self, now: float, max_rows: int, max_bytes: int, linger_ms: Callable[[], float]) -> bool:
        """Whether what has come is to be stored at `now`: it fills a block, or it has gathered and the last one was taken a linger ago."""
        if not self.rows:
            return False
        if self.rows >= max_rows or self.size >= max_bytes:
            return True
        return now >= self.since + GATHER_MS / 1000 and now >= self.taken_at + linger_ms() / 1000

    def take(self, max_rows: int, max_bytes: int, through: int | None = None) -> Block:
        """Take out the next block: what fits into both limits but one message at least; or everything up to offset `through`."""
        parts: list[Block] = []
        rows = size = 0
        while self.arrived:
            part = self.arrived.popleft()
            if through is not None:
                count = bisect_right(part.offsets, through)
            elif len(part.offsets) <= max_rows - rows and part.size <= max_bytes - size:
                count = len(part.offsets)
            else:
                fitting = bisect_right(list(accumulate(map(len, part.messages))), max_bytes - size)
                count = max(min(max_rows - rows, fitting), 0 if parts else 1)
            taken, left = part.split(count)
            if taken.offsets:
                parts.append(taken)
                rows += len(taken.offsets)
                size += taken.size
            if left.offsets:
                self.arrived.appendleft(left)
                break
        self.rows -= rows
        self.size -= size
        self.since = self.taken_at = time.monotonic()
        if len(parts) == 1:
            return parts[0]
        return Block(
            list(chain.from_iterable(part.offsets for part in parts)),
            list(chain.from_iterable(part.times_ms for part in parts)),
            list(chain.from_iterable(part.messages for part in parts)),
        )


class Shell:
    """Loads `topics` until told to stop. `recovering`: names of topics of which stored ranges may come again.

    `protocol` makes what drives a partition; the torture gives one that dies at a chosen step.
    """

    def __init__(
        self,
        topics: Iterable[Topic],
        recovering: frozenset[str] = frozenset(),
        clock: Clock | None = None,
        protocol: Callable[..., Protocol] = Protocol,
    ) -> None:
        self._log = log.get(__name__)
        self._clock = clock or WallClock()
        self._limits = settings().loader
        self._stale_s = settings().kafka.session_timeout_ms / 1000 / 2
        self._topics = {settings().topic(topic.name): topic for topic in topics}
        self._recovering = recovering
        self._protocol = protocol
        registry = RegistryClient()
        self._tables = {name: LandingTable(topic, registry) for name, topic in self._topics.items()}
        self._letters = DeadLetters(registry)
        self._consumer: Consumer = kafka.consumer(
            "loader",
            queued_min_messages=1_000_000,
            queued_max_messages_kbytes=64 << 10,
            fetch_wait_max_ms=100,
            topic_metadata_refresh_interval_ms=10_000,
            enable_partition_eof=True,
        )
        self._tracks: dict[Key, Track] = {}
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="store")
        self._crowded_since: float | None = None
        self._commit_again_at = 0.0
        self._ticked_at = time.monotonic()
        self._trouble = ""

    def report(self) -> dict[str, Any]:
        """The status in one mapping. Safe to call from another thread."""
        return {
            "namespace": settings().namespace,
            "partitions": len(self._tracks),
            "trouble": self._trouble or None,
            "tables": tables([t.progress for t in list(self._tracks.values())], self._clock.now_ms()),
        }

    def member_id(self) -> str:
        """Who we are in the group; empty before it has taken us in."""
        return str(self._consumer.memberid() or "")

    def ticked_s_ago(self) -> float:
        """Seconds since the loop went round."""
        return time.monotonic() - self._ticked_at

    def run(self, stop: threading.Event) -> None:
        """Load until `stop` is set, then finish what is under way and leave the group. Blocks."""
        self._consumer.subscribe(list(self._topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        try:
            while not stop.is_set():
                self._ticked_at = time.monotonic()
                self._read()
                self._meet()
                for track in list(self._tracks.values()):
                    self._look(track)
                self._commit()
        finally:
            self._release(list(self._tracks.values()))
            self._consumer.close()
            self._pool.shutdown(wait=False, cancel_futures=True)
            for table in self._tables.values():
                table.close()

    # What comes

    def _read(self) -> None:
        """Take what has come. Where a partition has read far ahead of the store, wait for the store; where that takes long, pause the
        partition, so that the others go on and the group still hears of us. Pausing is dear: what was fetched is fetched again."""
        for track in self._tracks.values():
            if track.paused and track.rows < self._limits.max_rows // 2 and not track.progress.stopped:
                self._pause(track, False)
        crowded = self._crowded()
        if not crowded:
            self._crowded_since = None
        elif self._crowded_since is None or time.monotonic() - self._crowded_since < CROWDED_S:
            self._crowded_since = self._crowded_since or time.monotonic()
            running = [t.future for t in self._tracks.values() if t.future is not None]
            if running:
                wait(running, timeout=TICK_S, return_when=FIRST_COMPLETED)
            else:
                self._clock.sleep(TICK_S)
            return
        for track in crowded:
            self._pause(track, True)
        self._sort(self._next())

    def _next(self) -> list[Message]:
        """What has come. `consume` waits out its time, so where nothing is under way wait for one message instead."""
        if any(track.busy for track in self._tracks.values()):
            return list(self._consumer.consume(CONSUME_ROWS, TICK_S))
        first = self._consumer.poll(IDLE_TICK_S)
        return [] if first is None else [first, *self._consumer.consume(CONSUME_ROWS, 0)]

    def _crowded(self) -> list[Track]:
        """Partitions that have read too far ahead: more than a block, or than their share where all of them together hold too much."""
        limits = self._limits
        size = sum(track.size for track in self._tracks.values())
        share = size / len(self._tracks) if size > 4 * limits.max_bytes else limits.max_bytes
        return [t for t in self._tracks.values() if not t.paused and (t.rows > limits.max_rows or t.size > share)]

    def _pause(self, track: Track, paused: bool) -> None:
        (self._consumer.pause if paused else self._consumer.resume)([TopicPartition(*_key(track))])
        track.paused = paused

    def _sort(self, messages: Sequence[Message]) -> None:
        """Hand messages to their tracks, run by run: what one fetch brings is of one partition."""
        for name, of_topic in groupby(messages, Message.topic):
            for partition, run in groupby(of_topic, Message.partition):
                self._hand((name, partition), list(run))

    def _hand(self, key: Key, run: Sequence[Message]) -> None:
        track = self._tracks.get(key)
        if any(map(Message.error, run)):
            for message in run:
                if (error := message.error()) is None:
                    continue
                if track is not None and error.code() == KafkaError._PARTITION_EOF:
                    track.read_to = max(track.read_to, message.offset() - 1)
                else:
                    self._noticed(error)
            run = [m for m in run if m.error() is None]
        if track is not None and run and not track.progress.stopped:
            times_ms = [stamp[1] for stamp in map(Message.timestamp, run)]
            track.add(Block(list(map(Message.offset, run)), times_ms, [value or b"" for value in map(Message.value, run)]))

    def _noticed(self, error: KafkaError) -> None:
        self._trouble = str(error)
        self._log.warning("Kafka reports", error=str(error))

    # Who owns what

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for name in partitions:
            topic = self._topics[name.topic]
            progress = Progress(topic.name, topic.table, name.partition)
            # librdkafka keeps a partition paused that was paused when it was taken away: so each begins as paused and is resumed.
            self._tracks[name.topic, name.partition] = Track(topic, name.partition, self._tables[name.topic], progress, paused=True)

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._release([t for name in partitions if (t := self._tracks.get((name.topic, name.partition)))])

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for name in partitions:
            self._drop(self._tracks.get((name.topic, name.partition)))

    def _release(self, tracks: Sequence[Track]) -> None:
        """Give partitions back in order: let what is under way end, commit what is done."""
        wait([t.future for t in tracks if t.future is not None], timeout=RELEASE_S)
        for track in tracks:
            if isinstance(track.effect, Insert) and track.future is not None and track.future.done():
                self._look(track)
        finished = [t for t in tracks if isinstance(t.effect, Fetch | Intend) and t.done_to > t.committed_to]
        if finished:
            try:
                self._consumer.commit(offsets=[_position(t, t.done_to) for t in finished], asynchronous=False)
            except KafkaException as error:
                self._noticed(error.args[0])
        for track in tracks:
            self._drop(track)

    def _drop(self, track: Track | None) -> None:
        if track is not None:
            if track.lane is not None:
                track.lane.close()
            del self._tracks[settings().topic(track.topic.name), track.partition]

    def _meet(self) -> None:
        """Begin the lanes of new partitions from what the group has committed."""
        new = {key: track for key, track in self._tracks.items() if track.lane is None and not track.progress.stopped}
        if not new or time.monotonic() < self._commit_again_at:
            return
        try:
            for found in self._consumer.committed([TopicPartition(*key) for key in new], timeout=10):
                self._begin(new[found.topic, found.partition], max(found.offset, 0), found.metadata)
        except KafkaException as error:
            self._noticed(error.args[0])
            self._commit_again_at = time.monotonic() + 1.0

    def _begin(self, track: Track, offset: int, metadata: str | None) -> None:
        limits = Limits(self._limits.max_dead_ratio, self._limits.max_dead_consecutive)
        protocol = self._protocol(track.topic.name, track.partition, limits, recovering=track.topic.name in self._recovering)
        try:
            intent = read_intent(metadata)
        except UnreadableIntent as error:
            self._stop(track, str(error))
            return
        track.committed_to = track.done_to = offset
        track.lane = protocol.run(Committed(offset, intent))
        self._advance(track, None)

    # What lanes want

    def _advance(self, track: Track, result: Any) -> None:
        """Give the lane a result and take up its next effect."""
        if track.lane is None:
            return
        track.progress.uncertain += result is Answer.UNKNOWN
        try:
            track.effect = track.lane.send(result)
            while isinstance(track.effect, Done):
                track.done_to = track.effect.stored.last + 1
                track.progress.current = None
                track.effect = track.lane.send(None)
        except (Stopped, StoredTwice) as reason:
            self._stop(track, str(reason))
            return
        self._submit(track)

    def _stop(self, track: Track, words: str) -> None:
        track.effect = None
        track.progress.stopped = words
        track.progress.failed(f"partition {track.partition} has stopped: {words}", self._clock.now_ms())
        track.arrived.clear()
        track.rows = track.size = 0
        self._pause(track, True)
        self._log.error("partition stopped", topic=track.topic.name, partition=track.partition, reason=words)

    def _look(self, track: Track) -> None:
        """Take up what is finished, tried again, or ready."""
        if track.future is not None:
            if track.future.done():
                future, track.future = track.future, None
                self._take_up(track, future)
        elif isinstance(track.effect, Fetch):
            self._fetch(track, track.effect)
        elif track.effect is not None and time.monotonic() >= track.again_at:
            self._submit(track)

    def _take_up(self, track: Track, future: Future[Any]) -> None:
        try:
            result = future.result()
        except OUTAGES as error:
            track.again_at = time.monotonic() + PAUSES_S[min(track.tries, len(PAUSES_S) - 1)]
            track.tries += 1
            track.progress.failed(str(error), self._clock.now_ms())
            self._log.warning("waiting", topic=track.topic.name, partition=track.partition, tries=track.tries, error=str(error)[:500])
            if isinstance(track.effect, Insert):
                self._advance(track, Answer.UNKNOWN)
            return
        except Exception as error:  # a mistake of ours in one partition is no reason to stop the others
            self._log.exception("unexpected")
            self._stop(track, f"unexpected {type(error).__name__}: {error}; the log has the trace")
            return
        if isinstance(track.effect, Insert) and result is Answer.STORED:
            stored = track.block.at(track.effect.offsets)
            track.progress.loaded(stored.times_ms, self._clock.now_ms())
            track.tries = 0
        if isinstance(track.effect, Stored):
            track.progress.recoveries += 1
        if isinstance(track.effect, Bury):
            track.progress.dead_letters += len(track.effect.letters)
        self._advance(track, result)

    def _fetch(self, track: Track, fetch: Fetch) -> None:
        limits = self._limits
        if fetch.through is not None:
            if track.read_to < fetch.through:
                return
            track.block = track.take(0, 0, fetch.through)
        else:
            if not track.due(time.monotonic(), limits.max_rows, limits.max_bytes, self._linger_ms):
                return
            track.block = track.take(limits.max_rows, limits.max_bytes)
        if track.block.offsets:
            track.progress.current = Range(track.block.offsets[0], track.block.offsets[-1])
        self._advance(track, track.block.offsets)

    def _linger_ms(self) -> float:
        now = time.monotonic()
        active = sum(1 for t in self._tracks.values() if t.rows or now - t.intended_at < ACTIVE_S)
        least = self._limits.linger_ms
        return min(max(least, active * LINGER_PER_ACTIVE_MS), least * MOST_LINGERS)

    def _submit(self, track: Track) -> None:
        """Send the pending effect to the pool, if it is one for the pool and not to be tried later."""
        work = self._work(track)
        if work is not None and time.monotonic() >= track.again_at:
            track.future = self._pool.submit(work)

    def _work(self, track: Track) -> Callable[[], Any] | None:
        table, partition, block = track.table, track.partition, track.block
        match track.effect:
            case Highest():
                return lambda: table.highest(partition)
            case Insert(offsets, token):
                return lambda: Answer.STALE if self._stale(track) else table.insert(partition, block.at(offsets), token)
            case Stored(among):
                return lambda: table.stored(partition, among)
            case Mend(target, offsets, token):
                return lambda: table.mend(partition, target, offsets, token)
            case Screen(offsets):
                return lambda: table.screen(block.at(offsets))
            case Bury(letters):
                return lambda: self._letters.bury(track.topic.name, partition, block, letters)
        return None

    def _stale(self, track: Track) -> bool:
        """Whether so much time has gone by since the group agreed that it may have given the partition to another."""
        return time.monotonic() - track.intended_at > self._stale_s

    def _commit(self) -> None:
        """Commit all intents that are due, and what is done in partitions that have nothing more to do, at once."""
        now = time.monotonic()
        if now < self._commit_again_at:
            return
        intended = [(t, t.effect.stored) for t in self._tracks.values() if isinstance(t.effect, Intend)]
        idle = [t for t in self._tracks.values() if t.resting and now - t.committed_at > IDLE_COMMIT_S]
        positions = [_position(t, stored.first, stored) for t, stored in intended] + [_position(t, t.done_to) for t in idle]
        if not positions:
            return
        try:
            answers = self._consumer.commit(offsets=positions, asynchronous=False)
        except KafkaException as error:
            self._noticed(error.args[0])
            self._commit_again_at = now + PAUSES_S[0]
            return
        self._trouble = ""
        failed = {(a.topic, a.partition): a.error for a in answers if a.error is not None}
        for reason in failed.values():
            self._noticed(reason)
        for track in [t for t, _ in intended] + idle:
            if _key(track) not in failed:
                track.committed_at = time.monotonic()
                track.committed_to = track.done_to
        for track, _ in intended:
            if _key(track) not in failed:
                track.intended_at = time.monotonic()
                self._advance(track, None)
        self._measure_lag()

    def _measure_lag(self) -> None:
        for key, track in self._tracks.items():
            high = self._consumer.get_watermark_offsets(TopicPartition(*key), cached=True)[1]
            unread = track.read_to < high - 1
            track.progress.lag = max(0, high - max(track.done_to, 0)) if unread or track.rows or track.progress.current else 0


def _key(track: Track) -> Key:
    return settings().topic(track.topic.name), track.partition


def _position(track: Track, offset: int, intent: Range | None = None) -> TopicPartition:
    return TopicPartition(*_key(track), offset, intent_text(intent))
