"""The loader's protocol, crashed at every step it takes, in every way a store can fail it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.loader.lane import Limits, Refusal, Stopped
from sinks.loader.ranges import Range, UnreadableIntent, intent_text, read_intent, token
from sinks.loader.recovery import Found, StoredTwice, judge
from tests.sinks.fake_store import Crash, Fenced, Loader, World

MISHAPS = ("", "forgets", "partly")
WORLDS = {
    "plain": World(messages=range(10)),
    "gaps of transactions": World(messages=[0, 1, 4, 5, 6, 9, 12, 13]),
    "parts of two months": World(messages=range(10), part_of=2),
    "unreadable": World(messages=range(10), unreadable=frozenset({1, 4})),
    "refused by the store alone": World(messages=range(10), unstorable=frozenset({0, 7, 8})),
    "both, in parts": World(messages=range(12), part_of=2, unreadable=frozenset({3}), unstorable=frozenset({4, 11})),
}


def fresh(world: World) -> World:
    """The same world before anything happened."""
    return replace(world, rows=[], target=[], log=set(), letters={})


def assert_exact(world: World) -> None:
    """Every message is stored once, in table and target, or buried."""
    dead = world.unreadable | world.unstorable
    wanted = [m for m in world.messages if m not in dead]
    assert sorted(world.rows) == wanted
    assert sorted(world.target) == wanted
    assert set(world.letters) == dead


@pytest.mark.parametrize("name", WORLDS)
def test_everything_is_stored_once_without_faults(name: str) -> None:
    world = fresh(WORLDS[name])
    Loader(world).start().run()
    assert_exact(world)


def test_without_faults_nothing_is_counted() -> None:
    loader = Loader(fresh(WORLDS["plain"])).start()
    loader.run()
    assert loader.trace == ["Highest", "Fetch", *["Intend", "Insert", "Done", "Fetch"] * 4]


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_each_step(name: str, mishap: str, after: bool) -> None:
    crashes = 0
    for step in range(200):
        world = fresh(WORLDS[name])
        try:
            Loader(world, dies_at=step, dies_after=after, mishap=mishap).start().run()
        except Crash:
            crashes += 1
            Loader(world).start().run()
        else:
            break
        assert_exact(world)
    assert crashes > 10


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("mishap", MISHAPS)
def test_killed_at_each_step_and_again_at_each_step_of_the_recovery(name: str, mishap: str) -> None:
    for first in range(0, 30, 2):
        for second in range(30):
            world = fresh(WORLDS[name])
            for dies_at in (first, second, None):
                try:
                    Loader(world, dies_at=dies_at, dies_after=True, mishap=mishap if dies_at is not None else "").start().run()
                except Crash:
                    continue
                break
            assert_exact(world)


@settings(max_examples=300, deadline=None)
@given(
    offsets=st.sets(st.integers(0, 60), min_size=1, max_size=30),
    bad=st.sets(st.integers(0, 60), max_size=6),
    part_of=st.sampled_from([1_000, 7, 2]),
    block_rows=st.integers(1, 8),
    deaths=st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.sampled_from(MISHAPS)), max_size=6),
)
def test_killed_any_number_of_times(
    offsets: set[int], bad: set[int], part_of: int, block_rows: int, deaths: list[tuple[int, bool, str]]
) -> None:
    dead = frozenset(bad & offsets)
    world = World(sorted(offsets), unreadable=frozenset(o for o in dead if o % 2), part_of=part_of)
    world.unstorable = dead - world.unreadable
    for dies_at, after, mishap in deaths:
        with suppress(Crash):
            Loader(world, block_rows, dies_at, after, mishap).start().run()
    Loader(world, block_rows).start().run()
    assert_exact(world)


@pytest.mark.parametrize("part_of", [1_000, 2])
def test_a_zombie_that_wakes_up_anywhere_stores_nothing(part_of: int) -> None:
    for sleeps_at in range(1, 14):
        for wakes_after in range(1, 20):
            world = World(messages=range(9), part_of=part_of)
            zombie = Loader(world).start()
            for _ in range(sleeps_at):
                zombie.step()
            successor = Loader(world).start()
            for _ in range(wakes_after):
                if not successor.step():
                    break
            with suppress(Fenced):
                zombie.run()
            Loader(world).start().run()
            assert_exact(world)


def test_a_zombies_insert_that_was_on_its_way_is_dropped_by_its_token() -> None:
    world = World(messages=range(3))
    zombie = Loader(world).start()
    while zombie.trace[-1:] != ["Intend"]:
        zombie.step()
    Loader(world).start().run()
    world.insert([0, 1, 2], token("t", 0, Range(0, 2)))
    assert_exact(world)


def test_an_unclear_answer_is_counted_not_believed() -> None:
    world = World(messages=range(3))
    loader = Loader(world, dies_at=3, mishap="unclear").start()
    with pytest.raises(Crash):
        loader.run()
    loader.dies_at = None
    loader.run()
    assert loader.trace[-4:] == ["Insert", "Stored", "Done", "Fetch"]
    assert_exact(world)


def test_rows_above_what_the_group_knows_stop_the_partition_unless_it_is_a_recovery() -> None:
    world = World(messages=range(9))
    Loader(world).start().run()
    world.offset = 0
    with pytest.raises(Stopped, match=r"offset 0 comes next, but rows up to 8 are stored.*--recover t"):
        Loader(world).start().run()
    world.rows.remove(4)
    Loader(world, recovering=True).start().run()
    assert sorted(world.rows) == list(range(9))


def test_rows_stored_twice_stop_the_partition() -> None:
    with pytest.raises(StoredTwice, match="1 offsets are stored more than once, first 2"):
        judge([1, 2], Found([1, 2, 2]))


def test_a_range_that_the_topic_no_longer_holds_is_left_behind() -> None:
    world = World(messages=[20, 21])
    world.offset, world.metadata = 3, intent_text(Range(3, 9))
    Loader(world).start().run()
    assert world.rows == [20, 21]


def test_too_many_dead_letters_stop_the_partition_and_bury_nothing() -> None:
    world = World(messages=range(200), unreadable=frozenset(range(0, 200, 2)))
    loader = Loader(world, block_rows=200, limits=Limits(max_ratio=0.4, max_consecutive=1_000)).start()
    with pytest.raises(Stopped, match="100 of 200 messages cannot be stored, first offset 0, decode: cut off"):
        loader.run()
    assert world.letters == {}
    assert world.offset == 0


@pytest.mark.parametrize("kind", ["unreadable", "unstorable"])
def test_too_many_dead_letters_in_a_row_stop_the_partition(kind: str) -> None:
    world = replace(World(messages=range(90)), **{kind: frozenset(range(20, 90))})
    with pytest.raises(Stopped, match="more than 50"):
        Loader(world, block_rows=10, limits=Limits(max_ratio=1.0, max_consecutive=50)).start().run()
    assert sorted(world.rows) == list(range(20))


def test_a_few_dead_letters_do_not_count_as_a_share() -> None:
    Limits(max_ratio=0.5, max_consecutive=10).note([7], {7: Refusal("decode", "")})


def test_an_intent_is_read_as_it_was_written() -> None:
    assert read_intent(intent_text(Range(5, 9))) == Range(5, 9)
    assert read_intent(intent_text(None)) is None
    with pytest.raises(UnreadableIntent, match="written by something else"):
        read_intent("offsets of another tool")


def test_a_token_names_topic_partition_range_and_attempt() -> None:
    assert token("playback.report", 3, Range(10, 19)) == "playback.report:3:10-19"
    assert token("playback.report", 3, Range(10, 19), attempt=2) == "playback.report:3:10-19#2"
