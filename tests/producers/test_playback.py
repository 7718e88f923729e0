"""The buffer clock against a second one that knows nothing but one millisecond at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from producers.players.playback import CLOSED, Change, Playback

LENGTH_MS = 60
STARTUP_MS, RESUME_MS = 8, 5


@dataclass
class Ticking:
    """The same rules by brute force: every millisecond asks whether there is a frame to show."""

    now: int = 0
    state: str = "s"
    playhead: int = 0
    media: dict[int, int] = field(default_factory=dict)  # position → kbit/s
    changes: list[Change] = field(default_factory=list)
    spent: dict[str, int] = field(default_factory=lambda: dict.fromkeys("sprka", 0))

    def turn(self, state: str, at: int) -> None:
        self.state = state
        self.changes.append(Change(at, state, self.shown()))

    def shown(self) -> int:
        behind = [p for p in self.media if p <= self.playhead]
        return self.media[max(behind)] if behind else 0

    def ahead(self) -> int:
        return sum(1 for p in self.media if p >= self.playhead)

    def tick(self) -> None:
        """One millisecond. In state p it needs the frame at the playhead; without one this millisecond was a rebuffering already."""
        if self.state == "p" and self.playhead not in self.media:
            self.turn("r", self.now)
        before = self.shown()
        if self.state in self.spent:
            self.spent[self.state] += 1
        self.now += 1
        if self.state == "p":
            self.playhead += 1
            if self.playhead == LENGTH_MS:
                self.turn("e", self.now)
            elif self.playhead in self.media and self.shown() != before:
                self.turn("p", self.now)

    def until(self, at: int) -> None:
        while self.now < at:
            self.tick()

    def go_on(self) -> None:
        enough = STARTUP_MS if self.state == "s" else RESUME_MS
        if self.state in "srk" and (self.ahead() >= enough or self.playhead + self.ahead() == LENGTH_MS):
            self.turn("p", self.now)


OPERATIONS = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 12), st.sampled_from([300, 1000])),
    st.tuples(st.just("pause")),
    st.tuples(st.just("resume")),
    st.tuples(st.just("seek"), st.integers(0, LENGTH_MS - 1)),
    st.tuples(st.just("wait")),
    st.tuples(st.sampled_from(["quit", "fail"])),
)


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 25), OPERATIONS), max_size=30))
def test_it_says_exactly_what_ticking_says(steps: list[tuple[int, tuple[object, ...]]]) -> None:
    playback, ticking = Playback(0, LENGTH_MS, STARTUP_MS, RESUME_MS), Ticking()
    changes: list[Change] = []
    now = 0
    for pause, (kind, *values) in steps:
        now += pause
        ticking.until(now)
        if ticking.state in CLOSED:
            break
        if kind == "append":
            length, kbps = int(str(values[0])), int(str(values[1]))
            start = playback.buffered_ms if now == 0 else None
            changes += playback.advance(now)
            start = playback.buffered_ms
            end = min(start + length, LENGTH_MS)
            changes += playback.append(now, start, end, kbps)
            before, dry = ticking.shown(), ticking.playhead not in ticking.media
            ticking.media |= dict.fromkeys(range(start, end), kbps)
            if ticking.state == "p" and dry and ticking.shown() != before:
                ticking.turn("p", now)
            ticking.go_on()
        elif kind == "pause":
            changes += playback.pause(now)
            if ticking.state == "p":
                ticking.turn("a", now)
        elif kind == "resume":
            changes += playback.resume(now)
            if ticking.state == "a":
                ticking.turn("p", now)
        elif kind == "seek":
            to = int(str(values[0]))
            changes += playback.seek(now, to)
            if ticking.state in "pr":
                ticking.turn("k", now)
                if to not in ticking.media or to < ticking.playhead:
                    ticking.media.clear()
                ticking.playhead = to
                ticking.changes[-1] = Change(now, "k", ticking.changes[-1].kbps)
                ticking.go_on()
        elif kind == "wait":
            changes += playback.advance(now)
        else:
            changes += playback.quit(now) if kind == "quit" else playback.fail(now)
            ticking.turn("q" if kind == "quit" else "f", now)
            break
    changes += playback.advance(now)
    assert [(c.at_ms, c.state) for c in changes] == [(c.at_ms, c.state) for c in ticking.changes]
    assert [c.kbps for c in changes if c.state == "p"] == [c.kbps for c in ticking.changes if c.state == "p"]
    assert playback.spent_ms == ticking.spent
    assert playback.state == ticking.state
    assert playback.rebuffer_count == sum(c.state == "r" for c in ticking.changes)


def test_media_that_arrives_just_in_time_interrupts_nothing() -> None:
    playback = Playback(0, 30_000, 2_000, 2_000)
    assert playback.append(500, 0, 2_000, 300) == [Change(500, "p", 300)]
    assert playback.due_ms() == 2_501
    assert playback.append(2_500, 2_000, 4_000, 300) == []
    assert playback.advance(4_600) == [Change(4_500, "r", 300)]
    assert playback.append(5_000, 4_000, 6_000, 700) == [Change(5_000, "p", 700)]
    assert (playback.rebuffer_count, playback.spent_ms["r"]) == (1, 500)


def test_a_bitrate_that_arrives_just_in_time_is_told() -> None:
    playback = Playback(0, 30_000, 2_000, 2_000)
    playback.append(500, 0, 2_000, 300)
    assert playback.append(2_500, 2_000, 4_000, 700) == [Change(2_500, "p", 700)]
    assert playback.advance(4_600) == [Change(4_500, "r", 700)]


def test_a_segment_that_does_not_continue_the_buffer_is_thrown_away() -> None:
    playback = Playback(0, 30_000)
    playback.append(100, 0, 2_000, 300)
    playback.seek(500, 20_500)
    assert playback.append(600, 2_000, 4_000, 300) == []
    assert playback.buffer_ms == 0
    assert [c.state for c in playback.append(900, 20_000, 22_000, 300) + playback.append(950, 22_000, 24_000, 300)] == ["p"]


def test_the_end_of_the_title_ends_a_session_to_the_millisecond() -> None:
    playback = Playback(1_000, 4_000)
    playback.append(1_200, 0, 2_000, 300)
    playback.append(1_300, 2_000, 4_000, 300)
    assert playback.advance(99_999) == [Change(5_200, "e", 300)]
    assert playback.spent_ms == {"s": 200, "p": 4_000, "r": 0, "k": 0, "a": 0}
    assert playback.quit(100_000) == []
