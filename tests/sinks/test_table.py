"""The loader's effects on a real warehouse, and its protocol crashed at every step against it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from infra.base import warehouse
from infra.base.registry import RegistryClient, RegistryUnavailable
from infra.base.settings import settings
from infra.base.warehouse import WarehouseError
from sinks import migrate
from sinks.loader.lane import Answer, Highest, Insert, Mend, Refusal, Screen, Stored
from sinks.loader.ranges import Range
from sinks.loader.table import Block, LandingTable
from tests.sinks.fake_store import Crash, Loader, World
from tests.sinks.reports import NOW_MS, TOPIC, encoder, newer, poison, register, report

MIRROR = """CREATE MATERIALIZED VIEW mirrored TO mirror AS
SELECT topic_partition, topic_offset, seq FROM playback_report WHERE seq % 10 != 9"""


@pytest.fixture
def table(place: str) -> Iterator[LandingTable]:
    """The landing table of reports, and a materialized view that leaves out every tenth."""
    client = warehouse.writer("default")
    migrate.migrate(client, [TOPIC], [])
    client.command(
        "CREATE TABLE mirror (topic_partition Int32, topic_offset Int64, seq Int64) ENGINE = MergeTree ORDER BY seq"
        " SETTINGS non_replicated_deduplication_window = 1000"
    )
    client.command(MIRROR)
    with RegistryClient() as registry:
        landing = LandingTable(TOPIC, registry)
        yield landing
        landing.close()


def block_of(count: int, first: int = 0, step: int = 1) -> Block:
    """Good reports at offsets first, first + step, ..."""
    encode = encoder(register())
    return Block(
        [first + step * n for n in range(count)], [NOW_MS + 7 * n for n in range(count)], [report(encode, n) for n in range(count)]
    )


def rows(columns: str, name: str = "playback_report") -> list[tuple[Any, ...]]:
    """Some columns of all rows by position."""
    client = warehouse.reader()
    return [tuple(row) for row in client.query(f"SELECT {columns} FROM {name} ORDER BY topic_partition, topic_offset").result_rows]


def test_messages_become_rows_with_their_position(table: LandingTable) -> None:
    assert table.insert(2, block_of(1_000, first=50, step=3), "t") is Answer.STORED
    stored = rows("topic_partition, topic_offset, toUnixTimestamp64Milli(topic_time), seq, event_id, toUnixTimestamp64Milli(event_time)")
    assert stored == [(2, 50 + 3 * n, NOW_MS + 7 * n, n, f"collector-1-1-{n}", NOW_MS + n) for n in range(1_000)]
    assert rows("min(ingested_at) > now() - INTERVAL 1 MINUTE, 0 AS topic_partition, 0 AS topic_offset")[0][0]
    assert table.highest(2) == 50 + 3 * 999
    assert table.highest(1) is None


def test_the_same_token_stores_once(table: LandingTable) -> None:
    for _ in range(3):
        table.insert(0, block_of(10), "same")
    assert len(rows("seq")) == 10
    assert len(rows("seq", "mirror")) == 9


def test_what_is_stored_of_a_range_is_found_in_table_and_views(table: LandingTable) -> None:
    table.insert(0, block_of(20), "t")
    assert table.stored(0, Range(5, 8)).offsets == [5, 6, 7, 8]
    assert table.stored(1, Range(0, 100)).offsets == []
    assert table.stored(0, Range(0, 19)).lacking == {"mirror": []}
    warehouse.writer().command("DELETE FROM mirror WHERE seq IN (3, 4)")
    assert sorted(table.stored(0, Range(0, 19)).lacking["mirror"]) == [3, 4]
    table.mend(0, "mirror", [3, 4], "t>mirror")
    assert table.stored(0, Range(0, 19)).lacking == {"mirror": []}


@pytest.mark.parametrize("place_in_block", [0, 3, 9])
def test_each_kind_of_poison_is_refused_whole_and_named_by_screening(table: LandingTable, place_in_block: int) -> None:
    good = block_of(10)
    for name, (bad, reason) in poison(good.messages[0]).items():
        messages = [*good.messages[:place_in_block], bad, *good.messages[place_in_block + 1 :]]
        block = Block(good.offsets, good.times_ms, messages)
        answer = table.insert(0, block, f"poison {name} {place_in_block}")
        assert isinstance(answer, Refusal), name
        assert {o: r.reason for o, r in table.screen(block).items()} == {place_in_block: reason}, name
    assert rows("seq") == []


def test_a_message_that_swallows_the_next_one_is_not_taken_for_it(table: LandingTable) -> None:
    encode = encoder(register())
    good = block_of(6)
    whole = report(encode, 99, custom={"k": "v" * len(good.messages[3])})
    swallowing = whole[: whole.index(b"v" * 10)] + b""
    for at in (0, 2, 4):
        messages = [*good.messages[:at], swallowing, *good.messages[at + 1 :]]
        assert isinstance(table.insert(0, Block(good.offsets, good.times_ms, messages), f"swallow {at}"), Refusal)
    assert rows("seq") == []


def test_a_new_optional_field_becomes_a_column_and_old_events_keep_loading(table: LandingTable) -> None:
    old, new = encoder(register()), encoder(register(schema=newer()), schema=newer())
    table.insert(0, Block([0, 1], [NOW_MS] * 2, [report(old, 0), report(old, 1)]), "before")
    mixed = [report(old, 2), report(new, 3, hdr="pq"), report(old, 4), report(new, 5)]
    assert table.insert(0, Block([2, 3, 4, 5], [NOW_MS] * 4, mixed), "mixed") is Answer.STORED
    assert rows("seq, hdr") == [(0, None), (1, None), (2, None), (3, "pq"), (4, None), (5, None)]
    assert migrate.columns(warehouse.reader(), TOPIC.table)["hdr"] == "LowCardinality(Nullable(String))"


def test_a_field_that_changes_its_type_is_refused_as_a_mismatch(table: LandingTable) -> None:
    fields = [{**f, "type": "string"} if f["name"] == "sn" else f for f in TOPIC.event.schema["fields"]]
    other = {**TOPIC.event.schema, "fields": fields}
    encode = encoder(register(schema=other), schema=other)
    block = Block([0], [NOW_MS], [report(encode, 0, sn="one")])
    assert table.insert(0, block, "t") == Refusal("schema_mismatch", table.screen(block)[0].detail)
    assert "sn is Int64 and the contract says String" in table.screen(block)[0].detail


def test_a_registry_that_does_not_answer_is_an_outage_not_a_refusal(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate.migrate(warehouse.writer("default"), [TOPIC], [])
    block = block_of(1)
    with RegistryClient("http://127.0.0.1:1", timeout_s=1) as nobody:
        landing = LandingTable(TOPIC, nobody)
        with pytest.raises(RegistryUnavailable):
            landing.insert(0, block, "t")
        with pytest.raises(RegistryUnavailable):
            landing.screen(block)
        landing.close()


def test_a_missing_table_is_an_outage_with_the_command_that_mends_it(place: str) -> None:
    warehouse.writer("default").command(f"CREATE DATABASE {settings().database}")
    with RegistryClient() as registry:
        landing = LandingTable(TOPIC, registry)
        with pytest.raises(WarehouseError, match=r"python -m sinks\.migrate"):
            landing.insert(0, block_of(1), "t")
        landing.close()


# The protocol against the real store


@dataclass
class RealStore(Loader):
    """A lane whose group and topic are in memory and whose store is the warehouse."""

    table: LandingTable | None = None
    block: Block | None = None

    def _perform(self, effect: Any, mishap: str) -> Any:
        assert self.table is not None
        assert self.block is not None
        match effect:
            case Highest():
                return self.table.highest(0)
            case Insert(offsets, token):
                answer = self.table.insert(0, self.block.at(offsets), token)
                return Answer.UNKNOWN if mishap == "unclear" else answer
            case Stored(among):
                return self.table.stored(0, among)
            case Mend(target, offsets, token):
                return self.table.mend(0, target, offsets, token)
            case Screen(offsets):
                return self.table.screen(self.block.at(offsets))
            case _:
                return super()._perform(effect, mishap)


@pytest.mark.parametrize("mishap", ["", "unclear"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_each_step_against_the_real_store(table: LandingTable, mishap: str, after: bool) -> None:
    good = block_of(30)
    messages = list(good.messages)
    messages[4], messages[5], messages[20] = messages[4][:-2], b"\x01", messages[20] + b"\x00"
    block = Block(good.offsets, good.times_ms, messages)
    client = warehouse.writer()
    for step in range(40):
        for name in ("playback_report", "mirror"):
            client.command(f"TRUNCATE TABLE {name}")
        world = World(range(30), unreadable=frozenset({4, 5, 20}))
        crashed = False
        with suppress(Crash):
            crashed = True
            RealStore(world, 8, step, after, mishap, table=table, block=block).start().run()
            crashed = False
        if crashed:
            RealStore(world, 8, table=table, block=block).start().run()
        wanted = [n for n in range(30) if n not in world.unreadable]
        assert rows("seq") == [(n,) for n in wanted]
        assert rows("seq", "mirror") == [(n,) for n in wanted if n % 10 != 9]
        assert set(world.letters) == world.unreadable
        if not crashed:
            break
    else:
        pytest.fail("the lane never ended by itself")


@pytest.mark.parametrize("lost", [range(0, 30), range(3, 11), [7], [29]])
def test_rows_that_the_store_logged_and_lost_are_stored_again(table: LandingTable, lost: Any) -> None:
    """The trap of deduplication: the token is remembered and the part is gone."""
    block = block_of(30)
    world = World(range(30))
    loader = RealStore(world, 30, dies_at=3, dies_after=True, table=table, block=block).start()
    with pytest.raises(Crash):
        loader.run()
    client = warehouse.writer()
    for name in ("playback_report", "mirror"):
        client.command(f"DELETE FROM {name} WHERE topic_offset IN ({', '.join(map(str, lost))})")
    RealStore(world, 30, table=table, block=block).start().run()
    assert rows("seq") == [(n,) for n in range(30)]
    assert rows("seq", "mirror") == [(n,) for n in range(30) if n % 10 != 9]
