"""The audit as the page shows it: run on a thread, at most every few seconds, the newest result kept."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from infra.base.clock import WorkClock
from sinks import audit

REST_S = 10.0
REST_FOR_WORK = 10
"""Between audits there is a pause: so long at least, and so many times what the last one worked, its waits left out."""
SETTLE_S = 10.0
"""How long what was acknowledged when the audit began may take to be stored before it counts as lost."""


class Auditor:
    """Keeps the newest audit. An audit reads every row's position, so nobody asks for one by the second."""

    def __init__(self) -> None:
        self._newest: dict[str, Any] = {"error": "the first audit is under way"}
        self._running: asyncio.Task[dict[str, Any]] | None = None
        self._due_s = 0.0

    async def newest(self) -> dict[str, Any]:
        """The newest result, `{"topics": [{topic, acknowledged, stored, lost, duplicated}], "problems": [words]}` or `{"error": words}`;
        begins another audit when it is time for one.
        """
        if self._running is None and time.monotonic() >= self._due_s:
            self._running = asyncio.create_task(self._run(SETTLE_S))
        return self._newest

    async def fresh(self, settle_s: float = SETTLE_S) -> dict[str, Any]:
        """An audit that begins now, or after the one under way. Raises nothing; `settle_s` is what `SETTLE_S` says."""
        while self._running is not None:
            await asyncio.shield(self._running)
        self._running = asyncio.create_task(self._run(settle_s))
        return await asyncio.shield(self._running)

    async def _run(self, settle_s: float) -> dict[str, Any]:
        clock = WorkClock()
        try:
            found = await asyncio.to_thread(partial(audit.run, settle_s=settle_s, content="none", clock=clock))
            self._newest = {
                "topics": [
                    {name: getattr(one, name) for name in ("topic", "acknowledged", "stored", "lost", "duplicated")} for one in found
                ],
                "problems": [f"{one.topic}: {words}" for one in found for words in one.problems],
            }
        except audit.CannotAudit as error:
            self._newest = {"error": str(error)}
        finally:
            self._due_s = time.monotonic() + max(REST_S, REST_FOR_WORK * clock.worked_ms / 1000)
            self._running = None
        return self._newest
