"""What a cache server does beside serving: a thread that carries out its fill plan and an operator's orders, reads again what is held, and
keeps in memory what is asked for most.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge.oca.content import Content
from edge.oca.filler import Filler
from infra.base.clock import Clock
from schemas.assets import AssetId

IDLE_S = 60.0
"""After so long without an order one asset is read whole, in turn, for disks rot in silence; and memory is looked at."""
LOOK_EVERY_S = 0.5
"""How soon another plan is taken up."""


@dataclass(frozen=True)
class Order:
    """An asset to be fetched from `source_url`, not before `start_ms`. `source` is the server's name; an operator's order has no plan."""

    asset: AssetId
    source_url: str
    source: str = ""
    plan_id: str = ""
    start_ms: int = 0


@dataclass(frozen=True)
class Eviction:
    """An asset to let go at `at_ms`."""

    asset: AssetId
    at_ms: int
    why: str


class FillPlan:
    """What is left to be done of a server's newest fill plan. Pure."""

    def __init__(self) -> None:
        self.plan_id = ""
        self._orders: deque[Order] = deque()
        self._evictions: deque[Eviction] = deque()

    def take(self, told: Mapping[str, Any]) -> None:
        """A `delivery.fill_plan` takes the place of what was left; nothing if it is the same one."""
        if told["plan_id"] == self.plan_id:
            return
        self.plan_id = told["plan_id"]
        self._orders = deque(
            Order(AssetId(order["cid"], order["version"]), order["source_url"], order["source"], self.plan_id, order["start_ms"])
            for order in told["fills"]
        )
        self._evictions = deque(
            Eviction(AssetId(gone["cid"], gone["version"]), gone["at_ms"], gone["why"])
            for gone in sorted(told["evictions"], key=lambda gone: gone["at_ms"])
        )

    def due(self, now_ms: int) -> Order | Eviction | None:
        """What is to be done now, once: what goes goes before what comes; None where nothing is."""
        if self._evictions and self._evictions[0].at_ms <= now_ms:
            return self._evictions.popleft()
        if self._orders and self._orders[0].start_ms <= now_ms:
            return self._orders.popleft()
        return None

    def __len__(self) -> int:
        return len(self._orders)


class Fills:
    """The orders of one store. Every method may be called by any thread."""

    def __init__(
        self,
        content: Content,
        filler: Filler,
        clock: Clock,
        on_error: Callable[[Exception], None],
        newest_plan: Callable[[], Mapping[str, Any] | None] = lambda: None,
        on_order: Callable[[Order], None] = lambda order: None,
        blamed: Callable[[], str] = lambda: "",
    ) -> None:
        """`newest_plan` gives the server's `delivery.fill_plan`; `on_order` is called before each fill; `blamed` names a verdict by which
        players find fault with what it serves, after which everything is read again, what is asked for most first.
        """
        self._content, self._filler, self._clock, self._on_error = content, filler, clock, on_error
        self._newest_plan, self._on_order, self._blamed = newest_plan, on_order, blamed
        self._doubted: deque[AssetId] = deque()
        self._doubt = ""
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._plan = FillPlan()
        self._thread = threading.Thread(target=self._work, name="fills", daemon=True)
        self._thread.start()

    def order(self, asset: AssetId, source_url: str) -> int:
        """Have an asset filled after those that were ordered before, and before what a plan wants; returns how many wait."""
        self._orders.put(Order(asset, source_url))
        return self._orders.qsize()

    def pull(self, asset: AssetId, reason: str) -> bool:
        """Stop serving an asset now and remove it; false where it is not held."""
        return self._content.pull(asset, reason)

    @property
    def told(self) -> dict[str, int | str]:
        """For the health report."""
        content = self._content
        return {
            "assets": len(content.held),
            "used_bytes": content.used_bytes,
            "capacity_bytes": content.capacity_bytes,
            "in_memory": len(content.warm),
            "ordered": self._orders.qsize(),
            "planned": len(self._plan),
            "plan_id": self._plan.plan_id,
        }

    def close(self) -> None:
        """End the fill under way, which the next process goes on with when it is ordered again."""
        self._filler.stop()
        self._orders.put(None)
        self._thread.join()

    def _work(self) -> None:
        scrubbed: set[AssetId] = set()
        busy_s = time.monotonic()
        while True:
            try:
                order = self._orders.get(timeout=LOOK_EVERY_S)
                if order is None:
                    return
                self._carry_out(order)
                busy_s = time.monotonic()
            except queue.Empty:
                if (told := self._newest_plan()) is not None:
                    self._plan.take(told)
                self._doubt_all()
                while self._orders.empty() and self._doubted:
                    self._content.scrub(self._doubted.popleft())
                while self._orders.empty() and (due := self._plan.due(self._clock.now_ms())) is not None:
                    self._carry_out(due)
                    busy_s = time.monotonic()
                if time.monotonic() - busy_s >= IDLE_S:
                    self._look_after(scrubbed)
                    busy_s = time.monotonic()

    def _carry_out(self, due: Order | Eviction) -> None:
        try:
            if isinstance(due, Eviction):
                self._content.evict(due.asset, due.why)
            elif due.asset not in self._content.held:
                self._on_order(due)
                self._filler.fill(due.asset, due.source_url)
        except Exception as error:  # one order's failure must not be the end of all that follow
            self._on_error(error)

    def _doubt_all(self) -> None:
        """Have everything read again where players have found fault since it was last asked for."""
        doubt = self._blamed()
        if doubt and doubt != self._doubt:
            self._doubted = deque(self._content.by_demand)
        self._doubt = doubt

    def _look_after(self, scrubbed: set[AssetId]) -> None:
        """Read one more asset whole, the others first; keep in memory what is asked for most."""
        held = self._content.held
        left = sorted(held.keys() - scrubbed)
        if not left:
            scrubbed.clear()
            left = sorted(held)
        for asset in left[:1]:
            scrubbed.add(asset)
            self._content.scrub(asset)
        self._content.warm_up()
