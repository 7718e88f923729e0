"""The players' time: an event loop's, so that a session can be run in real time or, by `run_virtual`, as fast as it computes."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from infra.base.clock import WallClock

T = TypeVar("T")


class LoopClock:
    """Milliseconds since 1970 by the running loop's monotonic clock: never runs backwards. Make it inside the loop."""

    def __init__(self, epoch_ms: int | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._zero_ms = (WallClock().now_ms() if epoch_ms is None else epoch_ms) - self._loop.time() * 1000

    def now_ms(self) -> int:
        """Now, in whole milliseconds that have passed."""
        return int(self._zero_ms + self._loop.time() * 1000 + 1e-6)

    async def until(self, at_ms: float) -> None:
        """Wait until then; returns at once if it is past."""
        await asyncio.sleep(max(0.0, (at_ms - self._zero_ms) / 1000 - self._loop.time()))


class _Leaping(selectors.DefaultSelector):
    """A selector that, where a real one would wait, moves its loop's time instead."""

    time_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everything waits for something that will never happen")
            self.time_s += timeout
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._leaping = _Leaping()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.time_s


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in virtual time: `sleep` takes no time, and nothing inside may wait for the network or for threads."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(main)
