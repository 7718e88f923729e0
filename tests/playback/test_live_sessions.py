"""Sessions playing now: the rules of the table, over a plain dict and a clock that moves when told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from infra.base.clock import FakeClock
from streams.playback.live_sessions import SHOWN, SILENT_MS, Live, State, later, state_of

START_MS = 1_700_000_000_000


def state(sid: str, sta: str, at_ms: int, partition: int = 0) -> State:
    """A state as the agent reads it."""
    event: dict[str, Any] = {**dict.fromkeys(SHOWN), "sid": sid, "sta": sta, "event_time": datetime.fromtimestamp(at_ms / 1000, UTC)}
    return state_of(event, partition)


def live() -> tuple[Live, FakeClock]:
    """An empty table at START_MS."""
    clock = FakeClock(START_MS)
    return Live({}, clock), clock


def test_the_later_event_time_wins_and_a_repeat_changes_nothing() -> None:
    known = state("a", "p", START_MS)
    assert later(known, state("a", "r", START_MS + 1)) is not None
    assert later(known, state("a", "r", START_MS - 1)) is None
    assert later(known, known) is None


def test_of_one_instant_the_end_stands() -> None:
    playing, ended = state("a", "p", START_MS), state("a", "e", START_MS)
    assert later(playing, ended) == ended
    assert later(ended, playing) is None


def test_an_older_report_does_not_revive_a_closed_session() -> None:
    table, _ = live()
    table.take(state("a", "e", START_MS))
    table.take(state("a", "p", START_MS - 5_000))
    assert table.one("a") is None
    assert list(table.playing()) == []


def test_newest_first_and_the_silent_are_left_out() -> None:
    table, clock = live()
    table.take(state("a", "p", START_MS))
    clock.advance(60)
    table.take(state("b", "r", START_MS + 60_000))
    assert [s["sid"] for s in table.playing()] == ["b", "a"]
    clock.advance(31)
    assert [s["sid"] for s in table.playing()] == ["b"]


def test_room_is_made_within_the_partition_of_the_message() -> None:
    table, clock = live()
    table.take(state("a", "p", START_MS, partition=0))
    table.take(state("b", "p", START_MS, partition=1))
    clock.advance(SILENT_MS / 1000 + 1)
    table.take(state("c", "p", clock.now_ms(), partition=0))
    assert set(table.table) == {"b", "c"}


async def test_a_rebuilt_table_forgets_as_before() -> None:
    table, clock = live()
    table.table["a"] = state("a", "p", START_MS)
    await table.rebuilt()
    clock.advance(SILENT_MS / 1000 + 1)
    table.take(state("b", "p", clock.now_ms()))
    assert set(table.table) == {"b"}
