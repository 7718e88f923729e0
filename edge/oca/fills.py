"""What a cache server does beside serving: a thread that fills what was ordered, one after the other, reads again what is held, and keeps
in memory what is asked for most.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from edge.oca.content import AssetId, Content
from edge.oca.filler import Filler

IDLE_S = 60.0
"""After so long without an order one asset is read whole, in turn, for disks rot in silence; and memory is looked at."""


class Fills:
    """The orders of one store. Every method may be called by any thread."""

    def __init__(self, content: Content, filler: Filler, on_error: Callable[[Exception], None]) -> None:
        self._content, self._filler, self._on_error = content, filler, on_error
        self._orders: queue.SimpleQueue[tuple[AssetId, str] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="fills", daemon=True)
        self._thread.start()

    def order(self, asset: AssetId, source_url: str) -> int:
        """Have an asset filled after those that were ordered before; returns how many wait."""
        self._orders.put((asset, source_url))
        return self._orders.qsize()

    def pull(self, asset: AssetId, reason: str) -> bool:
        """Stop serving an asset now and remove it; false where it is not held."""
        return self._content.pull(asset, reason)

    @property
    def told(self) -> dict[str, int]:
        """For the health report."""
        content = self._content
        return {
            "assets": len(content.held),
            "used_bytes": content.used_bytes,
            "capacity_bytes": content.capacity_bytes,
            "in_memory": len(content.warm),
            "ordered": self._orders.qsize(),
        }

    def close(self) -> None:
        """End the fill under way, which the next process goes on with when it is ordered again."""
        self._filler.stop()
        self._orders.put(None)
        self._thread.join()

    def _work(self) -> None:
        scrubbed: set[AssetId] = set()
        while True:
            try:
                order = self._orders.get(timeout=IDLE_S)
            except queue.Empty:
                held = self._content.held
                left = sorted(held.keys() - scrubbed) or sorted(held)
                scrubbed = scrubbed & held.keys() if len(left) < len(held) else set()
                for asset in left[:1]:
                    scrubbed.add(asset)
                    self._content.scrub(asset)
                self._content.warm_up()
                continue
            if order is None:
                return
            try:
                self._filler.fill(*order)
            except Exception as error:  # one order's failure must not be the end of all that follow
                self._on_error(error)
