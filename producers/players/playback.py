"""The buffer clock: what is on screen at each millisecond, given what was fetched and what the member did. Pure.

Media is appended to a buffer that drains while it plays. Nothing here reads a clock or waits: the caller says what time it is and is
told what changed and exactly when, even if it asks late. Play states are CMCD's: s starting, p playing, r rebuffering, k seeking,
a paused, and the closed ones e ended, q quit, f fatal error.
"""

from __future__ import annotations

from dataclasses import dataclass

CLOSED = frozenset("eqf")
FILLING = frozenset("srk")
"""States that wait for media."""


@dataclass(frozen=True)
class Change:
    """Something that a member would notice: from `at_ms` on the state is `state` and the bitrate on screen `kbps` (0: none yet)."""

    at_ms: int
    state: str
    kbps: int


class Playback:
    """One session. Times are milliseconds of the caller's clock, which never runs backwards; positions are milliseconds of the title.

    It starts once `startup_ms` of media are there, and goes on after a rebuffering or a seek once `resume_ms` are — or whatever is left of
    the title.
    """

    def __init__(self, at_ms: int, length_ms: int, startup_ms: int = 2_000, resume_ms: int = 2_000) -> None:
        self.state = "s"
        self.pressed_ms = at_ms
        self.length_ms = length_ms
        self.playhead_ms = 0
        self.buffered_ms = 0
        """Position up to which there is media, without a gap from the playhead on."""
        self.first_frame_ms: int | None = None
        """When the first frame was shown."""
        self.rebuffer_count = 0
        self.spent_ms = dict.fromkeys("sprka", 0)
        """Time in each state so far."""
        self._startup_ms = startup_ms
        self._resume_ms = resume_ms
        self._now_ms = at_ms
        self._pieces: list[tuple[int, int]] = []  # (from which position, kbit/s), ascending, without repeats

    @property
    def buffer_ms(self) -> int:
        """Media ahead of the playhead."""
        return self.buffered_ms - self.playhead_ms

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self.state in CLOSED

    @property
    def kbps(self) -> int:
        """Bitrate at the playhead; 0 where there is no media."""
        return next((kbps for position, kbps in reversed(self._pieces) if position <= self.playhead_ms), 0)

    def due_ms(self) -> int | None:
        """When the next change comes if nothing is appended and nobody does anything; None if it does not come by itself.

        A rebuffering is due one millisecond after the last frame: media that arrives just in time interrupts nothing.
        """
        if self.state != "p":
            return None
        turns = [position for position, _ in self._pieces if position > self.playhead_ms]
        ahead = min([*turns, self.buffered_ms]) - self.playhead_ms
        dry = not turns and self.buffered_ms < self.length_ms
        return self._now_ms + ahead + dry

    def advance(self, now_ms: int) -> list[Change]:
        """Let time pass until `now_ms`."""
        changes: list[Change] = []
        while (due := self.due_ms()) is not None and due <= now_ms:
            if self.buffered_ms - self.playhead_ms < due - self._now_ms:
                self._pass(due - 1)
                self.rebuffer_count += 1
                changes.append(self._turn("r"))
            else:
                self._pass(due)
                changes.append(self._turn("e" if self.playhead_ms == self.length_ms else "p"))
        self._pass(now_ms)
        return changes

    def append(self, now_ms: int, start_ms: int, end_ms: int, kbps: int) -> list[Change]:
        """A segment has arrived. One that does not continue the buffer, as after a seek, is thrown away."""
        changes = self.advance(now_ms)
        if self.closed or not start_ms <= self.buffered_ms < end_ms:
            return changes
        if not self._pieces or self._pieces[-1][1] != kbps:
            self._pieces.append((self.buffered_ms, kbps))
            if self.state == "p" and self.buffered_ms == self.playhead_ms:  # just in time: it is on the screen at once
                changes.append(self._turn("p"))
        self.buffered_ms = end_ms
        return changes + self._go_on()

    def pause(self, now_ms: int) -> list[Change]:
        """The member pauses; ignored unless playing."""
        changes = self.advance(now_ms)
        return [*changes, self._turn("a")] if self.state == "p" else changes

    def resume(self, now_ms: int) -> list[Change]:
        """The member goes on; ignored unless paused."""
        changes = self.advance(now_ms)
        return [*changes, self._turn("p")] if self.state == "a" else changes

    def seek(self, now_ms: int, to_ms: int) -> list[Change]:
        """The member jumps to a position; ignored unless playing or rebuffering. Media outside the buffer has to be fetched first."""
        changes = self.advance(now_ms)
        if self.state not in "pr" or not 0 <= to_ms < self.length_ms:
            return changes
        changes.append(self._turn("k"))
        if not self.playhead_ms <= to_ms < self.buffered_ms:
            self._pieces.clear()
            self.buffered_ms = to_ms
        self.playhead_ms = to_ms
        return changes + self._go_on()

    def quit(self, now_ms: int) -> list[Change]:
        """The member leaves."""
        return self._close(now_ms, "q")

    def fail(self, now_ms: int) -> list[Change]:
        """The player gives up."""
        return self._close(now_ms, "f")

    def _close(self, now_ms: int, state: str) -> list[Change]:
        changes = self.advance(now_ms)
        return changes if self.closed else [*changes, self._turn(state)]

    def _pass(self, now_ms: int) -> None:
        if not self.closed:
            self.spent_ms[self.state] += now_ms - self._now_ms
            if self.state == "p":
                self.playhead_ms += now_ms - self._now_ms
        self._now_ms = now_ms

    def _go_on(self) -> list[Change]:
        """Play if there is enough to do so."""
        enough = self._startup_ms if self.state == "s" else self._resume_ms
        if self.state not in FILLING or not (self.buffer_ms >= enough or self.buffered_ms == self.length_ms):
            return []
        if self.first_frame_ms is None:
            self.first_frame_ms = self._now_ms
        return [self._turn("p")]

    def _turn(self, state: str) -> Change:
        self.state = state
        return Change(self._now_ms, state, self.kbps)
