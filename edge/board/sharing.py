"""Questions to the warehouse that take a while: asked on threads, one at a time, kept a few seconds: viewers share an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from clickhouse_connect.driver.exceptions import ClickHouseError

from edge.board.panels import in_words
from edge.read_outs import Queries

KEPT_S = 3.0
"""So old an answer may be, or as old as it took to get."""
ANSWERS_KEPT = 64


class Unanswered(Exception):
    """The warehouse cannot answer; the message says why and what to do."""


class Shared:
    """`reader` makes a read-only warehouse client; it is called when the first question is asked."""

    def __init__(self, reader: Callable[[], Queries]) -> None:
        self._reader = reader
        self._client: Queries | None = None
        self._turn = asyncio.Lock()
        self._kept: dict[str, tuple[float, Any]] = {}

    async def answer(self, name: str, ask: Callable[[Queries], Any]) -> Any:
        """What `ask` returns; `name` is the question's. Raises Unanswered, and what `ask` raises."""
        async with self._turn:
            until, found = self._kept.get(name, (0.0, None))
            began = time.monotonic()
            if began < until:
                return found
            try:
                found = await asyncio.to_thread(self._ask, ask)
            except ClickHouseError as error:
                self._client = None
                raise Unanswered(in_words(error)) from None
            while len(self._kept) >= ANSWERS_KEPT:
                self._kept.pop(next(iter(self._kept)))
            took_s = time.monotonic() - began
            self._kept[name] = (began + took_s + max(KEPT_S, took_s), found)
            return found

    def _ask(self, ask: Callable[[Queries], Any]) -> Any:
        if self._client is None:
            self._client = self._reader()
        return ask(self._client)
