"""Time as an argument: everything that reads the time takes a `Clock`, so that tests and replays bring their own."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Milliseconds since 1970 UTC, and a way to wait."""

    def now_ms(self) -> int: ...

    def sleep(self, seconds: float) -> None: ...


class WallClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


class WorkClock:
    """The machine's clock, which also tells how long somebody worked: the time since it was made without what was slept on it."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or WallClock()
        self._began_ms = self._clock.now_ms()
        self._slept_ms = 0

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def sleep(self, seconds: float) -> None:
        began_ms = self._clock.now_ms()
        self._clock.sleep(seconds)
        self._slept_ms += self._clock.now_ms() - began_ms

    @property
    def worked_ms(self) -> int:
        """Milliseconds of work since this clock was made."""
        return self._clock.now_ms() - self._began_ms - self._slept_ms


class FakeClock:
    """A clock that moves only when told, or when somebody sleeps on it."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move `seconds` forward."""
        self._now_ms += round(max(0.0, seconds) * 1000)
